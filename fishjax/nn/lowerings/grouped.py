"""Convolutions as cuDNN knows them: one kernel for each map, over all mapped runs at once.

The maps are spelled as XLA recognises them for the GPU: the input gradient by its reversed kernel,
the kernel gradient by its dilated window. Mapped over runs, the first two become convolutions in
feature groups, by JAX's own rule. That rule would make the kernel gradient one in feature groups
too, which cuDNN runs as a forward convolution with an image for a kernel; in batch groups it is
cuDNN's backward filter in groups. Where only one factor is mapped, nothing is grouped: its runs are
folded into the batch or the channels of one dense convolution.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from fishjax.nn.lowering import Geometry, Lowering
from fishjax.nn.lowerings.margins import around_gradient, around_images


def forward(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """Cross-correlation of the images with the kernel."""
    strides = (geometry.stride, geometry.stride)
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, w, strides, geometry.pads, dimension_numbers=layout)


def input_gradient(g: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """Full correlation of the dilated output gradient with the reversed kernel."""
    return lax.conv_general_dilated(
        g,
        jnp.flip(w, (0, 1)),
        (1, 1),
        around_gradient(geometry),
        lhs_dilation=(geometry.stride, geometry.stride),
        dimension_numbers=("NHWC", "HWOI", "NHWC"),
    )


def kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """Correlation of the images with the dilated output gradient, in batch groups over runs."""

    @custom_vmap
    def alone(x: jax.Array, g: jax.Array) -> jax.Array:
        return _correlate(x, g, geometry, 1)

    @alone.def_vmap
    def over_runs(runs: int, mapped: list[bool], x: jax.Array, g: jax.Array) -> tuple:
        height, width, channels, out = geometry.kernel
        if all(mapped):
            gradient = _correlate(_beside(x), _beside(g), geometry, runs)
        elif mapped[0]:
            wide = _widened(geometry, runs * channels, out)
            gradient = kernel_gradient(_beside(x), g, wide)
            apart = gradient.reshape(height, width, runs, channels, out)
            return jnp.moveaxis(apart, 2, 0), True
        else:
            wide = _widened(geometry, channels, runs * out)
            gradient = kernel_gradient(x, _beside(g), wide)
        apart = gradient.reshape(height, width, channels, runs, out)
        return jnp.moveaxis(apart, 3, 0), True

    return alone(x, g)


GROUPED = Lowering(forward, input_gradient, kernel_gradient)


def _correlate(x: jax.Array, g: jax.Array, geometry: Geometry, groups: int) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        g,
        (1, 1),
        around_images(geometry),
        rhs_dilation=(geometry.stride, geometry.stride),
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        batch_group_count=groups,
    )


def _beside(x: jax.Array) -> jax.Array:
    """`[run, batch, height, width, channel]` with every run's channels beside one another."""
    return jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1)


def _widened(geometry: Geometry, channels: int, out: int) -> Geometry:
    return dataclasses.replace(
        geometry,
        images=(*geometry.images[:3], channels),
        kernel=(*geometry.kernel[:2], channels, out),
    )
