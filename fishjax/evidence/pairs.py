"""Arm minus control of every seed, as a contrast asks for it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from fishjax.evidence.contrast import Arms, Contrast, Reading, arms_of
from fishjax.evidence.plan import Target
from fishjax.evidence.readings import diverged, less, read


@dataclass(frozen=True)
class Pairs:
    """Arm minus control of every seed, and whether a run of that pair diverged; both `[seed]`.

    A difference is NaN where one of its runs was not measured, and where a pair is `open`, `[seed]`
    too: both readings are infinite, as two times that neither run lived to see or two losses that
    overflowed. Which of them is the larger nobody knows; it is no difference of 0. What only a
    scale makes infinite, as log2 an update of 0 or logit an accuracy of 1, is alike in both.
    """

    differences: npt.NDArray[np.float64]
    diverged: npt.NDArray[np.bool_]
    open: npt.NDArray[np.bool_]
    seeds: tuple[int, ...]

    @property
    def missing(self) -> tuple[int, ...]:
        """The seeds whose pair was not measured."""
        gaps = np.isnan(self.differences) & ~self.open
        return tuple(seed for seed, gap in zip(self.seeds, gaps, strict=True) if gap)

    @property
    def ordinal(self) -> bool:
        """Whether only the order of the differences counts: one is infinite or open, or a pair
        diverged.
        """
        infinite = np.isinf(self.differences) | self.open
        return bool((self.diverged | infinite).any())


def pairs(results: xr.Dataset, contrast: Contrast | Target) -> Pairs:
    """The contrast seed by seed.

    Infinite readings that are weighted against each other are not measured. Raises UsageError as
    `read` does.
    """
    arm = _sum(results, contrast.reading, contrast.arm)
    control = _sum(results, contrast.reading, contrast.control)
    names = {**arms_of(contrast.arm), **arms_of(contrast.control)}
    lost = np.any([diverged(results, name) for name in names], axis=0)
    unknown = np.isposinf(arm) & np.isposinf(control) & (contrast.reading.scale != "logit")
    differences = np.where(unknown, np.nan, less(arm, control))
    return Pairs(differences, lost, unknown, tuple(int(seed) for seed in results["seed"].values))


def _sum(results: xr.Dataset, reading: Reading, side: Arms | float) -> npt.NDArray[np.float64]:
    """One side of a contrast, `[seed]`: the weighted sum over its arms, or the number it is."""
    if isinstance(side, int | float):
        return np.full(results.sizes["seed"], float(side))
    with np.errstate(invalid="ignore"):
        weighted = [weight * read(results, reading, arm) for arm, weight in arms_of(side).items()]
        return np.sum(weighted, axis=0)
