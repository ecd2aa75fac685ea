"""Cells in packs of one width and one static signature, and the arrays that feed them."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from fishjax.data.pool import Ask, Pool
from fishjax.engine.program import Slots
from fishjax.sections import Data
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


def ask_of(cell: Cell) -> Ask:
    """What the cell wants of a pool."""
    return cell.config.data, cell.seed


def slots(pool: Pool, pack: Pack) -> Slots:
    """The pack's runs as arrays, their indices into the pool; an idle slot repeats the first cell.

    Raises KeyError for a cell the pool was not made for.
    """
    filled = [*pack.cells, *(pack.cells[:1] * (pack.width - len(pack.cells)))]
    rows = [pool.rows[ask_of(cell)] for cell in filled]
    moments = [
        _moments(cell.config.data, pool.images[own.train])
        for cell, own in zip(filled, rows, strict=True)
    ]
    hypers = [lower(cell.config, pack.setup.classes)[1] for cell in filled]
    return Slots(
        active=jnp.arange(pack.width) < len(pack.cells),
        hyper=_stack(hypers),
        key=jax.vmap(jax.random.key)(jnp.asarray([cell.seed for cell in filled], jnp.uint32)),
        train=jnp.asarray(np.stack([own.train for own in rows])),
        val=jnp.asarray(np.stack([own.val for own in rows])),
        test=jnp.asarray(np.stack([own.test for own in rows])),
        mean=jnp.asarray(np.stack([mean for mean, _ in moments])),
        deviation=jnp.asarray(np.stack([deviation for _, deviation in moments])),
    )


def _stack(hypers: Sequence[Hyper]) -> Hyper:
    return jax.tree.map(lambda *leaves: jnp.asarray(leaves, jnp.float32), *hypers)


def _moments(data: Data, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel of pixels scaled to [0, 1].

    Where inputs are not normalised, those that leave pixels as they are, 0 to 255.
    """
    if data.normalise == "no":
        return np.zeros(3, np.float32), np.full(3, 1 / 255, np.float32)
    pixels = images.reshape(-1, 3) / 255.0
    deviation = np.maximum(pixels.std(0), 1e-3)
    return pixels.mean(0).astype(np.float32), deviation.astype(np.float32)
