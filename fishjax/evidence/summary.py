"""The machine's view of a study: everything that `summary.json` holds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from fishjax.evidence.effect import describe
from fishjax.evidence.placebo import placebos
from fishjax.evidence.plan import Plan, Reading
from fishjax.evidence.readings import diverged, read
from fishjax.evidence.scenario import reproduce
from fishjax.evidence.verdict import judge

SCHEMA = 1


def summarise(results: xr.Dataset, plan: Plan, about: Mapping[str, Any]) -> dict[str, Any]:
    """The whole of summary.json, free of NaN and infinities, in an order that never varies.

    about: JSON values that the results do not know, copied as they are (`study`, `data`,
    `tuning`, ...), except `overrides`, which maps an arm's name to its changes of the base run.
    Raises UsageError where the plan asks for what the results do not have.
    """
    copied = {key: value for key, value in about.items() if key != "overrides"}
    overrides = about["overrides"]
    return {
        "schema": SCHEMA,
        **copied,
        "seeds": [int(seed) for seed in results["seed"].values],
        "arms": [_arm(results, str(arm), overrides) for arm in results["arm"].values],
        "scenarios": [reproduce(plan.scenario, results)] if plan.scenario else [],
        "claims": judge(plan, results),
        "placebos": placebos(plan, results),
    }


def _arm(results: xr.Dataset, arm: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": arm,
        "overrides": overrides.get(arm, {}),
        "n": results.sizes["seed"],
        "n_diverged": int(diverged(results, arm).sum()),
        "metrics": {
            name: describe(read(results, Reading(name), arm)) for name in _scalar_metrics(results)
        },
    }


def _scalar_metrics(results: xr.Dataset) -> list[str]:
    """The metrics with one number per run and evaluation, at most one per layer besides."""
    return sorted(
        str(name)
        for name, variable in results.data_vars.items()
        if {"arm", "seed", "epoch"} <= set(variable.dims) <= {"arm", "seed", "epoch", "layer"}
        and np.issubdtype(variable.dtype, np.number)
    )
