"""Contact sheets: a look at what a study trains on."""

import io
import pathlib

import numpy as np
from PIL import Image

from fishjax.data.dataset import Dataset
from fishjax.store import write_atomically

COLUMNS, LARGEST = 8, 96


def write_samples(dataset: Dataset, folder: pathlib.Path) -> None:
    """Writes `species.png`: a row of first images for each species, enlarged, not smoothed."""
    rows = [_row(dataset.images[dataset.labels == k]) for k in range(len(dataset.species))]
    sheet = Image.fromarray(np.concatenate(rows))
    zoom = max(1, LARGEST // dataset.images.shape[1])
    folder.mkdir(exist_ok=True)
    size = (sheet.width * zoom, sheet.height * zoom)
    png = io.BytesIO()
    sheet.resize(size, Image.Resampling.NEAREST).save(png, "PNG")
    write_atomically(folder / "species.png", png.getvalue())


def _row(images: np.ndarray) -> np.ndarray:
    """`[height, COLUMNS * width, 3]`, black where a species has fewer images."""
    chosen = np.zeros((COLUMNS, *images.shape[1:]), np.uint8)
    chosen[: len(images)] = images[:COLUMNS]
    return np.concatenate(list(chosen), axis=1)
