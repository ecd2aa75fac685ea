"""The pieces of a run, mapped over the slots of a pack and compiled once per static signature."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from fishjax import train
from fishjax.engine.devices import run_mesh
from fishjax.feed import Feed
from fishjax.setup import Hyper, Setup

RunMapping = Literal["map", "vmap"]
Piece = Callable[..., Any]


class Slots(NamedTuple):
    """The runs of a pack, every leaf `[run, ...]`. active: False in an idle slot."""

    active: jax.Array
    hyper: Hyper
    key: jax.Array
    train: jax.Array
    val: jax.Array
    test: jax.Array
    mean: jax.Array
    deviation: jax.Array


class Shared(NamedTuple):
    """What all runs read: the pool of images and its labels, and, where some are flipped, the clean
    ones.
    """

    pool: jax.Array
    labels: jax.Array
    clean: jax.Array | None = None


def default_mapping() -> RunMapping:
    """`map` on a CPU, where one dense convolution at a time is fastest; `vmap` elsewhere."""
    return "map" if jax.default_backend() == "cpu" else "vmap"


@dataclass
class Program:
    """Compiled `begin`, `advance`, `assess` and `finish` of one setup at one pack width.

    compile_s: seconds spent compiling so far.
    """

    setup: Setup
    mapping: RunMapping
    compile_s: float = 0.0

    def __post_init__(self) -> None:
        self._compiled: dict[str, Piece] = {}

    def begin(self, shared: Shared, slots: Slots) -> Any:
        return self._call("begin", _begin, shared, slots)

    def advance(self, shared: Shared, slots: Slots, state: train.State) -> Any:
        return self._call("advance", _advance, shared, slots, state)

    def assess(self, shared: Shared, slots: Slots, state: train.State) -> Any:
        return self._call("assess", _assess, shared, slots, state)

    def finish(self, shared: Shared, slots: Slots, state: train.State) -> Any:
        return self._call("finish", _finish, shared, slots, state)

    def _call(self, name: str, piece: Piece, *args: Any) -> Any:
        if name not in self._compiled:
            start = time.monotonic()
            lowered = self.lower(piece, *args)
            self._compiled[name] = lowered.compile()
            self.compile_s += time.monotonic() - start
        return self._compiled[name](*args)

    def lower(self, piece: Piece, shared: Shared, slots: Slots, *rest: Any) -> Any:
        """The piece lowered for the run axis, spread over the devices; nothing is communicated."""
        along, everywhere = PartitionSpec("run"), PartitionSpec()
        mapped = _over_runs(functools.partial(piece, self.setup), self.mapping)
        spread = jax.shard_map(
            mapped,
            mesh=run_mesh(len(slots.active)),
            in_specs=(everywhere, along, *(along for _ in rest)),
            out_specs=along,
            check_vma=False,
        )
        return jax.jit(spread).lower(shared, slots, *rest)


def _over_runs(piece: Piece, mapping: RunMapping) -> Piece:
    """`piece(shared, slot, ...)` over the leading axis of all but the first argument."""

    def mapped(shared: Shared, slots: Slots, *rest: Any) -> Any:
        def one(per_run: tuple) -> Any:
            return piece(shared, *per_run)

        if mapping == "vmap":
            return jax.vmap(one)((slots, *rest))

        def unless_idle(per_run: tuple) -> Any:
            blank = jax.tree.map(
                lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(one, per_run)
            )
            return lax.cond(per_run[0].active, one, lambda _: blank, per_run)

        return lax.map(unless_idle, (slots, *rest))

    return mapped


def _feed(shared: Shared, slot: Slots) -> Feed:
    pool, labels, clean = shared
    return Feed(pool, labels, slot.train, slot.val, slot.test, slot.mean, slot.deviation, clean)


def _begin(setup: Setup, shared: Shared, slot: Slots) -> Any:
    return train.begin(setup, slot.hyper, slot.key)


def _advance(setup: Setup, shared: Shared, slot: Slots, state: train.State) -> Any:
    return train.advance(setup, slot.hyper, slot.key, _feed(shared, slot), state)


def _assess(setup: Setup, shared: Shared, slot: Slots, state: train.State) -> Any:
    return train.assess(setup, slot.hyper, _feed(shared, slot), state)


def _finish(setup: Setup, shared: Shared, slot: Slots, state: train.State) -> Any:
    return train.finish(setup, slot.hyper, slot.key, _feed(shared, slot), state)
