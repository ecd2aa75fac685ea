"""The machine's view of a study: everything that `summary.json` holds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from fishjax.evidence.declared import Declaration
from fishjax.evidence.effect import describe
from fishjax.evidence.placebo import placebos
from fishjax.evidence.plan import Plan, Reading
from fishjax.evidence.readings import diverged, read
from fishjax.evidence.scenario import reproduce
from fishjax.evidence.verdict import judge
from fishjax.fields import UsageError

SCHEMA = 1


def summarise(
    results: xr.Dataset,
    present: Declaration,
    about: Mapping[str, Any],
    pinned: Declaration | None = None,
) -> dict[str, Any]:
    """The whole of summary.json, free of NaN and infinities, in an order that never varies.

    about: JSON values that the results do not know, copied as they are (`study`, `data`,
    `tuning`, ...), except `overrides`, which maps an arm's name to its changes of the base run.
    pinned: the plan as the first start declared it. Where the present one is another,
    `plan_changed` holds what differs and the rulings by the pinned one, all other rulings are by
    the present one. Raises UsageError where the present plan asks for what the results do not have.
    """
    copied = {key: value for key, value in about.items() if key != "overrides"}
    overrides = about["overrides"]
    return {
        "schema": SCHEMA,
        **copied,
        "seeds": [int(seed) for seed in results["seed"].values],
        "arms": [_arm(results, str(arm), overrides) for arm in results["arm"].values],
        **_rulings(results, present.plan),
        "plan_changed": _changed(results, present, pinned or present),
    }


def _rulings(results: xr.Dataset, plan: Plan) -> dict[str, Any]:
    return {
        "scenarios": [reproduce(plan.scenario, results)] if plan.scenario else [],
        "claims": judge(plan, results),
        "placebos": placebos(plan, results),
    }


def _changed(
    results: xr.Dataset, present: Declaration, pinned: Declaration
) -> dict[str, Any] | None:
    """What differs and the rulings by the pinned plan, `error` where it cannot be judged."""
    differs = pinned.differs(present.plan)
    if not differs:
        return None
    try:
        rulings = {**_rulings(results, pinned.plan), "error": ""}
    except UsageError as error:
        rulings = {"scenarios": [], "claims": [], "placebos": [], "error": str(error)}
    return {
        "differs": differs,
        "pinned": dict(pinned.code),
        "present": dict(present.code),
        **rulings,
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
