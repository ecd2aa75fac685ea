"""What is read of a run, which arms are compared by it, and what the comparison must show."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fishjax.fields import UsageError

TIME = "epoch"
"""The metric that is the time itself, read at a crossing."""
SCALES = {"plain": "", "log2": "in doublings", "logit": "in logits", "guess": "in guesses"}
NEAR = 1e-6
"""Relative: a float32 metric this near to a bound or a level is on it."""
STATISTICS = ("level", "least", "instability")
EXPECTATIONS = ("moves", "stays", "exceeds")
NUMBERED = re.compile(r"#([1-9]\d*)")


@dataclass(frozen=True)
class Crossing:
    """The first evaluation at which `metric` is at least `level`, or at most where direction is -1,
    to a millionth of it.

    A dimension that the metric has is averaged.
    """

    metric: str
    level: float
    direction: int = 1

    def __post_init__(self) -> None:
        if self.direction not in (1, -1):
            raise UsageError(f"{self.metric}: direction is 1 or -1, not {self.direction}")
        if not math.isfinite(self.level):
            raise UsageError(f"{self.metric} cannot cross {self.level}")

    @property
    def label(self) -> str:
        """`train_accuracy ≥ 0.98`."""
        return f"{self.metric} {'≥' if self.direction > 0 else '≤'} {self.level:g}"


@dataclass(frozen=True)
class Reading:
    """One number per run. A dimension the metric has and the reading does not fix is averaged.

    epoch: None is the last evaluation. since: the value at that epoch is subtracted (a gain).
    species: one of them, by name, or `#K` for the K-th of the source, counted from 1. without: the
    species left out of the average. when: the evaluation to read instead of one at an epoch; the
    metric `epoch` is then the time of it, infinite where a run never comes so far (censored), and
    any other metric is then not measured. scale: of the number read, before anything is subtracted
    from it; `guess` is a loss over ln K, that of a guess among K species. minus: the same run's
    other reading, which is subtracted.

    statistic: `least` takes the smallest where `level` takes the average; `instability` is, of a
    series with even steps from `since` to `epoch`, the root mean square of the second differences
    of its log2, over sqrt 6: the standard deviation, in doublings, of white noise about a locally
    linear course (Gasser, Sroka and Jennen-Steinmetz 1986, Biometrika 73:625).
    """

    metric: str
    epoch: float | None = None
    since: float | None = None
    layer: str | None = None
    share: float | None = None
    species: str | None = None
    without: str | None = None
    minus: "Reading | None" = None
    when: Crossing | None = None
    scale: Literal["plain", "log2", "logit", "guess"] = "plain"
    statistic: Literal["level", "least", "instability"] = "level"

    def __post_init__(self) -> None:
        if self.since is not None and self.epoch is not None and self.since >= self.epoch:
            raise UsageError(f"{self.metric}: since={self.since} is not before epoch={self.epoch}")
        if self.scale not in SCALES or self.statistic not in STATISTICS:
            raise UsageError(f"{self.metric}: scale={self.scale}, statistic={self.statistic}")
        if self.species is not None and self.without is not None:
            raise UsageError(f"{self.metric}: species {self.species!r} is no average over species")
        if self.minus and self.minus.scale != self.scale:
            raise UsageError(f"{self.label}: the scales differ")
        self._refuse_crossing()

    def _refuse_crossing(self) -> None:
        if self.metric == TIME and self.when is None:
            raise UsageError("the time is read at a crossing: when=Crossing(...)")
        fixed = self.epoch is not None or self.since is not None or self.statistic != "level"
        if self.when and fixed:
            raise UsageError(f"{self.metric}: a reading at a crossing is a level at no epoch")

    @property
    def label(self) -> str:
        """The reading in words, for tables."""
        unstable = self.statistic == "instability"
        since = "instability from epoch" if unstable else "gain since epoch"
        details = (
            ("at epoch", self.epoch),
            (since, self.since),
            ("when", self.when and self.when.label),
            ("layer", self.layer),
            ("share", self.share),
            ("species", self.species),
            ("without", self.without),
        )
        words = [
            self.metric,
            *(f"{word} {_text(value)}" for word, value in details if value is not None),
        ]
        words += ["instability"] * (unstable and self.since is None)
        words += ["least"] * (self.statistic == "least")
        words += [SCALES[self.scale]] * (self.scale != "plain")
        words += [f"minus {self.minus.label}"] if self.minus else []
        return ", ".join(words)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that it is read of, but for what is subtracted; the time is none."""
        read = (self.metric, *((self.when.metric,) if self.when else ()))
        return tuple(metric for metric in read if metric != TIME)

    @property
    def parts(self) -> "Iterator[Reading]":
        """This reading and those that are subtracted from it."""
        yield self
        if self.minus:
            yield from self.minus.parts


@dataclass(frozen=True)
class Weighted:
    """A sum of arms' readings with weights, seed by seed; `words` say which sum it is."""

    words: str
    weights: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        names = [arm for arm, _ in self.weights]
        if not names or len(set(names)) < len(names):
            raise UsageError(f"{self.words}: every arm has one weight, and there is one")
        if not all(math.isfinite(weight) and weight for _, weight in self.weights):
            raise UsageError(f"{self.words}: weights are finite and not 0")


Arms = str | tuple[str, ...] | Weighted


def interaction(a: str, b: str, c: str, d: str) -> Weighted:
    """(a - b) - (c - d): by how much more `a` differs from `b` than `c` does from `d`."""
    return Weighted(f"({a} − {b}) − ({c} − {d})", ((a, 1.0), (b, -1.0), (c, -1.0), (d, 1.0)))


def slope(arms: Sequence[str], values: Sequence[float]) -> Weighted:
    """The least-squares slope of the arms' readings over `values`, one for each arm."""
    if len(arms) != len(values) or len(set(values)) < 2:
        raise UsageError(f"a slope over {list(values)} of the arms {list(arms)}")
    middle = sum(values) / len(values)
    spread = sum((value - middle) ** 2 for value in values)
    weights = [(arm, (v - middle) / spread) for arm, v in zip(arms, values, strict=True)]
    over = ", ".join(f"{value:g}" for value in values)
    return Weighted(
        f"slope of ({', '.join(arms)}) over ({over})", tuple(each for each in weights if each[1])
    )


@dataclass(frozen=True)
class Contrast:
    """A reading of `arm` minus the same reading of `control`, seed by seed.

    Several arms are averaged within a seed, or summed with weights. A control that is a number, in
    the reading's own unit and scale, makes the contrast one-sample. direction: +1 where the claim
    says that the arm's reading is the higher one (of a no-effect claim: where higher is a benefit),
    else -1. delta: the smallest difference that matters, in the reading's unit, declared and never
    taken from data.
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
        if isinstance(self.control, int | float) and not math.isfinite(self.control):
            raise UsageError(f"{self.reading.metric}: a control is finite, not {self.control}")


@dataclass(frozen=True)
class Requirement:
    """What a contrast must show besides a claim's outcome.

    expects: `moves`, the interval excludes 0 in the claimed direction and does not lie inside
    +-delta; `stays`, it lies inside +-delta; `exceeds`, it lies beyond delta in that direction.
    """

    contrast: Contrast
    expects: Literal["moves", "stays", "exceeds"] = "moves"

    def __post_init__(self) -> None:
        if self.expects not in EXPECTATIONS:
            raise UsageError(
                f"{self.contrast.reading.metric}: a contrast {', '.join(EXPECTATIONS)}, "
                f"but {self.expects!r} was expected"
            )

    @property
    def refused(self) -> tuple[float, ...]:
        """The null values that a test must reject for the requirement to be met."""
        delta = self.contrast.delta
        edges = {"moves": (0.0,), "stays": (-delta, delta)}
        return edges.get(self.expects, (self.contrast.direction * delta,))

    def admits(self, effect: float) -> bool:
        """Whether the effect is on the right side of its bounds; where it has to move, anywhere."""
        delta, along = self.contrast.delta, self.contrast.direction * effect
        return {"moves": True, "stays": abs(effect) < delta}.get(self.expects, along > delta)


def arms_of(side: Arms | float) -> dict[str, float]:
    """The weight of every arm on one side of a contrast; none where the side is a number."""
    if isinstance(side, Weighted):
        return dict(side.weights)
    if isinstance(side, int | float):
        return {}
    names = (side,) if isinstance(side, str) else side
    return dict.fromkeys(names, 1 / len(names))


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"
