"""What a contrast amounts to over the seeds: an estimate, its interval and a p."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from fishjax.evidence import paired, readings
from fishjax.evidence.plan import Arms, Contrast


@dataclass(frozen=True)
class Effect:
    """A contrast measured; the interval is unbounded and p is 1 where a pair was not measured.

    estimate: the mean difference, or the median where the method is the sign test; `low` and
    `high` bound the same quantity at 1 - alpha.
    """

    contrast: Contrast
    pairs: readings.Pairs
    method: paired.Method
    alpha: float
    estimate: float
    low: float
    high: float
    p: float

    @property
    def claimed(self) -> tuple[float, float]:
        """The interval, turned so that the claimed direction is upwards."""
        return (self.low, self.high) if self.contrast.direction > 0 else (-self.high, -self.low)

    @property
    def negligible(self) -> bool:
        """The interval lies inside +-delta."""
        return -self.contrast.delta < self.low and self.high < self.contrast.delta

    @property
    def moved(self) -> bool:
        """The interval excludes 0 in the claimed direction and is not negligible."""
        return self.claimed[0] > 0 and not self.negligible

    def seeds_to_exclude(self, *values: float) -> int | None:
        """About how many seeds would put every one of `values` outside the interval.

        Every pair must have been measured. None where it is hopeless. The signal is the distance
        in standard deviations of a difference; for the sign test |2q - 1|, q the share of
        differences above the value (Noether 1987, JASA 82:645).
        """
        signal = min(self._signal(value) for value in values)
        return paired.seeds_to_decide(signal, self.alpha, len(self.pairs.seeds))

    def _signal(self, value: float) -> float:
        shifted = self.pairs.differences - value
        if self.method is paired.SIGN:
            return abs(float(np.mean(np.sign(shifted))))
        distance, spread = abs(float(np.mean(shifted))), float(np.std(shifted))
        return distance / spread if spread else math.inf if distance else 0.0

    def as_json(self) -> dict[str, Any]:
        """The effect for summary.json; None where a number is not finite."""
        contrast = self.contrast
        return {
            "metric": contrast.reading.metric,
            "reading": contrast.reading.label,
            "arm": _plain(contrast.arm),
            "control": _plain(contrast.control),
            "direction": contrast.direction,
            "delta": contrast.delta,
            "effect": readings.number(self.estimate),
            "ci": [readings.number(self.low), readings.number(self.high)],
            "p": self.p,
            "test": self.method.name,
            "diverged_pairs": int(self.pairs.diverged.sum()),
        }


def measure(
    results: xr.Dataset, contrast: Contrast, alpha: float, hypotheses: tuple[float, ...] = (0.0,)
) -> Effect:
    """The contrast over all seeds, see `assess`.

    Raises UsageError where the contrast asks for what the results do not have.
    """
    return assess(readings.pairs(results, contrast), contrast, alpha, hypotheses)


def assess(
    pairs: readings.Pairs,
    contrast: Contrast,
    alpha: float,
    hypotheses: tuple[float, ...] = (0.0,),
) -> Effect:
    """What the differences amount to, with their interval at 1 - alpha.

    A diverged pair, or an infinite difference, makes it the exact sign test, which needs only
    the order of values. p is the largest over `hypotheses`, values of the effect to be refused.
    """
    differences = pairs.differences
    ordinal = pairs.diverged.any() or np.isinf(differences).any()
    method = paired.SIGN if ordinal else paired.SIGN_FLIP
    if pairs.missing:
        return Effect(contrast, pairs, method, alpha, math.nan, -math.inf, math.inf, 1.0)
    low, high = method.interval(differences, alpha)
    p = max(method.p(differences - value) for value in hypotheses)
    return Effect(contrast, pairs, method, alpha, method.estimate(differences), low, high, p)


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


def _plain(side: Arms | float) -> str | float | list[str]:
    return list(side) if isinstance(side, tuple) else side
