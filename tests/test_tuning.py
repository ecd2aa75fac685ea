"""The best of the rates tried, where arms train for different times or diverge."""

import numpy as np
import pytest
import xarray as xr

from fishjax.evidence.tuning import best_rates
from fishjax.sweep import Tuning

TUNING = Tuning(("long", "short"), (0.01, 0.1, 1.0), (7, 8))


@pytest.fixture
def results():
    """Every rate's accuracy at epoch 2 of all arms and at epoch 4 of the long one, two seeds."""
    nan = np.nan
    accuracy = {
        "long@0.01": [0.9, 0.5],
        "long@0.1": [0.4, 0.6],
        "long@1": [0.3, 0.9],
        "short@0.01": [0.5, nan],
        "short@0.1": [0.8, nan],
        "short@1": [0.7, nan],
    }
    values = np.repeat(np.array(list(accuracy.values()))[:, None], 2, axis=1)
    diverged = np.zeros((6, 2), bool)
    diverged[2] = True
    made = {
        "val_accuracy": (("arm", "seed", "epoch"), values),
        "diverged": (("arm", "seed"), diverged),
    }
    coords = {"arm": list(accuracy), "seed": [7, 8], "epoch": [2.0, 4.0]}
    return xr.Dataset(made, coords, attrs={"classes": 4})


def test_each_arm_is_judged_at_its_own_last_epoch_and_diverged_runs_as_chance(results):
    assert best_rates(results, TUNING) == {"long": 0.1, "short": 0.1}


def test_of_two_equal_rates_the_smaller_wins(results):
    results["val_accuracy"].loc[{"arm": "short@1"}] = results["val_accuracy"].sel(arm="short@0.1")
    assert best_rates(results, TUNING)["short"] == 0.1
