"""Which rate is the best of those tried: by validation accuracy on tuning seeds."""

import numpy as np
import xarray as xr

from fishjax.evidence.contrast import Reading
from fishjax.evidence.readings import read
from fishjax.sweep import Tuning


def best_rates(results: xr.Dataset, tuning: Tuning) -> dict[str, float]:
    """The rate of each tuned arm with the best mean validation accuracy at the arm's last epoch.

    results: arms named `arm@rate`. The smaller of two equal rates wins; a diverged run counts as
    chance.
    """

    def merit(arm: str, rate: float) -> tuple[float, float]:
        accuracy = read(results, Reading("val_accuracy"), tuning.candidate(arm, rate))
        return float(np.mean(accuracy)), -rate

    return {arm: max(tuning.rates, key=lambda rate: merit(arm, rate)) for arm in tuning.arms}
