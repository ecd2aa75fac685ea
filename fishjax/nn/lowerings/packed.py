"""Canonical convolutions of few channels, neighbouring output pixels computed as further channels.

XLA's convolution on the CPU wastes most of its width on a handful of output channels. A kernel that
holds several shifted copies of the kernel, and steps over as many pixels at once, has as many times
more of them. The kernel gradient stays canonical: packed, it is slower.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from fishjax.nn.lowering import Geometry, Lowering
from fishjax.nn.lowerings.canonical import CANONICAL
from fishjax.nn.lowerings.margins import Pads, around_gradient


@functools.cache
def packed(channels: int) -> Lowering:
    """As many neighbours at once as bring the output to at most `channels`.

    Which number is fastest differs between versions of XLA: 16, 32 and 64 are worth a try.
    """

    def forward(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
        pixels = pixels_at_once(x.shape, w.shape, geometry.stride, channels)
        if pixels == 1:
            return CANONICAL.forward(x, w, geometry)
        return _correlate(x, w, geometry.pads, pixels)

    def input_gradient(g: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
        flipped = jnp.flip(w, (0, 1)).swapaxes(2, 3)
        pixels = pixels_at_once(g.shape, flipped.shape, geometry.stride, channels)
        if pixels == 1:
            return CANONICAL.input_gradient(g, w, geometry)
        return _correlate(g, flipped, around_gradient(geometry), pixels)

    return Lowering(forward, input_gradient, CANONICAL.kernel_gradient)


def pixels_at_once(
    images: tuple[int, ...], kernel: tuple[int, ...], stride: int, channels: int
) -> int:
    """How many neighbours to compute together: 1 (that is canonical), 2, 4 or 8.

    1 with a stride or for a kernel one pixel wide. Never so many that the packed kernel has more
    pixels than an image: XLA would exchange the two, and fall to its unoptimised kernel.
    """
    if stride > 1 or kernel[1] == 1:
        return 1
    fits = images[1] * images[2] // kernel[0] - kernel[1] + 1
    return max((p for p in (2, 4, 8) if p <= min(fits, channels // kernel[3])), default=1)


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
