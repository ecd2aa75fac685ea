"""Every lowering of the convolution against `lax.conv_general_dilated` and its own AD."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fishjax.nn.conv import conv2d
from fishjax.nn.lowering import Geometry, Kernels, Lowering, lowered_by
from fishjax.nn.lowerings import strips, winograd
from fishjax.nn.lowerings.canonical import CANONICAL
from fishjax.nn.lowerings.grouped import GROUPED
from fishjax.nn.lowerings.packed import packed, pixels_at_once
from fishjax.nn.lowerings.patches import PATCHES
from fishjax.nn.lowerings.unrolled import unrolled

LOWERINGS = {
    "canonical": CANONICAL,
    "grouped": GROUPED,
    "packed": packed(32),
    "patches": PATCHES,
    "strips": strips.STRIPS,
    "unrolled": unrolled(GROUPED),
    "winograd": winograd.WINOGRAD,
}
NEW = {name: LOWERINGS[name] for name in ("grouped", "packed", "patches", "strips", "winograd")}
CASES = [
    *itertools.product(
        (1, 2, 3), ("SAME", "VALID"), ((1, 1), (2, 2), (3, 3), (5, 3)), ((8, 8), (7, 10), (5, 5))
    ),
    (1, "SAME", (3, 5), (2, 1)),
]
RUNS = 3
MAPPED = {"both": (0, 0), "images": (0, None), "kernels": (None, 0)}


def wherever(lowering: Lowering) -> Kernels:
    """The lowering, or the canonical one for a convolution that it does not compute."""
    few = lowering is winograd.WINOGRAD
    return Kernels(lambda at: CANONICAL if few and not winograd.computes(at) else lowering)


def reference(x, w, stride=1, padding="SAME"):
    return lax.conv_general_dilated(
        x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def normals(seed, *shapes):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)


def value_and_gradients(conv, x, w, g):
    y, pull = jax.vjp(conv, x, w)
    return y, *pull(g)


def assert_close(ours, theirs, where=""):
    """To a hundred-thousandth of the largest element: sums round by their largest terms."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        largest = float(np.abs(b).max(initial=0.0))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * largest, err_msg=str(where))


def factors(case):
    stride, padding, kernel, size = case
    x, w = normals(0, (2, *size, 3), (*kernel, 3, 5))
    y = jax.eval_shape(lambda: reference(x, w, stride, padding))
    return x, w, *normals(1, y.shape)


def over_cases(conv):
    """Output and both gradients of every case, in one compiled program."""
    given = [factors(case) for case in CASES]

    def every(given):
        return [
            value_and_gradients(functools.partial(conv, stride=stride, padding=padding), *each)
            for (stride, padding, _, _), each in zip(CASES, given, strict=True)
        ]

    return jax.jit(every)(given)


@pytest.fixture(scope="module")
def expected():
    return over_cases(reference)


@pytest.mark.parametrize("lowering", NEW.values(), ids=NEW)
def test_value_and_both_gradients_equal_the_reference(lowering, expected):
    with lowered_by(wherever(lowering)):
        got = over_cases(conv2d)
    for case, ours, theirs in zip(CASES, got, expected, strict=True):
        assert_close(ours, theirs, case)


@pytest.mark.parametrize("lowering", LOWERINGS.values(), ids=LOWERINGS)
def test_mapped_over_runs_equals_the_reference_mapped(lowering):
    def every(conv):
        found = {}
        for (name, axes), stride in itertools.product(MAPPED.items(), (1, 2)):
            x, w = normals(2, (RUNS, 2, 6, 5, 2), (RUNS, 3, 2, 2, 4))
            each = tuple(a if axis == 0 else a[0] for a, axis in zip((x, w), axes, strict=True))
            (g,) = normals(3, (RUNS, 2, -(-6 // stride), -(-5 // stride), 4))
            one = functools.partial(value_and_gradients, functools.partial(conv, stride=stride))
            found[f"{name}, {stride}"] = jax.vmap(one, (*axes, 0))(*each, g)
            found[f"{name}, {stride}, shared gradient"] = jax.vmap(one, (*axes, None))(*each, g[0])
        return found

    with lowered_by(wherever(lowering)):
        got = jax.jit(lambda: every(conv2d))()
    for name, theirs in jax.jit(lambda: every(reference))().items():
        assert_close(got[name], theirs, name)


@pytest.mark.parametrize("lowering", LOWERINGS.values(), ids=LOWERINGS)
def test_mapped_twice_equals_the_reference_mapped_twice(lowering):
    axes = list(itertools.product(((0, 0), (0, None), (None, 0)), repeat=2))
    stack = {(0, 0): (2, 2), (0, None): (2,), (None, 0): (2,), (None, None): ()}

    def every(conv):
        found = []
        for outer, inner in axes:
            leads = [stack[outer[i], inner[i]] for i in range(2)]
            x, w = normals(4, (*leads[0], 1, 4, 4, 2), (*leads[1], 3, 3, 2, 3))
            (g,) = normals(5, (2, 2, 1, 4, 4, 3))
            one = functools.partial(value_and_gradients, conv)
            found.append(jax.vmap(jax.vmap(one, (*inner, 0)), (*outer, 0))(x, w, g))
        return found

    with lowered_by(wherever(lowering)):
        got = jax.jit(lambda: every(conv2d))()
    assert_close(got, jax.jit(lambda: every(reference))())


@pytest.mark.parametrize("lowering", LOWERINGS.values(), ids=LOWERINGS)
def test_second_derivatives_equal_the_reference(lowering):
    shapes = (RUNS, 2, 5, 6, 3), (RUNS, 3, 3, 3, 4)
    at, along = normals(6, *shapes), normals(7, *shapes)

    def products(conv):
        def of(stride, x, w, dx, dw):
            def slope(x, w):
                of_loss = jax.grad(lambda x, w: jnp.sum(jnp.sin(conv(x, w, stride))), (0, 1))
                return sum(map(jnp.vdot, of_loss(x, w), (dx, dw)))

            return jax.grad(slope, (0, 1))(x, w)

        return jax.jit(
            lambda: [jax.vmap(functools.partial(of, stride))(*at, *along) for stride in (1, 2)]
        )()

    with lowered_by(wherever(lowering)):
        got = products(conv2d)
    assert_close(got, products(reference))


def convolutions(lowering, axes, packs=1):
    """`(feature groups, batch groups)` of each convolution in the three maps of packs of runs."""

    def maps(x, w, g):
        geometry = Geometry((2, 6, 6, 2), (3, 3, 2, 4), 1, ((1, 1), (1, 1)))
        return (
            lowering.forward(x, w, geometry),
            lowering.input_gradient(g, w, geometry),
            lowering.kernel_gradient(x, g, geometry),
        )

    given = normals(8, (2, 6, 6, 2), (3, 3, 2, 4), (2, 6, 6, 4))
    for size in (RUNS, packs)[:packs]:
        maps = jax.vmap(maps, axes)
        pairs = zip(given, axes, strict=True)
        given = [a if axis is None else jnp.stack([a] * size) for a, axis in pairs]
    text = jax.jit(maps).lower(*given).as_text()
    return [
        tuple(int(n) for n in re.findall(r"(?:feature|batch)_group_count = (\d+)", line))[::-1]
        for line in text.splitlines()
        if "stablehlo.convolution" in line
    ]


def test_grouped_is_one_convolution_for_each_map():
    assert convolutions(GROUPED, (0, 0, 0)) == [(RUNS, 1), (RUNS, 1), (1, RUNS)]
    assert convolutions(CANONICAL, (0, 0, 0)) == [(RUNS, 1)] * 3


def test_grouped_leaves_shared_images_dense():
    assert convolutions(GROUPED, (None, 0, 0)) == [(1, 1), (RUNS, 1), (1, 1)]


def test_unrolled_is_a_dense_convolution_for_each_run():
    assert convolutions(unrolled(GROUPED), (0, 0, 0)) == [(1, 1)] * 3 * RUNS
    assert convolutions(unrolled(GROUPED), (None, 0, 0)) == [(1, 1)] * (RUNS + 2)


def test_runs_mapped_twice_stay_one_convolution_or_dense():
    both, all_runs = (0, 0, 0), 2 * RUNS
    assert convolutions(GROUPED, both, 2) == [(all_runs, 1), (all_runs, 1), (1, all_runs)]
    assert convolutions(unrolled(GROUPED), both, 2) == [(1, 1)] * 3 * all_runs


def test_patches_are_no_convolution():
    assert convolutions(PATCHES, (0, 0, 0)) == []


@pytest.mark.parametrize("at_once", [1, 100, None], ids=["one by one", "some", "as shipped"])
def test_tiles_in_parts_equal_the_reference(at_once, monkeypatch):
    monkeypatch.setattr(winograd, "AT_ONCE", at_once or winograd.AT_ONCE)
    assert_padded_equals_the_reference(winograd.WINOGRAD, ((2, 1), (0, 2)))


@pytest.mark.parametrize(
    "pads", [((1, 1), (1, 1)), ((0, 0), (3, 0)), ((2, 1), (0, 2)), ((4, 0), (0, 5))]
)
@pytest.mark.parametrize("lowering", [winograd.WINOGRAD, strips.STRIPS], ids=["winograd", "strips"])
def test_any_pads_equal_the_reference(lowering, pads):
    assert_padded_equals_the_reference(lowering, pads)


def assert_padded_equals_the_reference(lowering, pads):
    geometry = Geometry((6, 9, 6, 5), (3, 3, 5, 4), 1, pads)
    x, w, g = normals(9, geometry.images, geometry.kernel, geometry.output)
    theirs = value_and_gradients(functools.partial(reference, padding=pads), x, w, g)
    ours = (
        lowering.forward(x, w, geometry),
        lowering.input_gradient(g, w, geometry),
        lowering.kernel_gradient(x, g, geometry),
    )
    assert_close(ours, theirs)


def test_winograd_rounds_a_large_convolution_to_a_few_millionths():
    geometry = Geometry((16, 16, 16, 64), (3, 3, 64, 64), 1, ((1, 1), (1, 1)))
    x, w, g = normals(10, geometry.images, geometry.kernel, geometry.output)
    pairs = ((x, w), (g, w), (x, g))
    for ours, exact, args in zip(winograd.WINOGRAD, CANONICAL, pairs, strict=True):
        with jax.enable_x64(True):
            wide = exact(*(jnp.asarray(np.asarray(a, np.float64)) for a in args), geometry)
        error = np.abs(np.asarray(ours(*args, geometry), np.float64) - np.asarray(wide))
        assert error.max() < 4e-6 * np.abs(wide).max()


@pytest.mark.parametrize(
    ("size", "out", "stride", "channels", "pixels"),
    [
        (32, 8, 1, 32, 4),
        (32, 8, 1, 64, 8),
        (32, 3, 1, 64, 8),
        (32, 12, 1, 32, 2),
        (32, 32, 1, 32, 1),
        (32, 64, 1, 32, 1),
        (32, 8, 2, 32, 1),
        (4, 4, 1, 32, 2),
        (2, 4, 1, 32, 1),
    ],
)
def test_few_channels_are_packed_many_and_strided_and_small_ones_are_not(
    size, out, stride, channels, pixels
):
    assert pixels_at_once((1, size, size, 3), (3, 3, 3, out), stride, channels) == pixels
