"""What a study declares before its seeds are run: readings, contrasts, claims, scenario, placebos.

Everything here is data that a study's file writes down. Claims whose ruling differs in kind
(existential, conditional, factorial) become further values of `Claim.kind`, each with its own
ruling in `verdict.py`.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from fishjax.fields import UsageError

ACCURACY_DELTA = 0.02
"""Margin of accuracies and of shares (of units, of pairs)."""
AUC_DELTA = 0.03
FACTOR_DELTA = math.log2(1.25)
"""Margin of metrics that are log2 of a time or a norm: a factor of 1.25."""

Arms = str | tuple[str, ...]
Kind = Literal["directional", "no_effect"]


@dataclass(frozen=True)
class Reading:
    """One number per run. A dimension the metric has and the reading does not fix is averaged.

    epoch: None is the last evaluation. since: the value at that epoch is subtracted (a gain).
    """

    metric: str
    epoch: float | None = None
    since: float | None = None
    layer: str | None = None
    share: float | None = None
    species: str | None = None

    def __post_init__(self) -> None:
        if self.since is not None and self.epoch is not None and self.since >= self.epoch:
            raise UsageError(f"{self.metric}: since={self.since} is not before epoch={self.epoch}")

    @property
    def label(self) -> str:
        """The reading in words, for tables."""
        words = [self.metric]
        words += [
            f"{word} {value:g}" if isinstance(value, float | int) else f"{word} {value}"
            for word, value in (
                ("at epoch", self.epoch),
                ("gain since epoch", self.since),
                ("layer", self.layer),
                ("share", self.share),
                ("species", self.species),
            )
            if value is not None
        ]
        return ", ".join(words)


@dataclass(frozen=True)
class Contrast:
    """A reading of `arm` minus the same reading of `control`, seed by seed.

    Several arms are averaged within a seed. A control that is a number, in the reading's own
    unit, makes the contrast one-sample. direction: +1 where the claim says that the arm's reading
    is the higher one (of a no-effect claim: where higher is a benefit), else -1. delta: the
    smallest difference that matters, in the reading's unit, declared and never taken from data.
    """

    reading: Reading
    arm: Arms
    control: Arms | float
    direction: int
    delta: float

    def __post_init__(self) -> None:
        if self.direction not in (1, -1):
            raise UsageError(f"{self.reading.metric}: direction is 1 or -1, not {self.direction}")
        if not 0 < self.delta < math.inf:
            raise UsageError(f"{self.reading.metric}: delta is above 0, not {self.delta}")
        if not self.arm or self.control == () or self.arm == self.control:
            raise UsageError(f"{self.reading.metric}: {self.arm!r} against {self.control!r}")


@dataclass(frozen=True)
class Claim:
    """One sentence to be judged. A claim of several parts is several `Claim`s of one id.

    by_construction: fitting the scenario already fixed the contrast, so it gets no verdict here.
    """

    id: str
    text: str
    kind: Kind
    outcome: Contrast
    mechanism: Contrast | None = None
    part: str = ""
    by_construction: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("directional", "no_effect"):
            raise UsageError(f"claim {self.id}: kind is directional or no_effect, not {self.kind}")


@dataclass(frozen=True)
class Target:
    """A figure of a scenario: a reading of `arm`, or arm minus control, whose mean has bounds.

    seed_figure: what the seed document says, in its own words.
    """

    name: str
    seed_figure: str
    reading: Reading
    arm: Arms
    control: Arms | float = 0.0
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise UsageError(f"target {self.name}: low={self.low} and high={self.high}")


@dataclass(frozen=True)
class Scenario:
    id: str
    text: str
    targets: tuple[Target, ...]

    def __post_init__(self) -> None:
        if not self.targets:
            raise UsageError(f"scenario {self.id} has no target")
        _refuse_twice((target.name for target in self.targets), f"target of {self.id}")


@dataclass(frozen=True)
class Placebo:
    """A contrast that should not matter; its direction is not read."""

    id: str
    text: str
    contrast: Contrast


@dataclass(frozen=True)
class Plan:
    scenario: Scenario | None
    claims: tuple[Claim, ...]
    placebos: tuple[Placebo, ...] = ()

    def __post_init__(self) -> None:
        _refuse_twice((f"{claim.id} {claim.part}".strip() for claim in self.claims), "claim")
        _refuse_twice((placebo.id for placebo in self.placebos), "placebo")

    @property
    def m(self) -> int:
        """Primary contrasts that share the error rate: every part of every claim not fitted."""
        return sum(not claim.by_construction for claim in self.claims)

    @property
    def arms(self) -> frozenset[str]:
        """Every arm the plan names, so that a study can refuse a mistyped one before it runs."""
        return _arms(self._contrasts)

    @property
    def scenario_arms(self) -> frozenset[str]:
        """The arms that the scenario reads."""
        return _arms(self.scenario.targets if self.scenario else ())

    @property
    def epochs(self) -> frozenset[float]:
        """Every epoch the plan names; an evaluation has to fall on each of them."""
        named = ((c.reading.epoch, c.reading.since) for c in self._contrasts)
        return frozenset(epoch for pair in named for epoch in pair if epoch is not None)

    @property
    def _contrasts(self) -> list[Contrast | Target]:
        contrasts: list[Contrast | Target] = [placebo.contrast for placebo in self.placebos]
        contrasts += [c for claim in self.claims for c in (claim.outcome, claim.mechanism) if c]
        return [*contrasts, *(self.scenario.targets if self.scenario else ())]


def _arms(contrasts: Iterable[Contrast | Target]) -> frozenset[str]:
    return frozenset(
        name
        for contrast in contrasts
        for side in (contrast.arm, contrast.control)
        if not isinstance(side, int | float)
        for name in ((side,) if isinstance(side, str) else side)
    )


def _refuse_twice(names: Iterable[str], what: str) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise UsageError(f"{what} {name!r} is declared {count} times")
