"""Packs of tiny runs, trained from start to end by the engine's own programs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from fishjax.engine.program import XLA, Program
from tests import runs
from tests.runs import make_feed, make_slots

WIDTH = 4
tiny = functools.partial(runs.tiny, model__pool_every=2, optim__epochs=30, watch__every=10)
"""One base for all tests: runs that differ in nothing static share their compiled programs."""

compiled = functools.cache(Program)


def run_pack(setup, hypers, seeds, mapping="map", active=None, kernels=XLA):
    """Final state, traces and evaluations of a pack on the host, whose last slots are idle."""
    idle = WIDTH - len(hypers)
    shared, slots = make_slots(hypers + hypers[:1] * idle, seeds + [0] * idle, make_feed(setup))
    slots = slots._replace(active=jnp.asarray((active or [True] * len(hypers)) + [False] * idle))
    program = compiled(setup, mapping, kernels)
    state = program.begin(shared, slots)
    state, evaluation = program.assess(shared, slots, state)
    seen = [evaluation]
    for _ in range(setup.chunks):
        state, trace = program.advance(shared, slots, state)
        state, evaluation = program.assess(shared, slots, state)
        seen += [trace, evaluation]
    return jax.tree.map(lambda leaf: leaf[: len(hypers)], jax.device_get((state, seen)))


def of_run(tree, slot):
    return jax.tree.map(lambda leaf: leaf[slot], tree)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_close(a, b, rtol, atol):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol), a, b)
