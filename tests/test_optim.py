"""Schedules against their closed forms; the optimiser against torch's rule written out."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fishjax.optim import height, optimiser
from fishjax.sections import Schedule
from fishjax.setup import ScheduleShape, choices
from tests.runs import as_arrays, tiny

KINDS = choices(Schedule, "kind")[:3]
EPOCHS = 12


def plain_shape(kind, period, warmup, floor):
    return ScheduleShape(float(KINDS.index(kind)), period, warmup, floor, 1.0, 1.0, 0.25, 0.85)


def closed_form(kind, period, warmup, floor, t):
    cosine = 0.5 * (1 + math.cos(math.pi * min(max((t - warmup) / (EPOCHS - warmup), 0), 1)))
    inside = t / period - math.floor(t / period)
    shape = {"constant": 1.0, "cosine": cosine, "triangular": 1 - abs(2 * inside - 1)}[kind]
    ramp = min(t / warmup, 1) if warmup else 1.0
    return (floor + (1 - floor) * shape) * ramp


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("period", "warmup", "floor"), [(4, 0, 0), (3, 2, 0.1), (5, 1.5, 0)])
def test_every_schedule_equals_its_closed_form(kind, period, warmup, floor):
    shape = jax.tree.map(jnp.float32, plain_shape(kind, period, warmup, floor))
    times = np.arange(0, EPOCHS, 0.125, dtype=np.float32)
    got = jax.jit(jax.vmap(lambda t: height(shape, t, EPOCHS)))(times)
    expected = [closed_form(kind, period, warmup, floor, t) for t in times]
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_a_warm_up_that_lasts_the_whole_run_never_divides_by_zero():
    shape = jax.tree.map(jnp.float32, plain_shape("cosine", 1, EPOCHS, 0))
    assert np.isfinite(height(shape, jnp.float32(3), EPOCHS))


@pytest.mark.parametrize("clip", [math.inf, 0.5])
def test_updates_are_clipped_decayed_accumulated_and_scaled(clip):
    changes = {"hyper__lr": 0.1, "hyper__momentum": 0.8, "hyper__weight_decay": 0.3}
    _, hyper = tiny(hyper__clip=clip, schedule__kind="cosine", **changes)
    tx = optimiser(as_arrays(hyper), steps_per_epoch=2, epochs=4)
    params = {"conv0": {"kernel": jnp.float32([1.0, -2.0]), "bias": jnp.float32([3.0])}}
    state, moment = tx.init(params), {"kernel": np.zeros(2), "bias": np.zeros(1)}
    value = {name: np.asarray(leaf, np.float64) for name, leaf in params["conv0"].items()}
    for step in range(5):
        grads = {"kernel": np.float32([0.5, step]), "bias": np.float32([-1.0])}
        updates, state = tx.update({"conv0": jax.tree.map(jnp.asarray, grads)}, state, params)
        params = optax.apply_updates(params, updates)
        norm = math.sqrt(sum(float(np.sum(g**2)) for g in grads.values()))
        rate = 0.1 * 0.5 * (1 + math.cos(math.pi * (step / 2) / 4))
        for name, gradient in grads.items():
            clipped = gradient * min(1.0, clip / norm)
            decayed = clipped + (0.3 * value[name] if name == "kernel" else 0.0)
            moment[name] = 0.8 * moment[name] + decayed
            value[name] = value[name] - rate * moment[name]
            np.testing.assert_allclose(params["conv0"][name], value[name], rtol=1e-5)
