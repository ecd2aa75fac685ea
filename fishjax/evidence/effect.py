"""What a contrast amounts to over the seeds: an estimate, its interval and a p."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from fishjax.evidence import paired, readings
from fishjax.evidence.plan import Arms, Contrast


@dataclass(frozen=True)
class Effect:
    """A contrast measured. The interval is [-inf, inf] and p is 1 where a pair was not measured.

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
        """The interval with the claimed direction upwards."""
        s = self.contrast.direction
        return (self.low, self.high) if s > 0 else (-self.high, -self.low)

    @property
    def negligible(self) -> bool:
        """The interval lies inside +-delta."""
        return -self.contrast.delta < self.low and self.high < self.contrast.delta

    @property
    def moved(self) -> bool:
        """The interval excludes 0 in the claimed direction, by more than a negligible amount."""
        return self.claimed[0] > 0 and not self.negligible

    def seeds_to_exclude(self, margins: tuple[float, ...]) -> int | None:
        """About how many seeds would tell the effect from the nearest of `margins`; None if hopeless.

        The distance is in standard deviations of a difference for the sign-flip test. For the
        sign test it is |2q - 1|, q the share of pairs above the margin (Noether 1987, JASA 82:645).
        """
        if self.pairs.missing:
            return None
        differences = self.pairs.differences
        signals = []
        for margin in margins:
            shifted = differences - margin
            if self.method is paired.SIGN:
                shifted = np.sign(shifted)
            spread = 1.0 if self.method is paired.SIGN else float(np.std(shifted, ddof=1))
            signals.append(abs(float(np.mean(shifted))) / spread if spread else np.inf)
        return paired.seeds_to_decide(min(signals), self.alpha, len(differences))

    def as_json(self) -> dict[str, Any]:
        """The effect for summary.json; None where a number is not finite."""
        contrast = self.contrast
        return {
            "metric": contrast.reading.metric,
            "reading": contrast.reading.label,
            "arm": _names(contrast.arm),
            "control": _names(contrast.control),
            "direction": contrast.direction,
            "delta": contrast.delta,
            "effect": readings.number(self.estimate),
            "ci": [readings.number(self.low), readings.number(self.high)],
            "p": self.p,
            "test": self.method.name,
            "diverged_pairs": int(self.pairs.diverged.sum()),
        }
