"""What every layer's units and gradients did, summed up over the seeds that did not diverge."""

import numpy as np
import numpy.typing as npt
import xarray as xr


def dead_percent(results: xr.Dataset) -> xr.DataArray:
    """Dead units in per cent of a layer's units, mean over seeds: `[arm, epoch, layer]`."""
    return 100 * _kept(results, "dead_share").mean("seed")


def log_flow(results: xr.Dataset) -> xr.DataArray:
    """log10 of gradient norm over weight norm, median over seeds: `[arm, epoch, layer]`."""
    with np.errstate(divide="ignore"):
        return xr.apply_ufunc(np.log10, _kept(results, "flow").median("seed"))


def lost(results: xr.Dataset, arm: str) -> npt.NDArray[np.bool_]:
    """Which seeds of an arm diverged, `[seed]`; a run without a record did not."""
    return results["diverged"].sel(arm=arm).values == 1


def casualties(results: xr.Dataset, arm: str) -> str:
    """`(2 of 8 diverged)`, or nothing."""
    gone = lost(results, arm)
    return f"({gone.sum()} of {len(gone)} diverged)" if gone.any() else ""


def _kept(results: xr.Dataset, name: str) -> xr.DataArray:
    """A metric without the diverged runs; NaN where the study did not watch it."""
    watched = results[name] if name in results else xr.full_like(results["dead_share"], np.nan)
    return watched.where(results["diverged"] != 1)
