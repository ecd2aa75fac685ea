"""The block in closed form against the one that is put together and left to differentiation."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fishjax.nn.lowerings.closed_block import closed_block
from fishjax.nn.lowerings.native_block import composed

LEAK = jnp.float32(0.1)


def draw(seed: int, *shapes: tuple[int, ...]) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def through(x, scale, bias, slope, norm, pool):
    return closed_block(x, scale if norm else None, bias, slope, pool).out


def close(ours, theirs, tolerance):
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        scale = max(float(jnp.max(jnp.abs(other))), 1e-30)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize(
    ("size", "slope"), [((4, 8, 8, 3), 0.0), ((2, 7, 5, 8), 0.1)], ids=["even", "odd"]
)
def test_value_and_gradients_mapped_over_runs_equal_the_composed_ones(size, slope):
    batch, height, width, channels = size
    x, scale, bias = draw(channels, (2, *size), *[(2, channels)] * 2)
    gradients = draw(1, (2, *size), (2, batch, height // 2, width // 2, channels))

    def every(block):
        def passes(norm, pool, x, scale, bias, g):
            value, pull = jax.vjp(lambda *at: block(*at, slope, norm, pool), x, scale, bias)
            return value, pull(g)

        return [
            jax.vmap(functools.partial(passes, norm, pool))(2 * x + 1, scale, bias, gradients[pool])
            for norm, pool in itertools.product((False, True), repeat=2)
        ]

    close(jax.jit(lambda: every(through))(), jax.jit(lambda: every(composed))(), 1e-5)


def test_equal_pixels_of_a_window_share_its_gradient():
    x = jnp.ones((1, 2, 2, 1)).at[0, 0, 0, 0].set(0.5)
    gradient = jax.grad(lambda x: jnp.sum(through(x, None, jnp.zeros(1), 0.0, False, True)))(x)
    np.testing.assert_allclose(gradient.ravel(), [0, 1 / 3, 1 / 3, 1 / 3], rtol=1e-6)


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_the_peak_is_the_largest_magnitude_cropped_edges_included(slope):
    x = -jnp.ones((2, 3, 3, 3))
    x = x.at[1, 2, 2, 1].set(0.5).at[0, 2, 0, 2].set(-4.0)
    found = closed_block(x, None, jnp.zeros(3), slope, True)
    np.testing.assert_array_equal(found.peak, [slope, 0.5, 4 * slope])
    (y, scale, bias) = draw(5, (2, 6, 6, 4), (4,), (4,))
    found = closed_block(y, scale, bias, slope, True)
    whole = composed(y, scale, bias, jnp.float32(slope), True, False)
    np.testing.assert_allclose(found.peak, jnp.abs(whole).max((0, 1, 2)), rtol=1e-5)


def test_no_nan_vanishes():
    for place in itertools.product(range(2), range(2)):
        x = jnp.zeros((1, 2, 2, 1)).at[0, *place, 0].set(jnp.nan)
        found = closed_block(x, None, jnp.zeros(1), 0.0, True)
        assert jnp.isnan(found.out).all()
        assert jnp.isnan(found.peak).all()


def test_moments_survive_a_large_mean():
    (x,) = draw(3, (16, 32, 32, 4))
    found = closed_block(x + 1000.0, jnp.ones(4), jnp.zeros(4), 0.0, False)
    exact = np.asarray(x + 1000.0, np.float64).reshape(-1, 4)
    np.testing.assert_allclose(found.mean, exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.variance, exact.var(0), rtol=1e-5)


def test_second_derivatives_equal_the_composed_ones():
    point = (*draw(4, (2, 6, 6, 4)), jnp.full(4, 1.2), jnp.full(4, 0.1))

    def curvature(block):
        def function(*at):
            return block(*at, LEAK, True, True)

        def slope(*at):
            return jax.grad(lambda *p: jnp.sum(jnp.sin(function(*p))), argnums=(0, 1, 2))(*at)

        total = jax.grad(lambda *p: sum(jnp.sum(s**2) for s in slope(*p)), argnums=(0, 1, 2))
        return jax.jit(total)(*point)

    close(curvature(through), curvature(composed), 1e-5)
