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

    A difference is NaN where one of its runs was not measured.
    """

    differences: npt.NDArray[np.float64]
    diverged: npt.NDArray[np.bool_]
    seeds: tuple[int, ...]

    @property
    def missing(self) -> tuple[int, ...]:
        """The seeds whose pair was not measured."""
        gaps = np.isnan(self.differences)
        return tuple(seed for seed, gap in zip(self.seeds, gaps, strict=True) if gap)

    @property
    def ordinal(self) -> bool:
        """Whether only the order of the differences counts: one is infinite, or a pair diverged."""
        return bool(self.diverged.any() or np.isinf(self.differences).any())


def pairs(results: xr.Dataset, contrast: Contrast | Target) -> Pairs:
    """The contrast seed by seed; two readings that are both infinite and equal differ by 0.

    Infinite readings that are weighted against each other are not measured. Raises UsageError as
    `read` does.
    """
    arm = _sum(results, contrast.reading, contrast.arm)
    control = _sum(results, contrast.reading, contrast.control)
    names = {**arms_of(contrast.arm), **arms_of(contrast.control)}
    lost = np.any([diverged(results, name) for name in names], axis=0)
    return Pairs(less(arm, control), lost, tuple(int(seed) for seed in results["seed"].values))


def _sum(results: xr.Dataset, reading: Reading, side: Arms | float) -> npt.NDArray[np.float64]:
    """One side of a contrast, `[seed]`: the weighted sum over its arms, or the number it is."""
    if isinstance(side, int | float):
        return np.full(results.sizes["seed"], float(side))
    with np.errstate(invalid="ignore"):
        weighted = [weight * read(results, reading, arm) for arm, weight in arms_of(side).items()]
        return np.sum(weighted, axis=0)
