"""A figure on paper: the look that all of them share, and the files of one."""

import io
import pathlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from fishjax.files import write_atomically
from fishjax.present.wording import plain

# Okabe and Ito 2008, Color Universal Design, without its yellow, which is too faint for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^Dv<>pP*Xh"
DASHES = ((), (4, 1.5), (1, 1), (5, 1, 1, 1))
TEXT_WIDTH, PAGE_HEIGHT = 6.75, 9.0
"""Inches."""
ACROSS = 6
"""Panels beside one another, at most."""
STYLE: dict[Any, Any] = {
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


@contextmanager
def style() -> Iterator[None]:
    """The look of a paper's figures; names are never read as mathematics, and may lack a glyph."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def write_figure(
    draw: Callable[[], Figure], folder: pathlib.Path, name: str, title: str, caption: str
) -> list[pathlib.Path]:
    """Writes what `draw` makes as `folder/NAME.{svg,pdf}`; equal figures give equal bytes.

    It is laid out once for both: the layout takes most of the time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {
        "svg": {"Title": plain(title), "Description": caption, "Date": None},
        "pdf": {"Title": plain(title), "Subject": caption, "CreationDate": None},
    }
    written = []
    with style():
        figure = draw()
        figure.draw_without_rendering()
        figure.set_layout_engine(None)
        for kind, about in metadata.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=about)
            written.append(folder / f"{name}.{kind}")
            write_atomically(written[-1], buffer.getvalue())
    return written
