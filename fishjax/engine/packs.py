"""Cells in packs of one width and one static signature, and the arrays that feed them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from fishjax.data.pool import Ask, Pool
from fishjax.engine.devices import run_mesh
from fishjax.engine.program import Shared, Slots
from fishjax.sections import Data
from fishjax.setup import Hyper, Setup, lower
from fishjax.sweep import Cell


@dataclass(frozen=True)
class Pack:
    """Cells of one setup that run side by side, in slots of which the others stay idle."""

    setup: Setup
    cells: tuple[Cell, ...]
    width: int

    @property
    def run_steps(self) -> int:
        """Optimisation steps of all its runs together."""
        return len(self.cells) * self.setup.optim.epochs * self.setup.steps_per_epoch

    @property
    def slots(self) -> list[int]:
        """The slot of each cell: dealt in turn to the devices, whose slots lie in a row."""
        devices = run_mesh(self.width).devices.size
        each = self.width // devices
        return [k % devices * each + k // devices for k in range(len(self.cells))]

    def narrowed(self, width: int) -> "list[Pack]":
        """The same cells in their order, `width` to a pack."""
        return [
            Pack(self.setup, self.cells[first : first + width], width)
            for first in range(0, len(self.cells), width)
        ]


def pack(cells: Sequence[Cell], classes: int, width: int) -> list[Pack]:
    """The cells in their order, `width` to a pack, each pack of one setup, the dearest setup first.

    Then what does not fit in memory shows at once, the long run hides the compilation of the next
    setup, and shards that take packs in turn end at about the same time.
    """
    groups: dict[Setup, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(lower(cell.config, classes)[0], []).append(cell)
    whole = [Pack(setup, tuple(group), len(group)) for setup, group in groups.items()]
    whole.sort(key=_cost, reverse=True)
    return [each for group in whole for each in group.narrowed(width)]


def _cost(pack: Pack) -> int:
    """Roughly the multiplications of all its steps: those of 3 x 3 convolutions, none pooled."""
    model = pack.setup.model
    channels = (3, *model.channels)
    per_pixel = 9 * sum(a * b for a, b in itertools.pairwise(channels))
    return pack.run_steps * pack.setup.optim.batch_size * pack.setup.data.image_size**2 * per_pixel


def ask_of(cell: Cell) -> Ask:
    """What the cell wants of a pool."""
    return cell.config.data, cell.seed


def shared(pool: Pool) -> Shared:
    """The pool as arrays."""
    clean = None if pool.clean is None else jnp.asarray(pool.clean)
    return Shared(jnp.asarray(pool.images), jnp.asarray(pool.labels), clean)


def slots(pool: Pool, pack: Pack) -> Slots:
    """The pack's runs as arrays, their indices into the pool; an idle slot repeats the first cell.

    Raises KeyError for a cell the pool was not made for.
    """
    taken = dict(zip(pack.slots, pack.cells, strict=True))
    filled = [taken.get(slot, pack.cells[0]) for slot in range(pack.width)]
    asks = [ask_of(cell) for cell in filled]
    rows = [pool.rows[ask] for ask in asks]
    of = {ask: _moments(ask[0], pool.images[pool.rows[ask].train]) for ask in dict.fromkeys(asks)}
    moments = [of[ask] for ask in asks]
    hypers = [lower(cell.config, pack.setup.classes)[1] for cell in filled]
    return Slots(
        active=jnp.asarray([slot in taken for slot in range(pack.width)]),
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
