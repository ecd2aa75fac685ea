"""A study's outcome as plain text for a terminal of 80 columns or more."""

import io
import pathlib
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table as Grid

from fishjax.present import phrases
from fishjax.present.layers import dead_percent, log_flow, lost
from fishjax.present.table import Table
from fishjax.present.tables import ablation_table, scenario_table
from fishjax.present.wording import COUNT, MINUS, P_VALUE, Quantity, plain

WIDEST = 100
STRIP = 16
LABEL = 12
LEVELS = "·▁▂▃▄▅▆▇█"
PERCENT = Quantity("dead units", "%", decimals=0)
DECADES = Quantity("flow", decimals=2)
SECONDS = Quantity("time", "s", decimals=1)
FILES = ("summary.json", "results.parquet", "tables", "figures", "samples", "cells")


def render(
    summary: Mapping[str, Any],
    results: xr.Dataset,
    folder: pathlib.Path,
    width: int | None = None,
) -> str:
    """Scenario, ablation, layers, verdicts, placebos and files; width None is the terminal's."""
    width = width or min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    sections = (
        _heading(summary, width),
        *_scenarios(summary, width),
        _ablation(summary, width),
        _layers(results, width),
        _claims(summary, width),
        _placebos(summary, width),
        _ending(summary, folder, width),
    )
    return "\n\n".join("\n".join(lines) for lines in map(list, sections) if lines) + "\n"


def _heading(summary: Mapping[str, Any], width: int) -> list[str]:
    data, seeds = summary["data"], summary["seeds"]
    about = f"{summary['study']} on {data['spec']}, {len(seeds)} seeds, data {data['hash'][:8]}"
    return _wrapped(plain(about), width)


def _scenarios(summary: Mapping[str, Any], width: int) -> Iterator[list[str]]:
    for scenario in summary["scenarios"]:
        outcome = "reproduced" if scenario["reproduced"] else "not reproduced"
        table = scenario_table({**summary, "scenarios": [scenario]})
        title = plain(f"Scenario {scenario['id']}, {outcome}: {scenario['text']}")
        yield [*_wrapped(title, width), *_grid(table, range(1, len(table.columns)), width)]


def _ablation(summary: Mapping[str, Any], width: int) -> list[str]:
    """The ablation table, in as many blocks below one another as its columns need."""
    table = ablation_table(summary)
    broken = [f"{arm['n_diverged']} of {arm['n']} runs of {plain(arm['name'])}"
              for arm in summary["arms"] if arm["n_diverged"]]
    fixed = [0, 1, 2] if broken else [0, 1]
    lines = ["Ablation: mean over n seeds [95 % interval]"]
    for block in _blocks(table, fixed, width):
        lines += _grid(table, [*fixed, *block], width)
    if broken:
        lines += _wrapped(f"Diverged, and counted as chance: {', '.join(broken)}.", width)
    return lines


def _layers(results: xr.Dataset, width: int) -> list[str]:
    """Each arm's layers, a row each, in as many arms side by side as fit."""
    dead, flow = dead_percent(results), log_flow(results)
    pictures = [
        _picture(dead.sel(arm=arm), flow.sel(arm=arm), str(arm), lost(results, arm))
        for arm in results["arm"].values
    ]
    wide = max(cell_len(line) for picture in pictures for line in picture)
    across = max(1, (width + 1) // (wide + 3))
    epochs = dead["epoch"].values
    title = (
        f"Layers: dead units over epochs {epochs[0]:g} to {epochs[-1]:g} ({LEVELS[0]} none, "
        f"{LEVELS[-1]} all) and at the end, then log₁₀ of gradient norm over weight norm at the end"
    )
    lines = _wrapped(title, width)
    for start in range(0, len(pictures), across):
        row = pictures[start : start + across]
        lines += [
            "  " + "   ".join(set_cell_size(cell, wide) for cell in cells).rstrip()
            for cells in zip(*row, strict=True)
        ]
    return lines


def _picture(dead: xr.DataArray, flow: xr.DataArray, arm: str, gone: np.ndarray) -> list[str]:
    """The arm's name and a row per layer; `dead` and `flow` are `[epoch, layer]`."""
    count = f" ({gone.sum()} of {len(gone)} diverged)" if gone.any() else ""
    names = [plain(str(name)) for name in dead["layer"].values]
    label = min(LABEL, max(map(cell_len, names)))
    dead, flow = dead.dropna("epoch", how="all"), flow.dropna("epoch", how="all")
    lines = [plain(arm)[: 38 - len(count)] + count]
    for index, name in enumerate(names):
        shares, flows = dead.values[:, index], flow.values[:, index]
        share, last = (PERCENT.with_unit(PERCENT.text(shares[-1])) if len(shares) else "–"), (
            DECADES.text(flows[-1]) if len(flows) else "–")
        lines.append(f"{set_cell_size(name, label)} {_strip(shares):{STRIP}} {share:>5} {last:>6}")
    return lines


def _strip(shares: np.ndarray) -> str:
    """At most STRIP characters for per cents `[epoch]`, blank where not measured."""
    if not len(shares):
        return ""
    chosen = np.linspace(0, len(shares) - 1, min(STRIP, len(shares))).round().astype(int)
    steps = np.ceil(shares[chosen] / 100 * (len(LEVELS) - 1))
    return "".join(" " if np.isnan(step) else LEVELS[int(step)] for step in steps)
