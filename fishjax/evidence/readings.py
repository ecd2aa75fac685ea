"""From a study's results to the one number per seed that a reading asks for."""

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import special

from fishjax.evidence.contrast import NEAR, NUMBERED, TIME, Crossing, Reading
from fishjax.fields import UsageError, nearest

AVERAGED = ("layer", "share", "species")
Scalars = npt.NDArray[np.float64]


def read(results: xr.Dataset, reading: Reading, arm: str) -> Scalars:
    """The reading of every seed of `arm`, `[seed]`; NaN where it was not measured.

    A diverged run counts as chance at every epoch: accuracy 1/K, AUC 0.5. Its losses, its time to
    a crossing and its instability are infinite. Its gain in any of these is 0. Any other metric
    keeps what was measured of its frozen state. Without an epoch the metric is read at the arm's
    last evaluation, even where it had a number only earlier. An epoch after the last evaluation is
    not measured, nor is one at which no seed has a number, nor the log2 of a negative number.
    Raises UsageError for a metric, arm, layer, species, share or epoch that the results lack.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        if reading.statistic == "instability":
            scalars = _scaled(results, _instability(results, reading, arm), reading)
        else:
            scalars = _scaled(results, _level(results, reading, arm), reading)
            if reading.since is not None:
                series = _series(results, reading, arm)
                before = _at_epoch(results, series, arm, reading.since)
                before = _or_worst(results, reading, arm, before)
                scalars = less(scalars, _scaled(results, before, reading))
        return less(scalars, read(results, reading.minus, arm)) if reading.minus else scalars


def less(minuend: Scalars, subtrahend: Scalars) -> Scalars:
    """Their difference; two infinite numbers that are equal differ by 0."""
    with np.errstate(invalid="ignore"):
        return np.where(minuend == subtrahend, 0.0, minuend - subtrahend)


def diverged(results: xr.Dataset, arm: str) -> npt.NDArray[np.bool_]:
    """Whether each seed's run of `arm` diverged, `[seed]`; a run without a record did not."""
    return _choose(results["diverged"], "arm", arm).values == 1


def _level(results: xr.Dataset, reading: Reading, arm: str) -> Scalars:
    """The reading at its epoch or crossing, before its scale."""
    if reading.when is None:
        level = _at_epoch(results, _series(results, reading, arm), arm, reading.epoch)
        return _or_worst(results, reading, arm, level)
    time = _crossing(results, reading.when, arm)
    if reading.metric == TIME:
        return np.where(diverged(results, arm), math.inf, time)
    series = _series(results, reading, arm)
    if "epoch" not in series.dims:
        raise UsageError(f"{reading.metric} is measured once a run, not at a crossing")
    there = series.where(series["epoch"] == xr.DataArray(time, dims="seed"))
    return _or_worst(results, reading, arm, there.max("epoch").values)


def _instability(results: xr.Dataset, reading: Reading, arm: str) -> Scalars:
    """Root mean square of the second differences of the log2, over sqrt 6; NaN where none is, or
    the steps are not even.
    """
    series = _series(results, reading, arm)
    if "epoch" not in series.dims:
        raise UsageError(f"{reading.metric} is measured once a run: it has no instability")
    series = series.dropna("epoch", how="all").sel(epoch=slice(reading.since, reading.epoch))
    steps = np.diff(series["epoch"].values)
    if len(steps) < 2 or not np.allclose(steps, steps[0]):
        return np.where(diverged(results, arm), math.inf, math.nan)
    bends = np.diff(np.log2(series.transpose("seed", "epoch").values), n=2, axis=1)
    noise = np.sqrt(np.mean(bends**2, axis=1) / 6)
    return np.where(diverged(results, arm), math.inf, noise)


def _crossing(results: xr.Dataset, crossing: Crossing, arm: str) -> Scalars:
    """The epoch of the first evaluation on the far side of the level, infinite where there is none.

    NaN where the metric was not measured at all.
    """
    series = _series(results, Reading(crossing.metric), arm)
    if "epoch" not in series.dims:
        raise UsageError(f"{crossing.metric} is measured once a run: it crosses nothing")
    there = crossing.direction * (series - crossing.level) >= -NEAR * abs(crossing.level)
    time = xr.where(there, series["epoch"], math.inf).min("epoch")
    return time.where(series.notnull().any("epoch")).values


def _series(results: xr.Dataset, reading: Reading, arm: str) -> xr.DataArray:
    """The metric of one arm, `[seed, epoch]` or `[seed]`; of what is left open the average or the
    least.
    """
    if reading.metric not in results:
        known = (str(name) for name in results.data_vars)
        raise UsageError(f"unknown metric {reading.metric!r}{nearest(reading.metric, known)}")
    values = _choose(results[reading.metric].astype(float), "arm", arm)
    for dim in AVERAGED:
        if getattr(reading, dim) is not None:
            values = _choose(values, dim, getattr(reading, dim))
    if reading.without is not None:
        left_out = _position(values, "species", reading.without)
        values = values.isel(species=np.arange(values.sizes["species"]) != left_out)
    if other := set(values.dims) - {"seed", "epoch", *AVERAGED}:
        raise UsageError(
            f"a reading cannot choose along {min(map(str, other))} of {reading.metric}"
        )
    left_open = [dim for dim in AVERAGED if dim in values.dims]
    return values.min(left_open) if reading.statistic == "least" else values.mean(left_open)


def _last_evaluation(results: xr.Dataset, arm: str) -> float:
    """The last epoch at which anything was measured of an arm; NaN where nothing ever was."""
    measured = np.zeros(results.sizes["epoch"], bool)
    for values in results.data_vars.values():
        if {"arm", "epoch"} <= set(values.dims):
            known = _choose(values, "arm", arm).notnull()
            measured |= known.any([dim for dim in known.dims if dim != "epoch"]).values
    return float(results["epoch"].where(measured).max())


def _at_epoch(results: xr.Dataset, values: xr.DataArray, arm: str, epoch: float | None) -> Scalars:
    """The values at an epoch, or at the arm's last; NaN after the last that has any."""
    if "epoch" not in values.dims:
        if epoch is not None:
            raise UsageError(f"{values.name} is measured once a run, not at epoch {epoch:g}")
        return values.values
    evaluated = values.dropna("epoch", how="all")
    if not evaluated.sizes["epoch"]:
        return np.full(values.sizes["seed"], np.nan)
    last = float(evaluated["epoch"].max())
    if epoch is None:
        epoch = last if last == results["epoch"].max() else _last_evaluation(results, arm)
    if epoch > last:
        return np.full(values.sizes["seed"], np.nan)
    return _choose(values, "epoch", epoch).values


def _choose(values: xr.DataArray, dim: str, wanted: str | float) -> xr.DataArray:
    return values.isel({dim: _position(values, dim, wanted)})


def _position(values: xr.DataArray, dim: str, wanted: str | float) -> int:
    """Where `wanted` stands along `dim`; a species may be asked for by its number, `#K`."""
    if dim not in values.dims:
        raise UsageError(f"{values.name} has no {dim} to choose, but {wanted!r} was asked for")
    known = values[dim].values
    if isinstance(wanted, str):
        counted = NUMBERED.fullmatch(wanted) if dim == "species" else None
        if counted and int(counted[1]) <= len(known):
            return int(counted[1]) - 1
        found = np.flatnonzero(known == wanted)
    else:
        found = np.flatnonzero(np.isclose(known.astype(float), wanted))
    if not len(found):
        raise UsageError(f"unknown {dim} {wanted!r} of {values.name}{_closest(wanted, known)}")
    return int(found[0])


def _closest(wanted: str | float, known: Iterable) -> str:
    if isinstance(wanted, str):
        return nearest(wanted, (str(name) for name in known))
    return f"; the nearest is {min((float(k) for k in known), key=lambda k: abs(k - wanted)):g}"


def _or_worst(results: xr.Dataset, reading: Reading, arm: str, level: Scalars) -> Scalars:
    """`level`; of a diverged run chance where the metric is a score, infinite where a loss."""
    if reading.metric.endswith("accuracy"):
        worst = 1 / results.attrs["classes"]
    elif "auc" in reading.metric.split("_"):
        worst = math.nan if _left_out(results, reading) else 0.5
    elif reading.metric.endswith("loss"):
        worst = math.inf
    else:
        return level
    return np.where(diverged(results, arm), worst, level)


def _left_out(results: xr.Dataset, reading: Reading) -> bool:
    """Whether no run has an AUC of that species: its images are too few, see `auc.leave_out`."""
    if reading.species is None:
        return False
    return not _choose(results[reading.metric], "species", reading.species).notnull().any()


def _scaled(results: xr.Dataset, values: Scalars, reading: Reading) -> Scalars:
    match reading.scale:
        case "log2":
            return np.log2(values)
        case "logit":
            return special.logit(values)
        case "guess":
            return values / math.log(results.attrs["classes"])
    return values
