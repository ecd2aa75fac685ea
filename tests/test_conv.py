"""The convolution and both its gradients against `lax.conv_general_dilated` and its own AD."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fishjax.nn.conv import conv2d


def reference(x, w, stride, padding):
    return lax.conv_general_dilated(
        x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (5, 3)])
@pytest.mark.parametrize("size", [(8, 8), (7, 10), (5, 5)])
def test_value_and_both_gradients_equal_the_reference(stride, padding, kernel, size):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (4, *size, 3))
    w = jax.random.normal(keys[1], (*kernel, 3, 5))
    y, pull = jax.vjp(lambda x, w: conv2d(x, w, stride, padding), x, w)
    expected, expected_pull = jax.vjp(lambda x, w: reference(x, w, stride, padding), x, w)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    g = jax.random.normal(keys[2], y.shape)
    for ours, theirs in zip(pull(g), expected_pull(g), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
def test_second_derivatives_equal_the_reference(stride, padding, kernel):
    keys = jax.random.split(jax.random.key(2), 4)
    at = (
        jax.random.normal(keys[0], (2, 7, 8, 3)),
        jax.random.normal(keys[1], (*kernel, 3, 4)),
    )
    along = (jax.random.normal(keys[2], at[0].shape), jax.random.normal(keys[3], at[1].shape))

    def product(conv):
        def loss(x, w):
            return jnp.sum(jnp.sin(conv(x, w, stride, padding)))

        def slope(x, w):
            return sum(map(jnp.vdot, jax.grad(loss, argnums=(0, 1))(x, w), along))

        return jax.jit(jax.grad(slope, argnums=(0, 1)))(*at)

    for ours, theirs in zip(product(conv2d), product(reference), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_mapped_over_runs_equals_each_run_alone():
    keys = jax.random.split(jax.random.key(1), 2)
    x = jax.random.normal(keys[0], (3, 2, 6, 6, 2))
    w = jax.random.normal(keys[1], (3, 3, 3, 2, 4))

    def loss(x, w):
        return jnp.sum(jnp.sin(conv2d(x, w)))

    packed = jax.vmap(jax.grad(loss, argnums=(0, 1)))(x, w)
    for run in range(3):
        alone = jax.grad(loss, argnums=(0, 1))(x[run], w[run])
        for ours, theirs in zip(packed, alone, strict=True):
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
