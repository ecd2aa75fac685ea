"""The pieces of a run, mapped over the slots of a pack and compiled once per static signature."""

import functools
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fishjax import train
from fishjax.engine.devices import run_mesh
from fishjax.feed import Feed
from fishjax.nn.lowering import Kernels, lowered_by
from fishjax.nn.lowerings.canonical import CANONICAL
from fishjax.nn.lowerings.closed_block import closed_block
from fishjax.setup import Hyper, Setup

RunMapping = Literal["map", "vmap"]
XLA = Kernels(lambda geometry: CANONICAL, closed_block)
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

    They compute with `kernels`. Each is compiled once: ahead of its first call where `ahead` was
    called, else at that call.
    waited_s: seconds that calls have waited for compilation so far.
    """

    setup: Setup
    mapping: RunMapping
    kernels: Kernels = XLA
    waited_s: float = 0.0

    def __post_init__(self) -> None:
        self._compiled: dict[str, Future[_Compiled]] = {}
        self._spread: dict[tuple[Piece, Mesh], Any] = {}

    @property
    def compile_s(self) -> float:
        """Seconds that compiling has taken so far, in whatever thread."""
        done = [each for each in self._compiled.values() if each.done() and not each.cancelled()]
        return sum(each.result().seconds for each in done if each.exception() is None)

    def begin(self, shared: Shared, slots: Slots) -> Any:
        return self._call("begin", shared, slots)

    def advance(self, shared: Shared, slots: Slots, state: train.State) -> Any:
        return self._call("advance", shared, slots, state)

    def assess(self, shared: Shared, slots: Slots, state: train.State) -> Any:
        return self._call("assess", shared, slots, state)

    def finish(self, shared: Shared, slots: Slots, state: train.State) -> Any:
        return self._call("finish", shared, slots, state)

    def ahead(self, threads: Executor, shared: Shared, slots: Slots) -> None:
        """Begins to compile all four in `threads`, for a pool and a pack of these shapes."""
        for name, arguments in self.arguments(shared, slots).items():
            if name not in self._compiled:
                self._compiled[name] = threads.submit(self._compile, name, *arguments)

    def arguments(self, shared: Shared, slots: Slots) -> dict[str, tuple]:
        """By name, in the order of their first calls, what the pieces take; the state as shapes."""
        state = self.trace(_begin, shared, slots).out_info
        three = (shared, slots, state)
        return {"begin": three[:2], "assess": three, "advance": three, "finish": three}

    def _call(self, name: str, *args: Any) -> Any:
        start = time.monotonic()
        if name not in self._compiled:
            self._compiled[name] = Future()
            self._compiled[name].set_result(self._compile(name, *args))
        piece = self._compiled[name].result().piece
        self.waited_s += time.monotonic() - start
        return piece(*args)

    def _compile(self, name: str, *args: Any) -> "_Compiled":
        start = time.monotonic()
        piece = self.lower(PIECES[name], *args).compile(compiler_options=_options(name))
        return _Compiled(piece, time.monotonic() - start)

    def lower(self, piece: Piece, shared: Shared, slots: Slots, *rest: Any) -> Any:
        """The piece lowered for the run axis, spread over the devices; nothing is communicated."""
        return self.trace(piece, shared, slots, *rest).lower()

    def trace(self, piece: Piece, shared: Shared, slots: Slots, *rest: Any) -> Any:
        """The piece traced for arguments of these shapes, which stays with it for the next time.

        Products keep all digits of float32 on every backend, where a GPU would take TF32 and a TPU
        bfloat16 unasked.
        """
        along, everywhere = PartitionSpec("run"), PartitionSpec()
        specs = (everywhere, along, *(along for _ in rest))
        mesh = run_mesh(len(slots.active))
        if (piece, mesh) not in self._spread:
            mapped = _over_runs(functools.partial(piece, self.setup), self.mapping)
            self._spread[piece, mesh] = jax.jit(
                jax.shard_map(mapped, mesh=mesh, in_specs=specs, out_specs=along, check_vma=False)
            )
        shapes = [
            jax.tree.map(functools.partial(_shape, sharding=NamedSharding(mesh, spec)), tree)
            for tree, spec in zip((shared, slots, *rest), specs, strict=True)
        ]
        with lowered_by(self.kernels), jax.default_matmul_precision("highest"):
            return self._spread[piece, mesh].trace(*shapes)


class _Compiled(NamedTuple):
    piece: Piece
    seconds: float


def _shape(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _options(name: str) -> dict[str, int]:
    """On a CPU `begin`, which runs once, is optimised less: it compiles in under half the time."""
    once = name == "begin" and jax.default_backend() == "cpu"
    return {"xla_backend_optimization_level": 1} if once else {}


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


PIECES: dict[str, Piece] = {
    "begin": _begin,
    "assess": _assess,
    "advance": _advance,
    "finish": _finish,
}
