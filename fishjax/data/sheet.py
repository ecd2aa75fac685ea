"""Contact sheets: a look at the source, and at what corruptions make of it."""

import dataclasses
import io
import pathlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

from fishjax.data.dataset import Dataset
from fishjax.data.pool import Ask, Pool
from fishjax.files import write_atomically
from fishjax.sections import Data

COLUMNS, LARGEST = 8, 96
SHOWN = {
    "train": {
        "label_noise": ("label_noise_kind",),
        "twins": (),
        "cue": ("cue_share",),
        "resolution": (),
    },
    "test": {"twins": (), "resolution": (), "channel_shift": ()},
}
"""By split: the corruptions that can be seen in it, and the fields that say how."""


def write_samples(dataset: Dataset, asks: Iterable[Ask], folder: pathlib.Path) -> None:
    """Writes `species.png`, a row of first images of the source for each species, and what runs are
    shown where that looks different: for each distinct corruption among `asks`
    `train-CORRUPTION.png` or `test-CORRUPTION.png`, of the lowest seed.

    A row then holds what runs are told is that species. Enlarged, not smoothed.
    """
    folder.mkdir(exist_ok=True)
    every = len(dataset.species)
    _write(folder / "species.png", dataset.images, dataset.labels, every)
    chosen: dict[str, tuple[str, Ask]] = {}
    for data, seed in sorted(asks, key=lambda ask: ask[1]):
        for split in SHOWN:
            if name := _corruption(data, split):
                chosen.setdefault(f"{split}-{name}", (split, (data, seed)))
    pool = Pool(dataset, (ask for _, ask in chosen.values()))
    for name, (split, ask) in chosen.items():
        rows = getattr(pool.rows[ask], split)
        _write(folder / f"{name}.png", pool.images[rows], pool.labels[rows], every)


def _corruption(data: Data, split: str) -> str:
    """`cue=border-resolution=8`: what is seen in a split, and how; empty where nothing is."""
    default = {field.name: field.default for field in dataclasses.fields(Data)}
    said = []
    for name, more in SHOWN[split].items():
        if getattr(data, name) != default[name]:
            fields = [name, *(f for f in more if getattr(data, f) != default[f])]
            said += [f"{field}={getattr(data, field)}" for field in fields]
    return "-".join(said)


def _write(path: pathlib.Path, images: np.ndarray, labels: np.ndarray, species: int) -> None:
    sheet = Image.fromarray(np.concatenate([_row(images[labels == k]) for k in range(species)]))
    zoom = max(1, LARGEST // images.shape[1])
    size = (sheet.width * zoom, sheet.height * zoom)
    png = io.BytesIO()
    sheet.resize(size, Image.Resampling.NEAREST).save(png, "PNG")
    write_atomically(path, png.getvalue())


def _row(images: np.ndarray) -> np.ndarray:
    """`[height, COLUMNS * width, 3]`, black where a species has fewer images."""
    chosen = np.zeros((COLUMNS, *images.shape[1:]), np.uint8)
    chosen[: len(images)] = images[:COLUMNS]
    return np.concatenate(list(chosen), axis=1)
