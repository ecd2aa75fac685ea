"""A `Block` of JAX's own operations with its gradient in closed form, for every backend.

Left to differentiation, XLA's norm, rectifier and pool cost a CPU as much as the convolutions. Here
all but three passes of a pooled layer work on the pixels that won their windows. Affine map and
rectifier are monotone, so these are found, and found again, among the convolution's own outputs,
which no rounding tells apart.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fishjax.nn.layers import max_pool
from fishjax.nn.lowering import Epilogue
from fishjax.nn.norms import EPSILON, standardised

_PIXELS = (0, 1, 2)


class _Affine(NamedTuple):
    """A channel's way to its pre-activation; all `[1, 1, 1, channel]`."""

    mean: jax.Array
    variance: jax.Array
    scale: jax.Array
    bias: jax.Array

    def of(self, x: jax.Array, norm: bool) -> jax.Array:
        return (x - self.mean) * (self.scale * self.root) + self.bias if norm else x + self.bias

    @property
    def root(self) -> jax.Array:
        return lax.rsqrt(self.variance + EPSILON)


def closed_block(
    x: jax.Array, scale: jax.Array | None, bias: jax.Array, slope: Any, pool: bool
) -> Epilogue:
    """See `lowering.Block`; `slope` in [0, 1]. Equal pixels of a window share its gradient."""
    gain = jnp.ones_like(bias) if scale is None else scale
    gain, shift = (each.reshape(1, 1, 1, -1) for each in (gain, bias))
    leak, norm = jnp.asarray(slope, x.dtype), scale is not None
    found: Any = _forward(x, gain, shift, leak, norm, pool)
    out, mean, variance = found
    pixels, affine = lax.optimization_barrier((x, _Affine(mean, variance, gain, shift)))
    of_channel = _peak(pixels, affine, leak, norm), mean, variance
    return Epilogue(out, *(lax.stop_gradient(each).reshape(-1) for each in of_channel))


def _peak(x: jax.Array, affine: _Affine, slope: jax.Array, norm: bool) -> jax.Array:
    """The largest magnitude of the activation, which a channel's highest or lowest pixel has."""
    ends = jnp.max(x, _PIXELS, keepdims=True), jnp.min(x, _PIXELS, keepdims=True)
    high, low = (jnp.abs(_rectified(affine.of(end, norm), slope)) for end in ends)
    return jnp.maximum(high, low)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, slope: jax.Array, norm: bool, pool: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What goes on, and mean and variance."""
    return _keep(x, scale, bias, slope, norm, pool)[0]


def _keep(
    x: jax.Array, scale: jax.Array, bias: jax.Array, slope: jax.Array, norm: bool, pool: bool
) -> tuple[tuple, tuple]:
    """The barrier keeps the moments' rounding the same, whoever else reads them."""
    moments = standardised(x)[1:] if norm else (jnp.zeros_like(bias), jnp.ones_like(bias))
    mean, variance = lax.optimization_barrier(moments)
    affine, facing = _Affine(mean, variance, scale, bias), jnp.where(scale < 0, -1.0, 1.0)
    won = facing * max_pool(facing * x) if pool else x
    out = _rectified(affine.of(won, norm), slope)
    return (out, mean, variance), (x, won, affine, slope)


def _back(norm: bool, pool: bool, saved: tuple, of: tuple) -> tuple:
    """Batch norm's gradient as in section 3 of Ioffe & Szegedy 2015.

    The leak is a factor: a choice between two gradients becomes branches on a CPU.
    """
    x, won, affine, slope = saved
    g = lax.optimization_barrier(of[0] * jnp.where(affine.of(won, norm) > 0, 1.0, slope))
    to_bias = jnp.sum(g, _PIXELS, keepdims=True)
    to_x = _to_winners(g, x, won) if pool else g
    if not norm:
        return to_x, jnp.zeros_like(affine.scale), to_bias, jnp.zeros_like(slope)
    root, count = affine.root, x.size // x.shape[-1]
    to_scale = jnp.sum(g * (won - affine.mean), _PIXELS, keepdims=True) * root
    along = (x - affine.mean) * (root * to_scale / count)
    to_x = (affine.scale * root) * (to_x - to_bias / count - along)
    return to_x, to_scale, to_bias, jnp.zeros_like(slope)


_forward.defvjp(_keep, _back)


def _rectified(z: jax.Array, slope: jax.Array) -> jax.Array:
    return z * jnp.where(z > 0, 1.0, slope)


def _to_winners(g: jax.Array, x: jax.Array, won: jax.Array) -> jax.Array:
    """The gradient of each window in equal shares at its winners in `x`; 0 at a cropped edge."""
    batch, height, width, channels = won.shape
    window = [x[:, i : 2 * height : 2, j : 2 * width : 2] for i in (0, 1) for j in (0, 1)]
    winners = sum((pixel == won).astype(x.dtype) for pixel in window)
    share, of = lax.optimization_barrier((g / winners, won))
    split = x[:, : 2 * height, : 2 * width].reshape(batch, height, 2, width, 2, channels)
    apart = (split == of[:, :, None, :, None]).astype(x.dtype) * share[:, :, None, :, None]
    found = apart.reshape(batch, 2 * height, 2 * width, channels)
    edges = (x.shape[1] - 2 * height, x.shape[2] - 2 * width)
    return jnp.pad(found, ((0, 0), (0, edges[0]), (0, edges[1]), (0, 0))) if any(edges) else found
