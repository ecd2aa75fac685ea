"""How a gradient is laid against images and kernel: zeros around them, and between its pixels."""

import jax
import jax.numpy as jnp
from jax import lax

from fishjax.nn.lowering import Geometry

Pads = tuple[tuple[int, int], ...]


def around_gradient(geometry: Geometry) -> Pads:
    """Padding of the spread gradient after which the kernel meets every pixel of the images."""
    around = []
    for axis, (low, _) in enumerate(geometry.pads):
        size, reach = geometry.images[1 + axis], geometry.kernel[axis]
        before = reach - 1 - low
        around.append((before, size + reach - 1 - _spread_size(geometry, axis) - before))
    return tuple(around)


def around_images(geometry: Geometry) -> Pads:
    """Padding of the images after which the gradient meets them at every place of the kernel."""
    around = []
    for axis, (low, _) in enumerate(geometry.pads):
        size, reach = geometry.images[1 + axis], geometry.kernel[axis]
        around.append((low, _spread_size(geometry, axis) + reach - 1 - size - low))
    return tuple(around)


def spread(g: jax.Array, stride: int) -> jax.Array:
    """`g` `[batch, height, width, channel]` with `stride - 1` zeros between neighbouring pixels."""
    if stride == 1:
        return g
    between = (0, 0, stride - 1)
    return lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), between, between, (0, 0, 0)))


def _spread_size(geometry: Geometry, axis: int) -> int:
    return (geometry.output[1 + axis] - 1) * geometry.stride + 1
