"""Convolutions that every backend has a fast kernel for: NHWC images, HWIO kernels, stride ahead.

Inside a `lax.scan`, XLA on the CPU canonicalises no layouts, so the backward convolutions that
automatic differentiation makes fall to its unoptimised kernel, 30 to 100 times slower (jax#12868).
Here all three are spelled in the one layout that stays fast.
"""

import jax
import jax.numpy as jnp
from jax import lax

from fishjax.nn.lowering import Geometry, Lowering

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_Pads = tuple[tuple[int, int], ...]


def forward(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """Cross-correlation of the images with the kernel."""
    return _correlate(x, w, geometry.pads, geometry.stride)


def input_gradient(g: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """Full correlation of the spread output gradient with the flipped, transposed kernel."""
    spread = _spread(g, geometry.stride)
    flipped = jnp.flip(w, (0, 1)).swapaxes(2, 3)
    return _correlate(spread, flipped, _around_gradient(spread.shape, geometry))


def kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """Correlation of the images with the spread output gradient, batch and channel exchanged."""
    spread = _spread(g, geometry.stride)
    around = _around_images(spread.shape, geometry)
    gradient = _correlate(x.transpose(3, 1, 2, 0), spread.transpose(1, 2, 0, 3), around)
    return gradient.transpose(1, 2, 0, 3)


CANONICAL = Lowering(forward, input_gradient, kernel_gradient)


def _correlate(x: jax.Array, w: jax.Array, pads: _Pads, stride: int = 1) -> jax.Array:
    return lax.conv_general_dilated(x, w, (stride, stride), pads, dimension_numbers=_LAYOUT)


def _spread(g: jax.Array, stride: int) -> jax.Array:
    """`g` with `stride - 1` zeros between neighbouring pixels."""
    if stride == 1:
        return g
    between = (0, 0, stride - 1)
    return lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), between, between, (0, 0, 0)))


def _around_gradient(spread: tuple[int, ...], geometry: Geometry) -> _Pads:
    """Padding of the spread gradient after which the kernel meets every pixel of the images."""
    around = []
    for axis, (low, _) in enumerate(geometry.pads):
        size, reach = geometry.images[1 + axis], geometry.kernel[axis]
        before = reach - 1 - low
        around.append((before, size + reach - 1 - spread[1 + axis] - before))
    return tuple(around)


def _around_images(spread: tuple[int, ...], geometry: Geometry) -> _Pads:
    """Padding of the images after which the gradient meets them at every place of the kernel."""
    around = []
    for axis, (low, _) in enumerate(geometry.pads):
        size, reach = geometry.images[1 + axis], geometry.kernel[axis]
        around.append((low, spread[1 + axis] + reach - 1 - size - low))
    return tuple(around)
