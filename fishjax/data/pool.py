"""One array of images for many runs: the source's own, then whatever corruptions made of them."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from fishjax.data.corruptions import Part, View, view
from fishjax.data.dataset import Dataset
from fishjax.data.pixels import Look, render
from fishjax.sections import Data

Ask = tuple[Data, int]
"""What a run asks for: its section `data` and its seed."""


class Rows(NamedTuple):
    """Where the images of one run lie in the pool, int32 `[image]`."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


class Pool:
    """Every image that runs are fed, with the one label it is fed under.

    images: uint8 `[row, height, width, 3]`. labels: int32 `[row]`. clean: int32 `[row]`, the labels
    of the source; None where no label was flipped. The source comes first, row by row, and is all
    there is where nothing is corrupted; then, in the order of `asks`, each other pair of pixels and
    label that some run is shown, once.

    Raises what `corruptions.view` raises.
    """

    def __init__(self, dataset: Dataset, asks: Iterable[Ask]) -> None:
        self.dataset = dataset
        self.views: dict[Ask, View] = {}
        self.rows: dict[Ask, Rows] = {}
        self._made: dict[Look, dict[tuple[int, int, int], int]] = {}
        self._count = len(dataset.labels)
        for ask in dict.fromkeys(asks):
            self.views[ask] = shown = view(dataset, *ask)
            self.rows[ask] = Rows(*(self._rows(part) for part in shown))
        self.images, self.labels = dataset.images, dataset.labels
        self.clean: np.ndarray | None = None
        if self._made:
            images, labels, clean = self._make()
            self.images = np.concatenate([dataset.images, images])
            self.labels = np.concatenate([dataset.labels, labels])
            if (clean != labels).any():
                self.clean = np.concatenate([dataset.labels, clean])

    def _rows(self, part: Part) -> np.ndarray:
        """Finds, or makes room for, every image of a part."""
        rows = part.example.copy()
        twin = part.partner >= 0
        for blend, cue in ((False, False), (False, True), (True, False), (True, True)):
            look = Look(
                part.look.twins * blend,
                part.look.cue if cue else "none",
                part.look.resolution,
                part.look.shift,
            )
            here = (twin == blend) & (part.cued == cue)
            if look == Look():
                here &= part.label != self.dataset.labels[part.example]
            for place in np.flatnonzero(here).tolist():
                rows[place] = self._row(look, part, place)
        return rows

    def _row(self, look: Look, part: Part, place: int) -> int:
        known = self._made.setdefault(look, {})
        key = (int(part.example[place]), int(part.partner[place]), int(part.label[place]))
        if key not in known:
            known[key] = self._count
            self._count += 1
        return known[key]

    def _make(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The images, labels and clean labels of the rows behind the source's own."""
        own = len(self.dataset.labels)
        images = np.empty((self._count - own, *self.dataset.images.shape[1:]), np.uint8)
        labels, clean = np.empty((2, len(images)), np.int32)
        for look, known in self._made.items():
            rows = np.array([*known.values()]) - own
            example, partner, label = np.array([*known]).T
            images[rows] = render(self.dataset, look, example, partner)
            labels[rows], clean[rows] = label, self.dataset.labels[example]
        return images, labels, clean
