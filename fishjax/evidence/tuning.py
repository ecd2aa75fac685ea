"""Which rate is the best of those tried: by validation accuracy on tuning seeds."""

import xarray as xr

from fishjax.sweep import Tuning


def best_rates(results: xr.Dataset, tuning: Tuning) -> dict[str, float]:
    """The rate of each tuned arm with the best mean validation accuracy at the last epoch.

    results: arms named `arm@rate`. The smaller of two equal rates wins; a diverged run counts as
    chance.
    """
    last = results["val_accuracy"].dropna("epoch", how="all").isel(epoch=-1)
    mean = last.where(~results["diverged"], 1.0 / results.attrs["classes"]).mean("seed")

    def merit(arm: str, rate: float) -> tuple[float, float]:
        return float(mean.sel(arm=tuning.candidate(arm, rate))), -rate

    return {arm: max(tuning.rates, key=lambda rate: merit(arm, rate)) for arm in tuning.arms}
