"""What a contrast amounts to over the seeds: an estimate, its interval and a p."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from fishjax.evidence import paired
from fishjax.evidence.contrast import Arms, Contrast, Requirement, Weighted
from fishjax.evidence.max_t import max_t
from fishjax.evidence.pairs import Pairs, pairs
from fishjax.files import number

ROUNDING = 1e-5
"""Of delta: differences of one pair that are this close are one. Metrics are float32."""


@dataclass(frozen=True)
class Effect:
    """A contrast measured; the interval is unbounded and p is 1 where a pair was not measured.

    estimate: the mean difference, or the median where the method is the sign test; `low` and
    `high` bound the same quantity at 1 - alpha. among: how many contrasts interval and p hold for
    at once, by which correction.
    """

    contrast: Contrast
    pairs: Pairs
    method: paired.Method
    alpha: float
    estimate: float
    low: float
    high: float
    p: float
    among: int = 1
    correction: str = ""

    @property
    def test(self) -> str:
        """The test's name, with its correction where it has one."""
        return ", ".join(filter(None, (self.method.name, self.correction)))

    @property
    def claimed(self) -> tuple[float, float]:
        """The interval, turned so that the claimed direction is upwards."""
        return (self.low, self.high) if self.contrast.direction > 0 else (-self.high, -self.low)

    @property
    def negligible(self) -> bool:
        """The interval lies inside +-delta."""
        return -self.contrast.delta < self.low and self.high < self.contrast.delta

    @property
    def benefit(self) -> float:
        """The estimate, turned so that the claimed direction is upwards."""
        return self.estimate * self.contrast.direction

    def seeds_to_exclude(self, *values: float) -> int | None:
        """About how many seeds would put every one of `values` outside the interval.

        Every pair must have been measured. None where it is hopeless. The signal is the distance
        in standard deviations of a difference; for the sign test |2q - 1|, q the share of
        differences above the value (Noether 1987, JASA 82:645), of open ones a half.
        """
        signal = min(self._signal(value) for value in values)
        return paired.seeds_to_decide(signal, self.alpha / self.among, len(self.pairs.seeds))

    def _signal(self, value: float) -> float:
        shifted = self.pairs.differences - value
        if self.method is paired.SIGN:
            return abs(float(np.mean(np.nan_to_num(np.sign(shifted)))))
        distance, spread = abs(float(np.mean(shifted))), float(np.std(shifted))
        return distance / spread if spread else math.inf if distance else 0.0

    def as_json(self) -> dict[str, Any]:
        """The effect for summary.json; None where a number is not finite.

        `infinite`, where one is, holds the signs of effect and interval: 1, -1, or 0 of what is
        finite. An effect that was not measured has no sign.
        """
        contrast, found = self.contrast, (self.estimate, self.low, self.high)
        signs = [int(np.sign(value)) if math.isinf(value) else 0 for value in found]
        return {
            "metric": contrast.reading.metric,
            "reading": contrast.reading.label,
            "arm": plain(contrast.arm),
            "control": plain(contrast.control),
            "direction": contrast.direction,
            "delta": contrast.delta,
            "effect": number(self.estimate),
            "ci": [number(self.low), number(self.high)],
            **({"infinite": signs} if any(signs) and not self.pairs.missing else {}),
            "p": self.p,
            "test": self.test,
            "diverged_pairs": int(self.pairs.diverged.sum()),
        }


def measure(results: xr.Dataset, requirement: Requirement, alpha: float) -> Effect:
    """The contrast over all seeds, see `assess`.

    Raises UsageError where the contrast asks for what the results do not have.
    """
    return assess(pairs(results, requirement.contrast), requirement, alpha)


def assess(found: Pairs, requirement: Requirement, alpha: float) -> Effect:
    """What the differences amount to, with their interval at 1 - alpha.

    A diverged or open pair, or an infinite difference, makes it the exact sign test, which needs
    only the order of values. p is the largest over the values of the effect that have to be refused
    for the requirement to be met, and 1 where the estimate is on the wrong side of a bound.
    """
    contrast, differences = requirement.contrast, found.differences
    tie = ROUNDING * contrast.delta
    method = paired.SIGN if found.ordinal else paired.SIGN_FLIP
    if found.missing:
        return Effect(contrast, found, method, alpha, math.nan, -math.inf, math.inf, 1.0)
    low, high = method.interval(differences, alpha, tie)
    estimate = method.estimate(differences)
    p = _p(requirement, estimate, lambda value: method.p(differences - value, tie))
    return Effect(contrast, found, method, alpha, estimate, low, high, p)


def measure_together(
    results: xr.Dataset, requirements: Sequence[Requirement], alpha: float
) -> tuple[Effect, ...]:
    """Several contrasts, with intervals that hold together at 1 - alpha and p adjusted for it.

    By max-T; where a pair of one of them diverged, is open or was not measured, or a difference is
    infinite, by Bonferroni's correction of each one's own test. Raises as `measure` does.
    """
    k = len(requirements)
    alone = [measure(results, requirement, alpha / k) for requirement in requirements]
    found = [effect.pairs for effect in alone]
    if any(each.ordinal or each.missing for each in found):
        correct = dict(alpha=alpha, among=k, correction="Bonferroni")
        return tuple(replace(each, p=min(1.0, k * each.p), **correct) for each in alone)
    ties = [ROUNDING * requirement.contrast.delta for requirement in requirements]
    courses = max_t(np.stack([each.differences for each in found], axis=1), ties)
    return tuple(
        Effect(
            effect.contrast,
            effect.pairs,
            effect.method,
            alpha,
            effect.estimate,
            *course.interval(alpha),
            p=_p(requirement, effect.estimate, course.p),
            among=k,
            correction="max-T",
        )
        for effect, course, requirement in zip(alone, courses, requirements, strict=True)
    )


def _p(requirement: Requirement, estimate: float, test: Callable[[float], float]) -> float:
    return max(map(test, requirement.refused)) if requirement.admits(estimate) else 1.0


def caveats(what: str, effect: Effect) -> Iterator[str]:
    """What has to be known of the pairs that an effect was measured on."""
    found = effect.pairs
    if found.missing:
        yield f"{what} not measured at seeds {', '.join(map(str, found.missing))}"
    if lost := int(found.diverged.sum()):
        yield f"{what}: {lost} of {len(found.seeds)} pairs diverged (sign test and median)"
    elif np.isinf(found.differences).any():
        yield f"{what}: infinite differences (sign test and median)"
    if unknown := int(found.open.sum()):
        yield f"{what}: {unknown} of {len(found.seeds)} pairs infinite on both sides, order unknown"


def describe(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Mean, deviation (n - 1) and 95 % sign-flip interval of the finite values, for JSON.

    `n` counts the finite values; the interval is None where they are fewer than six.
    """
    finite = values[np.isfinite(values)]
    n = len(finite)
    mean = float(np.mean(finite)) if n else None
    deviation = float(np.std(finite, ddof=1)) if n > 1 else None
    bounded = n >= paired.seeds_needed(1)
    ci = list(paired.sign_flip_interval(finite, paired.ERROR_RATE)) if bounded else None
    return {"n": n, "mean": mean, "sd": deviation, "ci": ci}


def plain(side: Arms | float) -> str | float | list[str]:
    """A side of a contrast for JSON; a weighted sum is its words."""
    if isinstance(side, Weighted):
        return side.words
    return list(side) if isinstance(side, tuple) else side
