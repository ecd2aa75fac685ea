"""The compiled program: no unoptimised kernel, no scatter, no communication, no unwatched probe."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from fishjax import train
from fishjax.engine.program import Program, _advance
from fishjax.nn import layers
from tests.runs import as_arrays, make_feed, make_slots, tiny

CANONICAL = "b01f_01io->b01f"


def faults(hlo: str) -> list[str]:
    """What in a compiled CPU program would be slow: one line for each."""
    found = re.findall(r"\bscatter\(|select-and-scatter\(|all-gather\(|all-reduce\(", hlo)
    for line in hlo.splitlines():
        if " convolution(" not in line:
            continue
        layout = re.search(r"dim_labels=(\S+?)(?:,|$)", line)
        window = re.search(r"window=\{([^}]*)\}", line)
        if (layout and layout[1] != CANONICAL) or (window and "lhs_dilate" in window[1]):
            found.append(line.strip()[:120])
    return found


def compiled_advance(norm: str = "none", **changes: object) -> str:
    setup, hyper = tiny(model__norm=norm, **changes)
    shared, slots = make_slots([hyper] * 4, [1, 2, 3, 4], make_feed(setup))
    program = Program(setup, "map")
    state = program.begin(shared, slots)
    return program.lower(_advance, shared, slots, state).compile().as_text()


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_training_program_has_no_slow_kernel_and_no_communication(norm):
    assert faults(compiled_advance(norm)) == []


def test_the_same_look_finds_a_plain_convolution_in_a_scan(monkeypatch):
    def plain(x: jax.Array, w: jax.Array, stride: int) -> jax.Array:
        return lax.conv_general_dilated(
            x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    monkeypatch.setattr(layers, "conv2d", plain)
    assert any("convolution" in fault for fault in faults(compiled_advance()))


def test_the_same_look_finds_a_gather_gradient_and_a_window_pool():
    def loss(x: jax.Array) -> jax.Array:
        pooled = lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (2, 2), "VALID")
        return jnp.sum(pooled[jnp.arange(2)] ** 2)

    hlo = jax.jit(jax.grad(loss)).lower(jnp.ones((8, 8))).compile().as_text()
    assert any("scatter" in fault for fault in faults(hlo))


def watched_outputs(watch: str) -> int:
    setup, hyper = tiny(watch__flow=watch, watch__units=watch)
    key, feed, hyper = jax.random.key(0), make_feed(setup), as_arrays(hyper)
    state = train.begin(setup, hyper, key)
    advance = functools.partial(train.advance, setup)
    return str(jax.make_jaxpr(advance)(hyper, key, feed, state)).count("reduce_")


def test_probes_that_are_off_leave_no_reduction_behind():
    off, on = watched_outputs("off"), watched_outputs("epoch")
    assert on > off
    assert compiled_advance(watch__flow="off", watch__units="off").count("reduce(") < (
        compiled_advance().count("reduce(")
    )
