"""The convolution and both its gradients against `lax.conv_general_dilated` and its own AD."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fishjax.nn.conv import conv2d

STRIDES, PADDINGS = (1, 2, 3), ("SAME", "VALID")
FIRST = list(
    itertools.product(
        STRIDES, PADDINGS, ((1, 1), (2, 2), (3, 3), (5, 3)), ((8, 8), (7, 10), (5, 5))
    )
)
SECOND = list(itertools.product(STRIDES, PADDINGS, ((1, 1), (3, 3))))


def reference(x, w, stride=1, padding="SAME"):
    return lax.conv_general_dilated(
        x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def normals(seed, *shapes):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)


def compared(cases, draw, of_case):
    """What every case gives by our convolution and by the reference, each in one program."""
    given = [draw(*case) for case in cases]

    def every(conv, given):
        return [
            of_case(functools.partial(conv, stride=s, padding=p), *each)
            for (s, p, *_), each in zip(cases, given, strict=True)
        ]

    return [
        dict(zip(cases, jax.jit(functools.partial(every, conv))(given), strict=True))
        for conv in (conv2d, reference)
    ]


def first(conv, x, w, g):
    """The output and both gradients."""
    y, pull = jax.vjp(conv, x, w)
    return y, pull(g)


def second(conv, x, w, dx, dw):
    """Both gradients of the slope of a loss along a direction."""

    def slope(x, w):
        of_loss = jax.grad(lambda x, w: jnp.sum(jnp.sin(conv(x, w))), argnums=(0, 1))
        return sum(map(jnp.vdot, of_loss(x, w), (dx, dw)))

    return jax.grad(slope, argnums=(0, 1))(x, w)


def drawn_first(stride, padding, kernel, size):
    x, w = normals(0, (4, *size, 3), (*kernel, 3, 5))
    y = jax.eval_shape(lambda: reference(x, w, stride, padding))
    return x, w, *normals(1, y.shape)


def drawn_second(stride, padding, kernel):
    shapes = (2, 7, 8, 3), (*kernel, 3, 4)
    return *normals(2, *shapes), *normals(3, *shapes)


@pytest.fixture(scope="module")
def firsts():
    return compared(FIRST, drawn_first, first)


@pytest.fixture(scope="module")
def seconds():
    return compared(SECOND, drawn_second, second)


@pytest.mark.parametrize("case", FIRST, ids=str)
def test_value_and_both_gradients_equal_the_reference(case, firsts):
    (y, pulled), (expected, expected_pulled) = (each[case] for each in firsts)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(pulled, expected_pulled, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", SECOND, ids=str)
def test_second_derivatives_equal_the_reference(case, seconds):
    for ours, theirs in zip(*(each[case] for each in seconds), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_mapped_over_runs_equals_each_run_alone():
    x, w = normals(4, (3, 2, 6, 6, 2), (3, 3, 3, 2, 4))

    def loss(x, w):
        return jnp.sum(jnp.sin(conv2d(x, w)))

    gradients = jax.grad(loss, argnums=(0, 1))
    packed, alone = jax.jit(jax.vmap(gradients))(x, w), jax.jit(gradients)
    for run in range(3):
        for ours, theirs in zip(packed, alone(x[run], w[run]), strict=True):
            np.testing.assert_allclose(ours[run], theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "w", "stride"),
    [
        ((1, 4, 4, 3), (3, 3, 2, 5), 1),
        ((4, 4, 3), (3, 3, 3, 5), 1),
        ((1, 4, 4, 3), (3, 3, 3, 5), 0),
    ],
)
def test_shapes_that_do_not_fit_are_refused(x, w, stride):
    with pytest.raises(ValueError, match=r"convolve|stride"):
        conv2d(jnp.zeros(x), jnp.zeros(w), stride)


def test_a_kernel_larger_than_its_image_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        conv2d(jnp.zeros((1, 2, 2, 1)), jnp.zeros((3, 3, 1, 1)), 1, "VALID")
