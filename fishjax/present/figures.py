"""The figures of a study: learning curves, and what every layer's units and gradients did."""

import functools
import math
import pathlib
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

from fishjax.present.curves import learning_curves
from fishjax.present.layers import casualties, dead_percent, log_flow
from fishjax.present.paper import ACROSS, PAGE_HEIGHT, TEXT_WIDTH, write_figure
from fishjax.present.wording import short, titled

DEAD_COLOURS = matplotlib.colormaps["magma_r"]
NOT_MEASURED = "#d9d9d9"
DECADES = 6.0
QUARTILES = (0.0, 0.25, 0.75, 1.0)
EXTENDS = {
    (False, False): "neither",
    (True, False): "min",
    (False, True): "max",
    (True, True): "both",
}
"""A colour bar's ends, by whether values lie below and above it."""
LEAST = -1e3
Panel = tuple[xr.DataArray, Normalize, Colormap, str, str]
"""Values, their scale, its colours, the end at which it is open, and its label."""
CAPTIONS = {
    "learning_curves": "Accuracy on validation images and training loss of each arm: mean over "
    "seeds; the band reaches from the lowest to the highest seed. Diverged runs are counted beside "
    "the arm's name and left out of the curves.",
    "layer_map": "For each arm, layer by epoch: the share of dead units (mean over seeds) and the "
    "gradient's norm over the weight's (median over seeds). Grey: not measured; black flow: none, "
    "or below the scale; white: above it. Diverged runs are counted above the map and left out of "
    "it.",
}


def layer_map(results: xr.Dataset) -> Figure:
    """Small multiples, an arm each: dead units above gradient flow, layer by epoch.

    What was measured in no arm has no row.
    """
    arms = [str(name) for name in results["arm"].values]
    panels = _panels(results)
    deep, bands = len(panels), math.ceil(len(arms) / ACROSS)
    across = math.ceil(len(arms) / bands)
    tall = min(1.75, max(0.9, 0.09 * results.sizes["layer"] + 0.3))
    tall = min(tall, (PAGE_HEIGHT / bands - 0.75) / deep)
    figure = Figure(figsize=(TEXT_WIDTH, bands * (deep * tall + 0.75)), layout="constrained")
    grid = figure.subplots(deep * bands, across, sharex=True, sharey=True, squeeze=False)
    for row, axes in enumerate(grid):
        values, norm, colours, extend, label = panels[row % deep]
        shown = arms[row // deep * across : (row // deep + 1) * across]
        for ax, arm in zip(axes, shown, strict=False):
            _map(ax, values.sel(arm=arm), norm, colours)
            if row % deep == 0:
                title = f"{titled(arm, 86 // across)}\n{casualties(results, arm)}"
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


def _panels(results: xr.Dataset) -> list[Panel]:
    """What is mapped of every arm: dead units, and the flow where it was measured."""
    dead, flow = dead_percent(results), log_flow(results)
    panels: list[Panel] = [(dead, Normalize(0, 100), DEAD_COLOURS, "neither", "dead units (%)")]
    if not np.isnan(flow.values).all():
        panels.append((flow, *_decades(flow.values), "log₁₀ flow"))
    return panels


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
    """One scale for all panels, six decades at most; what is less, or no flow at all, is black.

    It ends at the upper fence of the values (Tukey 1977, Exploratory Data Analysis, section 2D), so
    that an arm that blew up does not blacken the others; what is more is white.
    """
    finite = values[np.isfinite(values)]
    low, lower, upper, high = np.quantile(finite if finite.size else [-1.0, 0.0], QUARTILES)
    high = min(high, upper + 1.5 * (upper - lower))
    floor = max(low, high - DECADES)
    extend = EXTENDS[bool(np.any(values < floor)), bool(np.any(values > high))]
    colours = matplotlib.colormaps["viridis"].with_extremes(under="black", over="white")
    return Normalize(floor, max(high, floor + 0.1)), colours, extend


def _label_layers(grid: npt.NDArray[Any], layers: list[str]) -> None:
    step = math.ceil(len(layers) / 8)
    ticks = range(0, len(layers), step)
    for axes in grid[:, 0]:
        axes.set_yticks(ticks, [short(layers[tick], 10) for tick in ticks])
    for column in grid.T:
        lowest = [axes for axes in column if axes.get_visible()][-1]
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel("epoch")
