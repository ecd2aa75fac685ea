"""Training chunks of one small study, compiled, warmed and timed in interleaved rounds."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.dying_relu import BASE
from fishjax.data.pool import Pool
from fishjax.data.source import open_source
from fishjax.engine.packs import ask_of, pack, slots
from fishjax.engine.program import Program, Shared, default_mapping
from fishjax.settings import override
from fishjax.setup import Hyper, Setup, lower
from fishjax.sweep import Arm, cells

RUNS = 16


@dataclass(frozen=True)
class Chunk:
    """A compiled and warmed chunk of steps of RUNS runs, and its run-steps."""

    run: Callable[[], Any]
    run_steps: int


def in_xla(setup: Setup, hyper: Hyper) -> Program:
    """The program in XLA's own kernels, the same on every machine."""
    return Program(setup, default_mapping())


def chunk(settings: Mapping[str, Any], make: Callable[[Setup, Hyper], Program] = in_xla) -> Chunk:
    """The dying-ReLU study's base run with `settings`, on reef, RUNS seeds side by side."""
    base = override(BASE, {"hyper.lr": 0.01, **settings})
    dataset = open_source("reef", base.data.image_size)
    (only,) = pack(cells([Arm("base")], base, {}, range(RUNS)), len(dataset.species), RUNS)
    program = make(*lower(base, len(dataset.species)))
    pool = Pool(dataset, map(ask_of, only.cells))
    shared = Shared(jnp.asarray(pool.images), jnp.asarray(pool.labels))
    runs = slots(pool, only)
    state = program.begin(shared, runs)
    jax.block_until_ready(program.advance(shared, runs, state))
    steps = RUNS * only.setup.watch.every * only.setup.steps_per_epoch
    return Chunk(lambda: program.advance(shared, runs, state), steps)


def interleaved(chunks: Mapping[str, Chunk], rounds: int) -> dict[str, np.ndarray]:
    """Seconds per run-step of every chunk, `[round]`; each round runs every chunk once."""
    seconds: dict[str, list[float]] = {name: [] for name in chunks}
    for _ in range(rounds):
        for name, each in chunks.items():
            start = time.perf_counter()
            jax.block_until_ready(each.run())
            seconds[name].append((time.perf_counter() - start) / each.run_steps)
    return {name: np.asarray(values) for name, values in seconds.items()}
