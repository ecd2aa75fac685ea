"""Medians of rounds, paired ratios with bootstrap intervals, geometric means."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES, LEVEL, SEED = 10_000, 0.95, 0


class Ratio(NamedTuple):
    """The median of paired ratios; interval: None where there are fewer than 3 pairs."""

    value: float
    interval: tuple[float, float] | None


def paired_ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """The median of `above[i] / below[i]` over rounds, with its 95 % bootstrap interval.

    The interval is the percentile one of 10,000 seeded resamples of rounds (Efron 1979). Where one
    side has a single round, it is compared with the other's median.
    """
    if len(above) != len(below):
        return Ratio(float(np.median(above) / np.median(below)), None)
    ratios = np.asarray(above, float) / np.asarray(below, float)
    return Ratio(float(np.median(ratios)), interval(ratios))


def interval(values: np.ndarray) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of the median of `[round]`."""
    if len(values) < 3:
        return None
    rng = np.random.default_rng(SEED)
    medians = np.median(rng.choice(values, (RESAMPLES, len(values))), axis=1)
    low, high = np.quantile(medians, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def geometric_mean(values: Sequence[float]) -> float:
    """The exponential of the mean logarithm; all values positive."""
    return float(np.exp(np.mean(np.log(values))))
