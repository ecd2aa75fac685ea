"""The compiled program: no unoptimised kernel, no scatter, no communication, no unwatched probe."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from fishjax import train
from fishjax.engine.program import PIECES, Program
from fishjax.nn import layers
from fishjax.nn.conv import conv2d
from fishjax.nn.lowering import Kernels, Lowering
from fishjax.nn.lowerings.closed_block import closed_block
from fishjax.nn.lowerings.packed import packed
from fishjax.nn.lowerings.strips import STRIPS
from tests.hlo import as_shipped, faults
from tests.runs import as_arrays, make_feed, make_slots, tiny

RANDOM = re.compile(r"threefry|jit\(_uniform\)|jit\(_shuffle\)")
LOOPS = {
    "begin": 5,  # over runs; the columns to orthogonalise, for each of four shapes of kernel
    "advance": 3,  # over runs; over steps; the binary search of a balanced draw
    "assess": 8,  # over runs; over batches of images; two binary searches for each split's AUC
    "finish": 2,  # over runs; over the shares of units killed
}
"""What loops a compiled CPU program has, but for those that draw random numbers."""
SMALL = {"model__depth": 1, "model__dense": (), "watch__flow": "off", "watch__units": "off"}
"""A program with few parts, for the faults that are planted."""


def loops(hlo: str) -> list[str]:
    """Where each loop of a compiled program comes from, but for those that draw random numbers."""
    lines = [line for line in hlo.splitlines() if " while(" in line]
    names = [re.findall(r'op_name="([^"]*)"', line)[0] for line in lines]
    return [name for name in names if not RANDOM.search(name)]


@functools.cache
def compiled(name: str = "advance", lowering: Lowering | None = None, **changes: object) -> str:
    setup, hyper = tiny(**changes)
    slots = make_slots([hyper] * 4, [1, 2, 3, 4], make_feed(setup))
    program = Program(setup, "map")
    if lowering:
        program = Program(setup, "map", Kernels(lambda geometry: lowering, closed_block))
    return as_shipped(program.lower(PIECES[name], *program.arguments(*slots)[name]))


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("name", PIECES)
def test_the_programs_have_no_slow_kernel_no_communication_and_only_their_loops(name, norm):
    hlo = compiled(name, model__norm=norm)
    assert faults(hlo) == []
    assert len(loops(hlo)) == LOOPS[name], loops(hlo)


def test_the_training_program_of_packed_pixels_is_no_worse():
    hlo = compiled("advance", packed(32))
    assert faults(hlo) == []
    assert len(loops(hlo)) == LOOPS["advance"]
    assert "stride=1x8" in hlo


def test_the_training_program_of_strips_has_no_slow_kernel():
    assert faults(compiled("advance", STRIPS)) == []


def test_the_same_look_finds_one_loop_more(monkeypatch):
    def looped(x: jax.Array, w: jax.Array, stride: int) -> jax.Array:
        return lax.map(lambda image: conv2d(image[None], w, stride)[0], x)

    monkeypatch.setattr(layers, "conv2d", looped)
    assert len(loops(compiled.__wrapped__(**SMALL))) > LOOPS["advance"]


def test_the_same_look_finds_a_plain_convolution_in_a_scan(monkeypatch):
    def plain(x: jax.Array, w: jax.Array, stride: int) -> jax.Array:
        return lax.conv_general_dilated(
            x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    monkeypatch.setattr(layers, "conv2d", plain)
    assert any("convolution" in fault for fault in faults(compiled.__wrapped__(**SMALL)))


def test_the_same_look_finds_a_gather_gradient_and_a_window_pool():
    def loss(x: jax.Array) -> jax.Array:
        pooled = lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (2, 2), "VALID")
        return jnp.sum(pooled[jnp.arange(2)] ** 2)

    hlo = as_shipped(jax.jit(jax.grad(loss)).lower(jnp.ones((8, 8))))
    assert any("scatter" in fault for fault in faults(hlo))


def test_the_order_of_a_shuffled_schedule_is_made_before_the_steps():
    setup, hyper = tiny(schedule__kind="cosine", schedule__shuffled=1)
    key, feed, hyper = jax.random.key(0), make_feed(setup), as_arrays(hyper)
    state = train.begin(setup, hyper, key)
    jaxpr = jax.make_jaxpr(functools.partial(train.advance, setup))(hyper, key, feed, state)
    steps = setup.watch.every * setup.steps_per_epoch
    scans = [each for each in jaxpr.eqns if each.params.get("length") == steps]
    assert len(scans) == 1
    assert " sort[" in str(jaxpr)
    assert " sort[" not in str(scans[0].params["jaxpr"])


def reductions(watch: str) -> int:
    setup, hyper = tiny(watch__flow=watch, watch__units=watch)
    key, feed, hyper = jax.random.key(0), make_feed(setup), as_arrays(hyper)
    state = train.begin(setup, hyper, key)
    advance = functools.partial(train.advance, setup)
    return str(jax.make_jaxpr(advance)(hyper, key, feed, state)).count("reduce_")


def test_probes_that_are_off_leave_no_reduction_behind(monkeypatch):
    off, on = reductions("off"), reductions("epoch")
    monkeypatch.setattr(train, "_watch", lambda *_: train.Watched({}, {}, {}, {}))
    assert on > off == reductions("off")
