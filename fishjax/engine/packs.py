"""Cells in packs of one width and one static signature, and the arrays that feed them."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from fishjax.data.dataset import Dataset
from fishjax.data.splits import Split, split
from fishjax.engine.program import Slots
from fishjax.setup import Hyper, Setup, lower
from fishjax.sweep import Cell


@dataclass(frozen=True)
class Pack:
    """Cells of one setup that run side by side; slots beyond them stay idle."""

    setup: Setup
    cells: tuple[Cell, ...]
    width: int

    @property
    def run_steps(self) -> int:
        """Optimisation steps of all its runs together."""
        return len(self.cells) * self.setup.optim.epochs * self.setup.steps_per_epoch


def pack(cells: Sequence[Cell], classes: int, width: int) -> list[Pack]:
    """The cells in their order, `width` to a pack, each pack of one setup."""
    groups: dict[Setup, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(lower(cell.config, classes)[0], []).append(cell)
    return [
        Pack(setup, tuple(group[first : first + width]), width)
        for setup, group in groups.items()
        for first in range(0, len(group), width)
    ]


def split_of(dataset: Dataset, cell: Cell) -> Split:
    """The cell's training, validation and test examples."""
    data = cell.config.data
    return split(dataset, data.train_size, data.val_size, cell.seed)


def slots(dataset: Dataset, pack: Pack) -> Slots:
    """The pack's runs as arrays; an idle slot repeats the first cell."""
    filled = [*pack.cells, *(pack.cells[:1] * (pack.width - len(pack.cells)))]
    splits = [split_of(dataset, cell) for cell in filled]
    moments = [_moments(dataset.images[part.train]) for part in splits]
    hypers = [lower(cell.config, pack.setup.classes)[1] for cell in filled]
    return Slots(
        active=jnp.arange(pack.width) < len(pack.cells),
        hyper=_stack(hypers),
        key=jax.vmap(jax.random.key)(jnp.asarray([cell.seed for cell in filled], jnp.uint32)),
        train=jnp.asarray(np.stack([part.train for part in splits])),
        val=jnp.asarray(np.stack([part.val for part in splits])),
        test=jnp.asarray(np.stack([part.test for part in splits])),
        mean=jnp.asarray(np.stack([mean for mean, _ in moments])),
        deviation=jnp.asarray(np.stack([deviation for _, deviation in moments])),
    )


def _stack(hypers: Sequence[Hyper]) -> Hyper:
    return jax.tree.map(lambda *leaves: jnp.asarray(leaves, jnp.float32), *hypers)


def _moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel of pixels scaled to [0, 1]."""
    pixels = images.reshape(-1, 3) / 255.0
    deviation = np.maximum(pixels.std(0), 1e-3)
    return pixels.mean(0).astype(np.float32), deviation.astype(np.float32)
