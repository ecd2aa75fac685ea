"""Convolutions that every backend has a fast kernel for: NHWC images, HWIO kernels, stride ahead.

Inside a `lax.scan`, XLA on the CPU canonicalises no layouts, so the backward convolutions that
automatic differentiation makes fall to its unoptimised kernel, 30 to 100 times slower (jax#12868).
Here all three are spelled in the one layout that stays fast.
"""

import jax
import jax.numpy as jnp
from jax import lax

from fishjax.nn.lowering import Geometry, Lowering
from fishjax.nn.lowerings.margins import Pads, around_gradient, around_images, spread

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def forward(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """Cross-correlation of the images with the kernel."""
    return _correlate(x, w, geometry.pads, geometry.stride)


def input_gradient(g: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """Full correlation of the spread output gradient with the flipped, transposed kernel."""
    apart = spread(g, geometry.stride)
    flipped = jnp.flip(w, (0, 1)).swapaxes(2, 3)
    return _correlate(apart, flipped, around_gradient(geometry))


def kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """Correlation of the images with the spread output gradient, batch and channel exchanged."""
    apart = spread(g, geometry.stride)
    images, filters = x.transpose(3, 1, 2, 0), apart.transpose(1, 2, 0, 3)
    gradient = _correlate(images, filters, around_images(geometry))
    return gradient.transpose(1, 2, 0, 3)


CANONICAL = Lowering(forward, input_gradient, kernel_gradient)


def _correlate(x: jax.Array, w: jax.Array, pads: Pads, stride: int = 1) -> jax.Array:
    return lax.conv_general_dilated(x, w, (stride, stride), pads, dimension_numbers=_LAYOUT)
