"""Learning curves: all arms in one panel while they can be told apart, else an arm in each."""

import math
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, StrMethodFormatter

from fishjax.present.layers import casualties, lost
from fishjax.present.paper import ACROSS, COLOURS, DASHES, MARKERS, PAGE_HEIGHT, TEXT_WIDTH
from fishjax.present.wording import quantity, short, titled

METRICS = ("val_accuracy", "train_loss")
TOGETHER = 12


def learning_curves(results: xr.Dataset) -> Figure:
    """Validation accuracy and training loss over epochs: a line per arm, a band over its seeds."""
    arms = [str(name) for name in results["arm"].values]
    return (_together if len(arms) <= TOGETHER else _apart)(results, arms)


def _together(results: xr.Dataset, arms: list[str]) -> Figure:
    """Two panels of all arms above their legend."""
    columns = 2 if len(arms) < 4 else 3
    rows = math.ceil(len(arms) / columns)
    figure = Figure(figsize=(TEXT_WIDTH, 2.3 + 0.16 * rows), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), METRICS, strict=True):
        for index, arm in enumerate(arms):
            _curve(axes, results, name, arm, index, min(0.13, 0.7 / len(arms)))
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity(name).heading)
        _scaled(axes, results, name)
    handles = [Line2D([], [], linewidth=1.3, markersize=3.5, **_look(i)) for i in range(len(arms))]
    labels = [f"{short(arm, 34)} {casualties(results, arm)}".strip() for arm in arms]
    legend = figure.legend(
        handles, [""] * len(arms), loc="outside lower center", ncols=columns, handlelength=4
    )
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)
    return figure


def _apart(results: xr.Dataset, arms: list[str]) -> Figure:
    """Small multiples, an arm each: accuracy above loss, on the same axes for all."""
    bands = math.ceil(len(arms) / ACROSS)
    across = math.ceil(len(arms) / bands)
    height = bands * min(2.6, PAGE_HEIGHT / bands)
    figure = Figure(figsize=(TEXT_WIDTH, height), layout="constrained")
    grid = figure.subplots(len(METRICS) * bands, across, sharex=True, squeeze=False)
    for row, axes in enumerate(grid):
        band, kind = divmod(row, len(METRICS))
        shown = arms[band * across : (band + 1) * across]
        for ax, arm in zip(axes, shown, strict=False):
            ax.sharey(grid[kind, 0])
            _curve(ax, results, METRICS[kind], arm, 0, 0.3)
            _scaled(ax, results, METRICS[kind])
            ax.tick_params(length=2, labelleft=ax is axes[0])
            if kind == 0:
                ax.set_title(f"{titled(arm, 86 // across)}\n{casualties(results, arm)}".strip())
        axes[0].set_ylabel(quantity(METRICS[kind]).heading.replace(" ", "\n", 1))
        for ax in axes[len(shown) :]:
            ax.set_visible(False)
    for column in grid.T:
        lowest = [axes for axes in column if axes.get_visible()][-1]
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel("epoch")
    return figure


def _scaled(axes: Axes, results: xr.Dataset, name: str) -> None:
    """A loss falls over decades."""
    axes.margins(x=0.02)
    if name == "train_loss" and bool((results[name] > 0).any()):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=5))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.minorticks_off()


def _curve(axes: Axes, results: xr.Dataset, name: str, arm: str, index: int, faint: float) -> None:
    """Draws one arm over the seeds that are not lost, where it was measured."""
    values = quantity(name).scale * results[name].sel(arm=arm)
    kept = values.isel(seed=np.flatnonzero(~lost(results, arm))).dropna("epoch", how="all")
    if not kept.size:
        return
    look, epochs = _look(index), kept["epoch"].values
    every = max(1, len(epochs) // 8)
    axes.fill_between(
        epochs, kept.min("seed"), kept.max("seed"), color=look["color"], alpha=faint, linewidth=0
    )
    offset = index % every
    axes.plot(
        epochs, kept.mean("seed"), linewidth=1.3, markersize=3.5, markevery=(offset, every), **look
    )


def _look(index: int) -> dict[str, Any]:
    """Colour, marker and dashes of the arm at `index`; no two of 84 arms share all three."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "dashes": DASHES[index % len(DASHES)],
    }
