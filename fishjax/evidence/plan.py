"""What a study declares before its seeds are run: claims, scenario, placebos.

Everything here is data that a study's file writes down, and everything such a file needs can be
imported from here.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from fishjax.evidence.contrast import (
    Arms,
    Contrast,
    Crossing,
    Reading,
    Requirement,
    Weighted,
    arms_of,
    interaction,
    slope,
)
from fishjax.fields import UsageError

__all__ = [
    "ACCURACY_DELTA",
    "AUC_DELTA",
    "FACTOR_DELTA",
    "Claim",
    "Contrast",
    "Crossing",
    "Placebo",
    "Plan",
    "Reading",
    "Requirement",
    "Scenario",
    "Target",
    "Weighted",
    "interaction",
    "slope",
]

ACCURACY_DELTA = 0.02
"""Margin of accuracies and of shares (of units, of pairs)."""
AUC_DELTA = 0.03
FACTOR_DELTA = math.log2(1.25)
"""Margin of readings that are log2 of a time or a norm: a factor of 1.25."""

KINDS = ("directional", "no_effect", "equivalence", "existential")


@dataclass(frozen=True)
class Claim:
    """One sentence to be judged. A claim of several parts is several `Claim`s of one id.

    kind: `directional`, the outcome's contrast has its direction; `no_effect`, it stays inside
    +-delta, and a benefit beyond refutes it; `equivalence`, it stays there, and an effect beyond on
    either side refutes it; `existential`, some contrast of the tuple `outcome` has its direction.
    mechanism: what must show besides for the claim to be more than its outcome; a bare contrast has
    to move, and an existential claim has one for each contrast, or none. also: what must hold
    besides the outcome. premise: what must hold for the claim to have an object. by_construction:
    fitting the scenario already fixed the contrast, so it gets no verdict on the data of the fit.
    """

    id: str
    text: str
    kind: Literal["directional", "no_effect", "equivalence", "existential"]
    outcome: Contrast | tuple[Contrast, ...]
    mechanism: Contrast | Requirement | tuple[Contrast | Requirement, ...] | None = None
    also: tuple[Requirement, ...] = ()
    premise: tuple[Requirement, ...] = ()
    part: str = ""
    by_construction: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"claim {self.id}: kind is {' or '.join(KINDS)}, not {self.kind}")
        several = self.kind == "existential"
        if several != isinstance(self.outcome, tuple) or not self.outcome:
            outcome = "a tuple of contrasts" if several else "one contrast"
            raise UsageError(f"claim {self.id}: the outcome of a {self.kind} claim is {outcome}")
        if isinstance(self.premise, Requirement):
            raise UsageError(f"claim {self.id}: the premise is a tuple of requirements")
        aligned = len(self.mechanisms) in (0, len(self.outcomes))
        if self.mechanism is not None and not (
            aligned and several == isinstance(self.mechanism, tuple)
        ):
            raise UsageError(f"claim {self.id}: the mechanism is not aligned with the outcome")

    @property
    def outcomes(self) -> tuple[Contrast, ...]:
        """The outcome's contrasts, one unless the claim is existential."""
        return self.outcome if isinstance(self.outcome, tuple) else (self.outcome,)

    @property
    def mechanisms(self) -> tuple[Requirement, ...]:
        """What is required of the mechanism, for each contrast of the outcome; empty for none."""
        if self.mechanism is None:
            return ()
        each = self.mechanism if isinstance(self.mechanism, tuple) else (self.mechanism,)
        return tuple(Requirement(m) if isinstance(m, Contrast) else m for m in each)

    @property
    def contrasts(self) -> Iterator[Contrast]:
        """Every contrast that the claim reads."""
        yield from self.outcomes
        required = (*self.mechanisms, *self.also, *self.premise)
        yield from (requirement.contrast for requirement in required)


@dataclass(frozen=True)
class Target:
    """A figure of a scenario: a reading of `arm`, or arm minus control, whose mean has bounds.

    seed_figure: what the seed document says, in its own words. below, above: which knob to turn
    where the mean lies below or above the bounds.
    """

    name: str
    seed_figure: str
    reading: Reading
    arm: Arms
    control: Arms | float = 0.0
    low: float = -math.inf
    high: float = math.inf
    below: str = ""
    above: str = ""

    def __post_init__(self) -> None:
        if not self.low <= self.high or self.low == math.inf or self.high == -math.inf:
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
        """Primary contrasts that share the error rate: every part of every claim not fitted.

        An existential claim counts once, as its contrasts are corrected among themselves.
        """
        return sum(not claim.by_construction for claim in self.claims)

    def unfitted(self) -> "Plan":
        """The plan on data that no knob was fitted to: nothing is by construction there."""
        claims = tuple(replace(claim, by_construction=False) for claim in self.claims)
        return replace(self, claims=claims)

    @property
    def arms(self) -> frozenset[str]:
        """Every arm the plan names, so that a study can refuse a mistyped one before it runs."""
        return _arms(self.contrasts)

    @property
    def scenario_arms(self) -> frozenset[str]:
        """The arms that the scenario reads."""
        return _arms(self.scenario.targets if self.scenario else ())

    @property
    def contrasts(self) -> list[Contrast | Target]:
        """Everything the plan reads: of placebos, claims and scenario."""
        contrasts: list[Contrast | Target] = [placebo.contrast for placebo in self.placebos]
        contrasts += [contrast for claim in self.claims for contrast in claim.contrasts]
        return [*contrasts, *(self.scenario.targets if self.scenario else ())]


def _arms(contrasts: Iterable[Contrast | Target]) -> frozenset[str]:
    return frozenset(
        name
        for contrast in contrasts
        for side in (contrast.arm, contrast.control)
        for name in arms_of(side)
    )


def _refuse_twice(names: Iterable[str], what: str) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise UsageError(f"{what} {name!r} is declared {count} times")
