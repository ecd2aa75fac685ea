"""Canonical convolutions of few channels, neighbouring output pixels computed as further channels.

XLA's convolution on the CPU wastes most of its width on a handful of output channels. A kernel that
holds several shifted copies of the kernel, and steps over as many pixels at once, has as many times
more of them. The kernel gradient stays canonical: packed, it is slower.
"""

import jax
import jax.numpy as jnp
from jax import lax

from fishjax.nn.lowering import Geometry, Lowering
from fishjax.nn.lowerings.canonical import CANONICAL
from fishjax.nn.lowerings.margins import Pads, around_gradient


def forward(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """Cross-correlation of the images with the kernel."""
    pixels = pixels_at_once(geometry, *geometry.kernel[2:])
    if pixels == 1:
        return CANONICAL.forward(x, w, geometry)
    return _correlate(x, w, geometry.pads, pixels)


def input_gradient(g: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """Full correlation of the output gradient with the flipped, transposed kernel."""
    pixels = pixels_at_once(geometry, *geometry.kernel[:1:-1])
    if pixels == 1:
        return CANONICAL.input_gradient(g, w, geometry)
    flipped = jnp.flip(w, (0, 1)).swapaxes(2, 3)
    return _correlate(g, flipped, around_gradient(geometry), pixels)


PACKED = Lowering(forward, input_gradient, CANONICAL.kernel_gradient)


def pixels_at_once(geometry: Geometry, channels: int, out: int) -> int:
    """How many neighbours to compute together of a map from `channels` to `out`: 1, 2, 4 or 8.

    As measured with jaxlib 0.10 for kernels of 3x3: what brings the output channels to 32, or to 64
    from fewer than four. From more than 16 channels, with a stride, or for a kernel one pixel wide:
    1, that is canonical.
    """
    if geometry.stride > 1 or geometry.kernel[1] == 1 or channels > 16:
        return 1
    room = (64 if channels < 4 else 32) // out
    most = min(8, geometry.output[2], room)
    return max(p for p in (1, 2, 4, 8) if p <= max(most, 1))


def _correlate(x: jax.Array, w: jax.Array, pads: Pads, pixels: int) -> jax.Array:
    """`[batch, h', w', out]` by way of `[batch, h', w' / pixels, pixels * out]`."""
    rows, (before, after) = pads
    width = x.shape[2] + before + after - w.shape[1] + 1
    steps = -(-width // pixels)
    y = lax.conv_general_dilated(
        x,
        _side_by_side(w, pixels),
        (1, pixels),
        (rows, (before, after + steps * pixels - width)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y.reshape(*y.shape[:2], steps * pixels, w.shape[3])[:, :, :width]


def _side_by_side(w: jax.Array, pixels: int) -> jax.Array:
    """`[kh, kw + pixels - 1, in, pixels * out]`: the kernel shifted by each of `pixels` places."""
    none = (0, 0)
    shifted = [
        jnp.pad(w, (none, (place, pixels - 1 - place), none, none)) for place in range(pixels)
    ]
    return jnp.concatenate(shifted, axis=3)
