"""Two-dimensional convolution whose gradients are never left to automatic differentiation.

Output, input gradient and kernel gradient are bilinear, and the gradients of each are the other
two, so that derivatives of every order stay within one `Lowering`.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
from jax import lax

from fishjax.nn.lowering import Geometry, Lowering, chosen
from fishjax.nn.lowerings.canonical import CANONICAL

Padding = Literal["SAME", "VALID"]
_Pair = tuple[jax.Array, jax.Array]


def conv2d(x: jax.Array, w: jax.Array, stride: int = 1, padding: Padding = "SAME") -> jax.Array:
    """Cross-correlates `x` `[batch, height, width, in]` with `w` `[kh, kw, in, out]`.

    Equal to `lax.conv_general_dilated` with square strides; returns `[batch, h', w', out]`.
    Raises ValueError where the channels differ or the kernel does not fit the padded image.
    A kernel of one pixel with a stride sees only the pixels it reads: oneDNN 2.6 without AVX-512
    writes beyond its memory in the kernel gradient of the strided one.
    """
    if x.ndim != 4 or w.ndim != 4 or x.shape[3] != w.shape[2]:
        raise ValueError(f"cannot convolve x{list(x.shape)} with w{list(w.shape)}")
    if stride < 1:
        raise ValueError(f"stride is {stride}")
    if stride > 1 and w.shape[:2] == (1, 1):
        return conv2d(x[:, ::stride, ::stride], w)
    pads = tuple(lax.padtype_to_pads(x.shape[1:3], w.shape[:2], (stride, stride), padding))
    geometry = Geometry(x.shape, w.shape, stride, pads)
    if min(geometry.output) < 1:
        raise ValueError(f"kernel w{list(w.shape)} does not fit x{list(x.shape)} with {padding}")
    return _forward(x, w, geometry, chosen(geometry, CANONICAL))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _forward(x: jax.Array, w: jax.Array, geometry: Geometry, lowering: Lowering) -> jax.Array:
    return lowering.forward(x, w, geometry)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _to_input(g: jax.Array, w: jax.Array, geometry: Geometry, lowering: Lowering) -> jax.Array:
    return lowering.input_gradient(g, w, geometry)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _to_kernel(x: jax.Array, g: jax.Array, geometry: Geometry, lowering: Lowering) -> jax.Array:
    return lowering.kernel_gradient(x, g, geometry)


def _back_forward(geometry: Geometry, lowering: Lowering, saved: _Pair, g: jax.Array) -> _Pair:
    """The barrier keeps XLA from computing the gradient twice, fused into either of its readers."""
    x, w = saved
    g = lax.optimization_barrier(g)
    return _to_input(g, w, geometry, lowering), _to_kernel(x, g, geometry, lowering)


def _back_to_input(geometry: Geometry, lowering: Lowering, saved: _Pair, x: jax.Array) -> _Pair:
    g, w = saved
    return _forward(x, w, geometry, lowering), _to_kernel(x, g, geometry, lowering)


def _back_to_kernel(geometry: Geometry, lowering: Lowering, saved: _Pair, w: jax.Array) -> _Pair:
    x, g = saved
    return _to_input(g, w, geometry, lowering), _forward(x, w, geometry, lowering)


def _keeping(product: Callable[..., Any]) -> Callable[..., tuple[Any, _Pair]]:
    """The product, and its factors for its gradients."""

    def forward(
        a: jax.Array, b: jax.Array, geometry: Geometry, lowering: Lowering
    ) -> tuple[Any, _Pair]:
        return product(a, b, geometry, lowering), (a, b)

    return forward


_forward.defvjp(_keeping(_forward), _back_forward)
_to_input.defvjp(_keeping(_to_input), _back_to_input)
_to_kernel.defvjp(_keeping(_to_kernel), _back_to_kernel)
