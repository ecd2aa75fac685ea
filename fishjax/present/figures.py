"""The figures of a study: learning curves, and what every layer's units and gradients did."""

import functools
import math
import pathlib
import textwrap
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fishjax.present.layers import casualties, dead_percent, log_flow, lost
from fishjax.present.paper import COLOURS, DASHES, MARKERS, write_figure
from fishjax.present.wording import plain, quantity

DEAD_COLOURS = matplotlib.colormaps["magma_r"]
NOT_MEASURED = "#d9d9d9"
TEXT_WIDTH = 6.75
ACROSS = 6
DECADES = 6.0
LEAST = -1e3
CAPTIONS = {
    "learning_curves": "Accuracy on validation images and training loss of each arm: mean over "
    "seeds; the band reaches from the lowest to the highest seed. Diverged runs are counted in "
    "the legend and left out of the curves.",
    "layer_map": "For each arm, layer by epoch: the share of dead units (mean over seeds) and the "
    "gradient's norm over the weight's (median over seeds). Grey: not measured; black flow: none, "
    "or below the scale. Diverged runs are counted above the map and left out of it.",
}


def learning_curves(results: xr.Dataset) -> Figure:
    """Validation accuracy and training loss over epochs: a line per arm, a band over its seeds."""
    arms = [str(name) for name in results["arm"].values]
    columns = 2 if len(arms) < 4 else 3
    rows = math.ceil(len(arms) / columns)
    figure = Figure(figsize=(TEXT_WIDTH, 2.3 + 0.16 * rows), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("val_accuracy", "train_loss"), strict=True):
        for index, arm in enumerate(arms):
            values = quantity(name).scale * results[name].sel(arm=arm)
            _curve(axes, values, lost(results, arm), index, min(0.13, 0.7 / len(arms)))
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity(name).heading)
        axes.margins(x=0.02)
    handles = [Line2D([], [], linewidth=1.3, markersize=3.5, **_look(i)) for i in range(len(arms))]
    labels = [f"{_short(arm, 34)} {casualties(results, arm)}".strip() for arm in arms]
    legend = figure.legend(
        handles, [""] * len(arms), loc="outside lower center", ncols=columns, handlelength=4
    )
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)
    return figure


def layer_map(results: xr.Dataset) -> Figure:
    """Small multiples, an arm each: dead units above gradient flow, layer by epoch."""
    arms = [str(name) for name in results["arm"].values]
    bands = math.ceil(len(arms) / ACROSS)
    across = math.ceil(len(arms) / bands)
    tall = min(1.75, max(0.9, 0.09 * results.sizes["layer"] + 0.3))
    figure = Figure(figsize=(TEXT_WIDTH, bands * (2 * tall + 0.75)), layout="constrained")
    grid = figure.subplots(2 * bands, across, sharex=True, sharey=True, squeeze=False)
    flow = log_flow(results)
    panels = (
        (dead_percent(results), Normalize(0, 100), DEAD_COLOURS, "neither", "dead units (%)"),
        (flow, *_decades(flow.values), "log₁₀ flow"),
    )
    for row, axes in enumerate(grid):
        values, norm, colours, extend, label = panels[row % 2]
        shown = arms[row // 2 * across : (row // 2 + 1) * across]
        for ax, arm in zip(axes, shown, strict=False):
            _map(ax, values.sel(arm=arm), norm, colours)
            if row % 2 == 0:
                title = f"{_title(arm, 86 // across)}\n{casualties(results, arm)}"
                ax.set_title(title.strip())
        for ax in axes[len(shown) :]:
            ax.set_visible(False)
        scale = ScalarMappable(norm, colours)
        figure.colorbar(scale, ax=list(axes), label=label, extend=extend, aspect=12)
    _label_layers(grid, [str(name) for name in results["layer"].values])
    return figure


def write_figures(
    summary: Mapping[str, Any], results: xr.Dataset, folder: pathlib.Path
) -> list[pathlib.Path]:
    """Writes every figure as `folder/NAME.{svg,pdf}`; equal results give equal bytes."""
    written = []
    for draw in (learning_curves, layer_map):
        name = draw.__name__
        title = f"{summary['study']}: {name.replace('_', ' ')}"
        make = functools.partial(draw, results)
        written += write_figure(make, folder, name, title, CAPTIONS[name])
    return written


def _curve(
    axes: Axes, values: xr.DataArray, gone: npt.NDArray[np.bool_], index: int, faint: float
) -> None:
    """Draws `values`, `[seed, epoch]`, of the seeds that are not lost, where they were measured."""
    kept = values.isel(seed=np.flatnonzero(~gone)).dropna("epoch", how="all")
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


def _map(axes: Axes, values: xr.DataArray, norm: Normalize, colours: Colormap) -> None:
    """Draws `values`, `[epoch, layer]`, first layer on top, without epochs never measured."""
    first, last = values["epoch"].values[[0, -1]]
    axes.set_xlim(first - 0.5, last + 0.5)
    values = values.dropna("epoch", how="all")
    epochs, layers = values["epoch"].values.astype(float), values.sizes["layer"]
    cells = values.transpose("layer", "epoch").values
    axes.set_facecolor(NOT_MEASURED)
    axes.set_ylim(layers - 0.5, -0.5)
    axes.tick_params(length=2)
    if len(epochs):
        borders = np.arange(layers + 1) - 0.5
        shown = np.ma.masked_where(np.isnan(cells), np.maximum(cells, LEAST))
        axes.pcolormesh(_edges(epochs), borders, shown, norm=norm, cmap=colours, rasterized=True)


def _edges(epochs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The borders of cells centred on the epochs: `[epoch]` -> `[epoch + 1]`."""
    if len(epochs) < 2:
        return np.concatenate([epochs - 0.5, epochs[-1:] + 0.5])
    middles = (epochs[1:] + epochs[:-1]) / 2
    ends = 2 * epochs[[0, -1]] - middles[[0, -1]]
    return np.concatenate([ends[:1], middles, ends[1:]])


def _decades(values: npt.NDArray[np.float64]) -> tuple[Normalize, Colormap, str]:
    """One scale for all panels, six decades at most; what is less, or no flow at all, is black."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (-1.0, 0.0)
    floor = max(low, high - DECADES)
    extend = "min" if np.any(values < floor) else "neither"
    colours = matplotlib.colormaps["viridis"].with_extremes(under="black")
    return Normalize(floor, max(high, floor + 0.1)), colours, extend


def _label_layers(grid: npt.NDArray[Any], layers: list[str]) -> None:
    step = math.ceil(len(layers) / 8)
    ticks = range(0, len(layers), step)
    for axes in grid[:, 0]:
        axes.set_yticks(ticks, [_short(layers[tick], 10) for tick in ticks])
    for column in grid.T:
        lowest = [axes for axes in column if axes.get_visible()][-1]
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel("epoch")


def _look(index: int) -> dict[str, Any]:
    """Colour, marker and dashes of the arm at `index`; no two of 84 arms share all three."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "dashes": DASHES[index % len(DASHES)],
    }


def _title(arm: str, width: int) -> str:
    """The name in lines of at most `width`, broken at blanks and after underscores."""
    return textwrap.fill(_short(arm, 2 * width).replace("_", "_ "), width).replace("_ ", "_")


def _short(name: str, width: int) -> str:
    name = plain(name)
    return name if len(name) <= width else name[: width - 1] + "…"
