"""The workloads in fishjax: whole programs of the engine, fed the job's weights and images."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.benchmark.worker import Peer, seconds_of
from experiments.benchmark.workload import CLASSES, EPSILON, MOMENTUM, Job, Workload
from fishjax.config import Config
from fishjax.engine.devices import replicate
from fishjax.engine.kernels import ENGINES, kernels
from fishjax.engine.measured import measured
from fishjax.engine.memory import free_per_device
from fishjax.engine.program import Program, RunMapping, Shared, Slots, default_mapping
from fishjax.engine.widths import PACK_WIDTH, even, planned
from fishjax.feed import Feed, class_counts, drawn
from fishjax.nn import norms
from fishjax.nn.conv import conv2d
from fishjax.settings import override
from fishjax.setup import Hyper, Setup, lower

Engine = Callable[[Setup, Hyper], Program]
MAPPED = ("grouped", "unrolled", "patches", "vmap")
"""The engines whose runs are mapped by `vmap`, as they are on other backends than a CPU."""


def fishjax_engines() -> dict[str, Engine]:
    """How to make a program of each engine that can be named; `vmap` is XLA's own, mapped."""
    return {
        name: _with(name if name in ENGINES else "xla", "vmap" if name in MAPPED else "map")
        for name in (*ENGINES, "vmap")
    }


def as_shipped(setup: Setup, hyper: Hyper) -> Program:
    """The engine that a study gets on this machine: kernels by measurement."""
    width = even(PACK_WIDTH, jax.local_device_count())
    names = measured([(setup, hyper)], default_mapping(), width)
    return Program(setup, default_mapping(), kernels(names))


def _with(name: str, mapping: RunMapping) -> Engine:
    return lambda setup, hyper: Program(setup, mapping, kernels(ENGINES[name]))


def lowered(workload: Workload, probes: bool) -> tuple[Setup, Hyper]:
    """The workload as a configuration of fishjax, its probes off or read at every step.

    An epoch is one step: of 2 batch - 1 images one minibatch is drawn, the rest left out. Thus the
    trace has every step's own loss. A chunk of epochs is a compiled call.
    """
    if norms.EPSILON != EPSILON:
        raise ValueError(f"fishjax norms with epsilon {norms.EPSILON}, the others with {EPSILON}")
    watch = "step" if probes else "off"
    settings = {
        "model.depth": len(workload.widths),
        "model.widths": workload.widths,
        "model.pool_every": workload.pool_every,
        "model.norm": "batch",
        "optim.batch_size": workload.batch,
        "optim.epochs": workload.chunk,
        "data.image_size": workload.size,
        "data.train_size": 2 * workload.batch - 1,
        "watch.every": workload.chunk,
        "watch.flow": watch,
        "watch.units": watch,
        "hyper.momentum": MOMENTUM,
    }
    return lower(override(Config(), settings), CLASSES)


def order(job: Job, steps: int) -> np.ndarray:
    """The minibatches that fishjax draws for the job's runs, `[run, step, batch]`."""
    setup, hyper = lowered(job.workload, probes=False)
    shared, slots = _shared(job), _slots(job, hyper, job.runs)

    def of_run(slot: Slots) -> jax.Array:
        feed = Feed(*shared[:2], slot.train, slot.val, slot.test, slot.mean, slot.deviation)
        counts = class_counts(feed, setup.classes)
        epochs = jnp.arange(steps)
        return jax.vmap(lambda epoch: drawn(feed, slot.hyper, slot.key, epoch, counts))(epochs)

    return np.asarray(jax.vmap(of_run)(slots))[:, :, : job.workload.batch]


class Packed:
    """Runs in packs as wide as a study's, one program, pack after pack.

    compile_s: until the first call can start, with what is built and measured for it.
    """

    def __init__(self, job: Job, make: Engine, probes: bool = False) -> None:
        setup, self._hyper = lowered(job.workload, probes)
        start = time.perf_counter()
        self._job, self._program = job, make(setup, self._hyper)
        self._width = min(job.runs, self._planned())
        made_s = time.perf_counter() - start
        self._shared = replicate(_shared(job), self._width)
        firsts = range(0, job.runs, self._width)
        self._packs = [list(range(job.runs))[first : first + self._width] for first in firsts]
        self._slots = [_slots(job.only(pack), self._hyper, self._width) for pack in self._packs]
        self._states = [self._begun(pack) for pack in range(len(self._packs))]
        self._program.advance(self._shared, self._slots[0], self._states[0])
        self.compile_s: float | None = made_s + self._program.compile_s

    def losses(self, runs: Sequence[int], steps: int) -> list[list[float]]:
        """Slots of other runs stay idle, so that a gate on two runs does not train them all."""
        found: dict[int, list[float]] = {}
        for place, pack in enumerate(self._packs):
            if not set(pack) & set(runs):
                continue
            wanted = np.isin(np.resize(pack, self._width), runs)
            slots = self._slots[place]
            slots = slots._replace(active=slots.active & jnp.asarray(wanted))
            state, chunks = self._begun(place), []
            for _ in range(steps // self._job.workload.chunk):
                state, trace = self._program.advance(self._shared, slots, state)
                chunks.append(np.asarray(trace.loss))
            each = np.concatenate(chunks, 1).tolist()
            found |= {run: each[slot] for slot, run in enumerate(pack)}
        return [found[run] for run in runs]

    def run(self, chunks: int) -> None:
        for place, slots in enumerate(self._slots):
            state = self._states[place]
            for _ in range(chunks):
                state, _ = self._program.advance(self._shared, slots, state)
            self._states[place] = jax.block_until_ready(state)

    def _planned(self) -> int:
        """The width that a study would choose for the memory of this machine."""
        slots = _slots(self._job, self._hyper, self._job.runs)
        need = (self._program, _shared(self._job), slots)
        return planned([need], jax.local_device_count(), free_per_device())

    def _begun(self, place: int) -> Any:
        """The state of a pack before its first step, with the job's weights."""
        state = self._program.begin(self._shared, self._slots[place])
        given = weights(self._job.only(np.resize(self._packs[place], self._width).tolist()))
        params = jax.tree.map(
            lambda old, new: jax.device_put(jnp.asarray(new), old.sharding),
            dict(state.variables.params),
            given,
        )
        return state._replace(variables=state.variables._replace(params=params))


def weights(job: Job) -> dict[str, dict[str, np.ndarray]]:
    """The initial parameters of all runs under the names of the layers, leaves `[run, ...]`."""
    head = job["head"]
    zeros = np.zeros((job.runs, head.shape[-1]), np.float32)
    found: dict[str, dict[str, np.ndarray]] = {"head": {"kernel": head, "bias": zeros}}
    for i, kernel in enumerate(job.kernels):
        shape = (job.runs, kernel.shape[-1])
        found[f"conv{i}"] = {"kernel": kernel}
        found[f"norm{i}"] = {
            "scale": np.ones(shape, np.float32),
            "bias": np.zeros(shape, np.float32),
        }
    return found


def layers(job: Job, least_s: float, passes: int = 8) -> list[dict]:
    """Each convolution alone with its gradients in a scan, as shipped: seconds and GFLOP/s.

    Seconds are of one run, while as many run as there are devices.
    """
    setup, hyper = lowered(job.workload, probes=False)
    width = min(job.runs, 2 * jax.local_device_count())
    program, shared = as_shipped(setup, hyper), replicate(_shared(job), width)
    slots = _slots(job.only(range(width)), hyper, width)
    rows, batch = [], job.workload.batch
    for i, layer in enumerate(job.workload.layers):
        shape = (width, batch, layer.side, layer.side, layer.channels_in)
        args = (jax.random.normal(jax.random.key(i), shape), jnp.asarray(job.kernels[i][:width]))
        compiled = program.lower(_passes(passes, i > 0), shared, slots, *args).compile()

        def again(compiled: Any = compiled, args: tuple = args) -> None:
            jax.block_until_ready(compiled(shared, slots, *args))

        seconds = seconds_of(again, least_s) / (width * passes)
        flops = (3 if i else 2) * batch * layer.forward_flops
        rows.append({"layer": layer.name, "seconds": seconds, "gflops": flops / seconds / 1e9})
    return rows


def _passes(count: int, to_input: bool) -> Callable[..., jax.Array]:
    """A piece of a program: forward, kernel gradient and, where asked, input gradient.

    Each pass depends on the one before through the kernel, which hardly changes.
    """

    def piece(setup: Setup, shared: Shared, slot: Slots, x: jax.Array, w: jax.Array) -> jax.Array:
        def body(w: jax.Array, _: None) -> tuple[jax.Array, None]:
            if to_input:
                y, back = jax.vjp(conv2d, x, w)
                to_x, to_w = lax.optimization_barrier(back(y))
                return w + 1e-9 * to_w + 1e-12 * to_x[0, 0, 0, 0], None
            y, back = jax.vjp(lambda w: conv2d(x, w), w)
            return w + 1e-9 * back(y)[0], None

        return lax.scan(body, w, None, count)[0]

    return piece


def _shared(job: Job) -> Shared:
    return Shared(jnp.asarray(job["images"]), jnp.asarray(job["labels"]))


def _slots(job: Job, hyper: Hyper, width: int) -> Slots:
    """The job's runs in as many slots; those beyond them repeat runs and stay idle."""
    runs = np.resize(np.arange(job.runs), width)
    same = jax.tree.map(lambda number: jnp.full(width, number, jnp.float32), hyper)
    train = jnp.asarray(job["train"][runs])
    return Slots(
        active=jnp.arange(width) < job.runs,
        hyper=same._replace(lr=jnp.asarray(job["rates"][runs])),
        key=jax.vmap(jax.random.key)(jnp.asarray(job["seeds"][runs])),
        train=train,
        val=train[:, :1],
        test=train[:, :1],
        mean=jnp.tile(jnp.asarray(job["mean"]), (width, 1)),
        deviation=jnp.tile(jnp.asarray(job["deviation"]), (width, 1)),
    )


PEERS: Mapping[str, Callable[[Job], Peer]] = {
    "fishjax": lambda job: Packed(job, as_shipped),
    "fishjax-bare": lambda job: Packed(job, as_shipped),
    "fishjax-probes": lambda job: Packed(job, as_shipped, probes=True),
    **{
        f"fishjax-{name}": lambda job, make=make: Packed(job, make)
        for name, make in fishjax_engines().items()
    },
}
