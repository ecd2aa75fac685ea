"""Runs of one seed that share a past, stand still or keep some layers: bit for bit, in one pack."""

import jax
import numpy as np
import pytest

from fishjax.engine.program import Program
from tests.runs import make_feed, make_slots, tiny

EPOCHS = 4
SGDR = {"schedule__kind": "sgdr", "schedule__period": 2.0}
RUNS = {
    "plain": {},
    "branch": {"optim__order": 5, "optim__order_from": 2},
    "other": {"optim__order": 5},
    "sgdr": SGDR,
    "once": {**SGDR, "schedule__again": 0.0, "hyper__weight_decay": 0.1},
    "half": {**SGDR, "schedule__again": 0.5},
    "frozen": {"optim__frozen": 2, "hyper__weight_decay": 0.3, "hyper__clip": 0.1},
    "frozen norms": {"optim__frozen": 1},
    "mixed": {"schedule__kind": "cosine", "schedule__shuffled": 1},
    "cosine": {"schedule__kind": "cosine"},
}


@pytest.fixture(scope="module", params=["map", pytest.param("vmap", marks=pytest.mark.slow)])
def states(request):
    """By run: the parameters at the start and after each epoch, and the batch norm's statistics."""
    common = {"model__norm": "batch", "optim__decay": "decoupled", "watch__every": 1}
    setup, _ = tiny(optim__epochs=EPOCHS, **common)
    hypers = []
    for changes in RUNS.values():
        each, hyper = tiny(optim__epochs=EPOCHS, **common, **changes)
        assert each == setup
        hypers.append(hyper)
    shared, slots = make_slots(hypers, [3] * len(hypers), make_feed(setup))
    program = Program(setup, request.param)
    seen = [program.begin(shared, slots)]
    for _ in range(EPOCHS):
        seen.append(program.advance(shared, slots, seen[-1])[0])
    seen = jax.device_get([state.variables for state in seen])
    return {
        name: [jax.tree.map(lambda x, i=i: x[i], variables) for variables in seen]
        for i, name in enumerate(RUNS)
    }


def equal(a, b):
    pairs = zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True)
    return all(x.tobytes() == y.tobytes() for x, y in pairs)


def test_runs_that_differ_in_order_from_an_epoch_on_are_bit_equal_until_then(states):
    plain, branch, other = (states[name] for name in ("plain", "branch", "other"))
    assert [equal(a, b) for a, b in zip(plain, branch, strict=True)] == [True] * 3 + [False] * 2
    assert not equal(plain[1], other[1])


def test_a_cycle_that_does_not_come_again_leaves_the_network_as_it_was(states):
    once, half, sgdr = (states[name] for name in ("once", "half", "sgdr"))
    assert not equal(once[1], once[2])
    assert equal(once[2], once[3])
    assert equal(once[3], once[4])
    assert equal(half[2], sgdr[2])
    assert not equal(half[3], sgdr[3])
    assert not equal(half[2], half[3])


def test_frozen_layers_and_their_norms_are_bit_equal_to_the_start(states):
    for name, held in (
        ("frozen", {"conv0", "norm0", "conv1", "norm1"}),
        ("frozen norms", {"conv0", "norm0"}),
    ):
        start, end = states[name][0], states[name][-1]
        for part, leaves in start.params.items():
            still = all(
                leaf.tobytes() == end.params[part][key].tobytes() for key, leaf in leaves.items()
            )
            assert still == (part in held), part
        moved = jax.tree.map(lambda a, b: np.any(a != b), start.stats, end.stats)
        assert all(jax.tree.leaves(moved))


def test_a_shuffled_schedule_is_another_run_of_the_same_start(states):
    assert equal(states["cosine"][0], states["mixed"][0])
    assert not equal(states["cosine"][-1], states["mixed"][-1])
