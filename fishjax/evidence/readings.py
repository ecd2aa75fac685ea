"""From a study's results to the one number per seed that a reading or contrast asks for."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from fishjax.evidence.plan import Arms, Contrast, Reading, Target
from fishjax.fields import UsageError, nearest

AVERAGED = ("layer", "share", "species")


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


def pairs(results: xr.Dataset, contrast: Contrast | Target) -> Pairs:
    """The contrast seed by seed; two readings that are both infinite and equal differ by 0.

    Raises UsageError as `read` does.
    """
    arm, diverged = _mean_over_arms(results, contrast.reading, contrast.arm)
    control = np.full_like(arm, np.nan)
    if isinstance(contrast.control, int | float):
        control[:] = contrast.control
    else:
        control, lost = _mean_over_arms(results, contrast.reading, contrast.control)
        diverged = diverged | lost
    with np.errstate(invalid="ignore"):
        differences = np.where(arm == control, 0.0, arm - control)
    return Pairs(differences, diverged, tuple(int(seed) for seed in results["seed"].values))


def read(results: xr.Dataset, reading: Reading, arm: str) -> npt.NDArray[np.float64]:
    """The reading of every seed of `arm`, `[seed]`; NaN where it was not measured.

    A diverged run counts as chance at every epoch, so that its gain is 0: accuracy 1/K, AUC 0.5.
    Any other metric keeps what was measured of its frozen state. An epoch after the last
    evaluation is not measured. Raises UsageError for a metric, arm, layer, species, share or
    epoch that the results do not have.
    """
    if reading.metric not in results:
        known = (str(name) for name in results.data_vars)
        raise UsageError(f"unknown metric {reading.metric!r}{nearest(reading.metric, known)}")
    values = _choose(results[reading.metric].astype(float), "arm", arm)
    for dim in AVERAGED:
        if getattr(reading, dim) is not None:
            values = _choose(values, dim, getattr(reading, dim))
    with np.errstate(invalid="ignore"):
        scalars = _level(values, reading).values
    chance = _chance(reading, results.attrs["classes"])
    return scalars if chance is None else np.where(diverged(results, arm), chance, scalars)


def diverged(results: xr.Dataset, arm: str) -> npt.NDArray[np.bool_]:
    """Whether each seed's run of `arm` diverged, `[seed]`; a run without a record did not."""
    return _choose(results["diverged"], "arm", arm).values == 1


def number(value: float) -> float | None:
    """`value` for JSON, which has neither NaN nor infinity."""
    return float(value) if np.isfinite(value) else None


def _mean_over_arms(
    results: xr.Dataset, reading: Reading, arms: Arms
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    names = (arms,) if isinstance(arms, str) else arms
    with np.errstate(invalid="ignore"):
        values = np.mean([read(results, reading, name) for name in names], axis=0)
    return values, np.any([diverged(results, name) for name in names], axis=0)


def _level(values: xr.DataArray, reading: Reading) -> xr.DataArray:
    """`values` of one arm at the reading's epochs, averaged over what it left open: `[seed]`."""
    level = _at_epoch(values, reading.epoch)
    if reading.since is not None:
        level = level - _at_epoch(values, reading.since)
    if other := set(level.dims) - {"seed", *AVERAGED}:
        raise UsageError(
            f"a reading cannot choose along {min(map(str, other))} of {reading.metric}"
        )
    return level.mean([dim for dim in AVERAGED if dim in level.dims])


def _choose(values: xr.DataArray, dim: str, wanted: str | float) -> xr.DataArray:
    if dim not in values.dims:
        raise UsageError(f"{values.name} has no {dim} to choose, but {wanted!r} was asked for")
    known = values[dim].values
    if isinstance(wanted, str):
        found = np.flatnonzero(known == wanted)
    else:
        found = np.flatnonzero(np.isclose(known.astype(float), wanted))
    if not len(found):
        raise UsageError(f"unknown {dim} {wanted!r} of {values.name}{_closest(wanted, known)}")
    return values.isel({dim: found[0]})


def _at_epoch(values: xr.DataArray, epoch: float | None) -> xr.DataArray:
    """The values at an epoch, or at the last one measured; NaN after that, or if none was."""
    if "epoch" not in values.dims:
        if epoch is not None:
            raise UsageError(f"{values.name} is measured once a run, not at epoch {epoch:g}")
        return values
    measured = values.notnull().any([dim for dim in values.dims if dim != "epoch"])
    evaluated = values.isel(epoch=np.flatnonzero(measured.values))
    if not evaluated.sizes["epoch"] or (epoch is not None and epoch > evaluated["epoch"].max()):
        return values.isel(epoch=-1) * np.nan
    if epoch is None:
        return evaluated.isel(epoch=np.argmax(evaluated["epoch"].values))
    return _choose(evaluated, "epoch", epoch)


def _closest(wanted: str | float, known: Iterable) -> str:
    if isinstance(wanted, str):
        return nearest(wanted, (str(name) for name in known))
    return f"; the nearest is {min((float(k) for k in known), key=lambda k: abs(k - wanted)):g}"


def _chance(reading: Reading, classes: int) -> float | None:
    """What a run that has learnt nothing reads; None where the metric is no score of that kind."""
    if reading.metric.endswith("accuracy"):
        score = 1 / classes
    elif "auc" in reading.metric.split("_"):
        score = 0.5
    else:
        return None
    return score if reading.since is None else 0.0
