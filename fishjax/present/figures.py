"""The figures of a study: learning curves, and what every layer's units and gradients did."""

import io
import math
import pathlib
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fishjax.present.wording import plain, quantity
from fishjax.store import write_atomically

# Okabe and Ito 2008, Color Universal Design, without its yellow, which is too faint for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^Dv<>pP*Xh"
DASHES = ((), (4, 1.5), (1, 1), (5, 1, 1, 1))
NOT_MEASURED = "#d9d9d9"
TEXT_WIDTH = 6.75
ACROSS = 6
DECADES = 6.0
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "savefig.dpi": 300,
    "svg.hashsalt": "fishjax",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "text.parse_math": False,
}
CAPTIONS = {
    "learning_curves": "Accuracy on validation images and training loss of each arm: mean over "
    "seeds; the band reaches from the lowest to the highest seed. Diverged runs are counted in "
    "the legend and left out of the curves.",
    "layer_map": "For each arm, layer by epoch: the share of dead units (mean over seeds) and the "
    "gradient's norm over the weight's (median over seeds). Grey: not measured.",
}


def learning_curves(results: xr.Dataset) -> Figure:
    """Validation accuracy and training loss over epochs, a line per arm and a band over its seeds."""
    arms = [str(name) for name in results["arm"].values]
    columns = 2 if len(arms) < 4 else 3
    rows = math.ceil(len(arms) / columns)
    figure = Figure(figsize=(TEXT_WIDTH, 2.3 + 0.16 * rows), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("val_accuracy", "train_loss"), strict=True):
        for index, arm in enumerate(arms):
            _curve(axes, results[name].sel(arm=arm), _lost(results, arm), index)
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity(name).heading)
        axes.margins(x=0.02)
    handles = [Line2D([], [], linewidth=1.3, markersize=3.5, **_look(i)) for i in range(len(arms))]
    labels = [_short(arm, 34) + _count(_lost(results, arm)) for arm in arms]
    legend = figure.legend(
        handles, [""] * len(arms), loc="outside lower center", ncols=columns, handlelength=4
    )
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)
    return figure


def layer_map(results: xr.Dataset) -> Figure:
    """Small multiples, an arm each: dead units above gradient flow, layer by epoch, shared scales."""
    arms = [str(name) for name in results["arm"].values]
    bands = math.ceil(len(arms) / ACROSS)
    across = math.ceil(len(arms) / bands)
    tall = min(2.6, max(0.9, 0.09 * results.sizes["layer"] + 0.3))
    figure = Figure(figsize=(TEXT_WIDTH, bands * (2 * tall + 0.75)), layout="constrained")
    grid = figure.subplots(2 * bands, across, sharex=True, sharey=True, squeeze=False)
    dead = 100 * results["dead_share"].mean("seed")
    with np.errstate(divide="ignore"):
        flow = np.log10(results["flow"].median("seed"))
    panels = (
        (dead, Normalize(0, 100), "magma_r", "neither", "dead units (%)"),
        (flow, *_decades(flow.values), "log₁₀ flow"),
    )
    for row, axes in enumerate(grid):
        values, norm, colours, extend, label = panels[row % 2]
        shown = arms[row // 2 * across : (row // 2 + 1) * across]
        meshes = [
            _map(ax, values.sel(arm=arm), norm, colours)
            for ax, arm in zip(axes, shown, strict=False)
        ]
        for ax in axes[len(shown) :]:
            ax.set_visible(False)
        for ax, arm in zip(axes, shown, strict=False) if row % 2 == 0 else ():
            ax.set_title(textwrap.fill(_short(arm, 36), 18) + _count(_lost(results, arm), "\n"))
        figure.colorbar(meshes[0], ax=list(axes), label=label, extend=extend, aspect=12)
    _label_layers(grid, [str(name) for name in results["layer"].values])
    return figure


def write_figures(results: xr.Dataset, study: str, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes `figures/*.{svg,pdf}` into a study's folder; equal results give equal bytes."""
    written = []
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    with style():
        for draw in (learning_curves, layer_map):
            name = draw.__name__
            figure = draw(results)
            for kind, metadata in _metadata(f"{study}: {name.replace('_', ' ')}", CAPTIONS[name]).items():
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, metadata=metadata)
                path = folder / "figures" / f"{name}.{kind}"
                write_atomically(path, buffer.getvalue())
                written.append(path)
    return written


@contextmanager
def style() -> Iterator[None]:
    """The look of a paper's figures; names are never read as mathematics, and may lack a glyph."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield
