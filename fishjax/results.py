"""The numbers of a study in memory: committed cells as one labelled `xarray.Dataset`."""

import itertools
import typing
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import xarray as xr

from fishjax.fields import UsageError
from fishjax.store import SweepFolder

COLUMNS = ("step", "epoch", "metric", "dim", "part", "value")
NUMERIC = ("share", "bin")
"""The dimensions whose parts are numbers."""


def collect(sweep: SweepFolder, folders: Mapping[tuple[str, int], str], classes: int) -> xr.Dataset:
    """Every committed cell of `folders`, which maps (arm, seed) to a cell's folder.

    Variables `(arm, seed, epoch[, layer | species | share | bin])` by metric, NaN where not
    measured, and `diverged`, `diverged_step` `(arm, seed)`; as attributes the number of `classes`
    and each cell's trainer, see `trained_by`. A cell that is not whole is a UsageError.
    """
    frames, diverged, trainers = [], [], []
    for (arm, seed), folder in folders.items():
        cell = sweep.cell(folder)
        outcome = cell.outcome()
        if outcome is None:
            raise UsageError(f"{cell.path} is missing or damaged; run the study again")
        frames.append(cell.table("metrics").to_pandas().assign(arm=arm, seed=seed))
        diverged.append({"arm": arm, "seed": seed, "diverged_step": outcome["diverged_step"]})
        trainers.append(outcome.get("trainer"))
    results = xr.merge(_variables(pd.concat(frames, ignore_index=True)), join="outer")
    steps = pd.DataFrame(diverged).set_index(["arm", "seed"]).to_xarray()
    results["diverged_step"] = steps["diverged_step"]
    results["diverged"] = results["diverged_step"] >= 0
    results.attrs["classes"] = classes
    results.attrs["trainers"] = trainers
    order = {"arm": _in_order(arm for arm, _ in folders)}
    order |= _parts(frames)
    return results.reindex({dim: values for dim, values in order.items() if dim in results.dims})


def long_table(results: xr.Dataset) -> pd.DataFrame:
    """The dataset as rows of arm, seed, epoch, metric, dim, part, value; NaN left out."""
    rows = []
    for name, variable in results.data_vars.items():
        frame = variable.astype(float).to_series().dropna().rename("value").reset_index()
        (dim,) = [*(set(variable.dims) - {"arm", "seed", "epoch"}), ""][:1]
        frame["metric"], frame["dim"] = name, dim
        frame["part"] = frame.pop(dim).astype(str) if dim else ""
        rows.append(frame)
    columns = ["arm", "seed", "epoch", "metric", "dim", "part", "value"]
    return pd.concat(rows, ignore_index=True).reindex(columns=columns)


def trained_by(*stages: xr.Dataset) -> list[dict[str, Any]]:
    """Each trainer of their cells once, see `provenance.trainer`, with the number of its `cells`,
    the most frequent first; `code` is None for cells from before it was recorded.
    """
    trainers = [each or {"code": None} for stage in stages for each in stage.attrs["trainers"]]
    counts = Counter(tuple(sorted(each.items())) for each in trainers)
    return [{**dict(each), "cells": cells} for each, cells in counts.most_common()]


def _variables(rows: pd.DataFrame) -> list[xr.Dataset]:
    made = []
    for names, group in rows.groupby(["metric", "dim"], observed=True):
        metric, dim = typing.cast(tuple[str, str], names)
        index = ["arm", "seed", "epoch"]
        if dim:
            parts = group["part"].astype(str)
            group = group.assign(**{dim: parts.astype(float) if dim in NUMERIC else parts})
            index.append(dim)
        made.append(group.set_index(index)[["value"]].to_xarray().rename(value=metric))
    return made


def _parts(frames: Iterable[pd.DataFrame]) -> dict[str, list]:
    """The parts of each dimension, those of the run with the most of them first, as written."""
    found: dict[str, list[list]] = {}
    for rows in frames:
        seen: dict[str, list] = {}
        for dim, part in rows[["dim", "part"]].drop_duplicates().itertuples(index=False):
            seen.setdefault(str(dim), []).append(str(part))
        for dim in seen.keys() - {"", *NUMERIC}:
            found.setdefault(dim, []).append(seen[dim])
    longest_first = {dim: sorted(lists, key=len, reverse=True) for dim, lists in found.items()}
    return {dim: _in_order(itertools.chain(*lists)) for dim, lists in longest_first.items()}


def _in_order(values: Iterable) -> list:
    return list(dict.fromkeys(values))
