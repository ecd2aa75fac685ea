"""The programs for GPU and TPU, exported on a CPU: what is asked of cuDNN and of the matrix units.

Nothing is run here: these tests know the program, not its speed.
"""

import functools
import re
from typing import NamedTuple

import jax
import pytest
from jax import export, lax
from jax.extend.core import jaxpr_as_fun

from fishjax.engine.program import PIECES, Program
from fishjax.nn import layers
from fishjax.nn.conv import conv2d
from fishjax.nn.lowering import Kernels
from fishjax.nn.lowerings.grouped import GROUPED
from fishjax.nn.lowerings.patches import PATCHES
from fishjax.nn.lowerings.unrolled import unrolled
from tests.runs import make_feed, make_slots, tiny

LOWERINGS = {"grouped": GROUPED, "patches": PATCHES, "unrolled": unrolled(GROUPED)}
DEVICES, RUNS = 2, 4
HERE = RUNS // DEVICES
KINDS = {
    "forward": "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]",
    "input gradient": "[b, 0, 1, f]x[0, 1, o, i]->[b, 0, 1, f]",
    "kernel gradient": "[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]",
}
WHILES = {
    "begin": 8,  # of each of four shapes of kernel: over its kernels, over columns to orthogonalise
    "advance": 2,  # over steps, and the binary search of a balanced draw
    "assess": 7,  # over batches of images, and the two binary searches of each split's AUC
    "finish": 2,  # over the shares of units killed, and over batches of images
}
"""What loops are expected in each piece."""


class Convolution(NamedTuple):
    kind: str
    feature_groups: int
    batch_groups: int


@functools.cache
def exported(platform: str, lowering: str, name: str = "advance") -> str:
    """The StableHLO of a piece of the tiny program, with batch norm, pooling and probes."""
    setup, hyper = tiny(model__norm="batch")
    slots = make_slots([hyper] * RUNS, list(range(RUNS)), make_feed(setup))
    program = Program(setup, "vmap", Kernels(lambda geometry: LOWERINGS[lowering]))
    arguments = program.arguments(*slots)[name]
    jaxpr = program.trace(PIECES[name], *arguments).jaxpr
    made = export.export(jax.jit(jaxpr_as_fun(jaxpr)), platforms=[platform])(*jaxpr.in_avals)
    assert made.platforms == (platform,)
    assert made.nr_devices == DEVICES
    return made.mlir_module()


def convolutions(text: str) -> list[Convolution]:
    found = []
    for line in operations(text, "convolution"):
        kind = next(name for name, layout in KINDS.items() if f"dim_numbers = {layout}" in line)
        groups = [int(n) for n in re.findall(r"(?:feature|batch)_group_count = (\d+)", line)]
        found.append(Convolution(kind, *groups[::-1]))
    return found


def operations(text: str, name: str) -> list[str]:
    return [line for line in text.splitlines() if re.search(rf'= "?stablehlo\.{name}\b', line)]


def loops(text: str) -> list[str]:
    """All but that of a cumulative sum, one operation to the backend in jax 0.12.

    What stands in the function `chlo.scan.impl` is for a backend that lacks the operation.
    """
    without = re.sub(r"func\.func private @chlo\.scan\.impl.*?\n  }", "", text, flags=re.DOTALL)
    return operations(without, "while")


def communication(text: str) -> list[str]:
    names = "all_gather|all_reduce|all_to_all|collective_|reduce_scatter"
    return [line for line in text.splitlines() if re.search(rf"stablehlo\.(?:{names})", line)]


platforms = pytest.mark.parametrize("platform", ["cuda", "tpu"])


@platforms
@pytest.mark.parametrize("lowering", LOWERINGS)
def test_the_training_program_has_no_scatter_and_only_its_loops(platform, lowering):
    text = exported(platform, lowering)
    assert operations(text, "scatter") == operations(text, "select_and_scatter") == []
    assert communication(text) == []
    assert len(loops(text)) == WHILES["advance"]


@pytest.mark.parametrize("name", PIECES)
def test_the_other_pieces_have_only_their_loops(name):
    text = exported("cuda", "grouped", name)
    assert communication(text) == operations(text, "select_and_scatter") == []
    assert len(loops(text)) == WHILES[name]
    assert operations(text, "scatter") == []


@platforms
def test_in_groups_every_map_of_all_runs_is_one_convolution(platform):
    feature, batch = (HERE, 1), (1, HERE)
    assert sorted(convolutions(exported(platform, "grouped"))) == [
        Convolution("forward", *feature),
        Convolution("forward", *feature),
        Convolution("input gradient", *feature),
        Convolution("kernel gradient", *batch),
        Convolution("kernel gradient", *batch),
    ]


@platforms
def test_unrolled_every_map_of_each_run_is_a_dense_convolution(platform):
    kinds = ["forward"] * 2 + ["input gradient"] + ["kernel gradient"] * 2
    expected = sorted(Convolution(kind, 1, 1) for kind in kinds * HERE)
    assert sorted(convolutions(exported(platform, "unrolled"))) == expected


@platforms
def test_as_patches_no_convolution_is_left(platform):
    assert convolutions(exported(platform, "patches")) == []


@platforms
@pytest.mark.parametrize("name", PIECES)
def test_every_product_has_all_digits_of_float32(platform, name):
    text = exported(platform, "grouped", name)
    products = operations(text, "convolution") + operations(text, "dot_general")
    assert products
    assert [line for line in products if "HIGHEST" not in line] == []
    assert "bf16" not in text


def test_the_same_look_finds_a_loop_and_a_scatter_in_a_layer(monkeypatch):
    def looped(x: jax.Array, w: jax.Array, stride: int) -> jax.Array:
        y = lax.map(lambda image: conv2d(image[None], w, stride)[0], x)
        return y.at[:, 0].multiply(2.0)

    monkeypatch.setattr(layers, "conv2d", looped)
    text = exported.__wrapped__("cuda", "grouped")
    assert len(loops(text)) > WHILES["advance"]
    assert operations(text, "scatter")
