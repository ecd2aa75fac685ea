"""Two-dimensional convolution whose gradients are written as convolutions in NHWC/HWIO form.

Inside a `lax.scan`, XLA on the CPU canonicalises no layouts, so the backward convolutions that
automatic differentiation makes fall to its unoptimised kernel, 30 to 100 times slower (jax#12868).
Here AD never sees the primitive: all three convolutions are spelled in the one layout that every
backend has a fast kernel for. The gradients are such convolutions again, so that this holds for
derivatives of every order.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

Padding = Literal["SAME", "VALID"]
_LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv2d(x: jax.Array, w: jax.Array, stride: int = 1, padding: Padding = "SAME") -> jax.Array:
    """Cross-correlates `x` `[batch, height, width, in]` with `w` `[kh, kw, in, out]`.

    Equal to `lax.conv_general_dilated` with square strides; returns `[batch, h', w', out]`.
    Raises ValueError where the channels differ or the kernel does not fit the padded image.
    """
    if x.ndim != 4 or w.ndim != 4 or x.shape[3] != w.shape[2]:
        raise ValueError(f"cannot convolve x{list(x.shape)} with w{list(w.shape)}")
    if stride < 1:
        raise ValueError(f"stride is {stride}")
    pads = tuple(lax.padtype_to_pads(x.shape[1:3], w.shape[:2], (stride, stride), padding))
    if any(n + sum(p) < k for n, p, k in zip(x.shape[1:3], pads, w.shape[:2], strict=True)):
        raise ValueError(f"kernel w{list(w.shape)} does not fit x{list(x.shape)} with {padding}")
    return _conv(x, w, stride, pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x: jax.Array, w: jax.Array, stride: int, pads: tuple) -> jax.Array:
    return lax.conv_general_dilated(x, w, (stride, stride), pads, dimension_numbers=_LAYOUT)


def _forward(x: jax.Array, w: jax.Array, stride: int, pads: tuple) -> tuple:
    return _conv(x, w, stride, pads), (x, w)


def _backward(stride: int, pads: tuple, saved: tuple, g: jax.Array) -> tuple:
    x, w = saved
    spread = _spread(g, stride)
    return _input_gradient(spread, w, x.shape, pads), _kernel_gradient(x, spread, w.shape, pads)


_conv.defvjp(_forward, _backward)


def _spread(g: jax.Array, stride: int) -> jax.Array:
    """`g` with `stride - 1` zeros between neighbouring pixels."""
    if stride == 1:
        return g
    between = (0, 0, stride - 1)
    return lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), between, between, (0, 0, 0)))


def _input_gradient(g: jax.Array, w: jax.Array, shape: tuple, pads: tuple) -> jax.Array:
    """Full correlation of the spread output gradient with the flipped, transposed kernel."""
    around = []
    for size, grad, kernel, (low, _) in zip(
        shape[1:3], g.shape[1:3], w.shape[:2], pads, strict=True
    ):
        before = kernel - 1 - low
        around.append((before, size + kernel - 1 - grad - before))
    flipped = jnp.flip(w, (0, 1)).swapaxes(2, 3)
    return _conv(g, flipped, 1, tuple(around))


def _kernel_gradient(x: jax.Array, g: jax.Array, shape: tuple, pads: tuple) -> jax.Array:
    """Correlation of the images with the output gradient, batch and channel exchanged."""
    around = []
    for size, grad, kernel, (low, _) in zip(
        x.shape[1:3], g.shape[1:3], shape[:2], pads, strict=True
    ):
        around.append((low, grad + kernel - 1 - size - low))
    images = x.transpose(3, 1, 2, 0)
    filters = g.transpose(1, 2, 0, 3)
    gradient: jax.Array = _conv(images, filters, 1, tuple(around))  # type: ignore[assignment]
    return gradient.transpose(1, 2, 0, 3)
