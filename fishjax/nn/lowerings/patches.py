"""Convolutions as matrix products: a kernel's row of every patch, for each row of the kernel.

Mapped over runs, every product becomes one batched product, whatever is mapped, and nothing is left
in groups. The rows of the patches take `kw` times the memory of the images, where whole patches
would take `kh * kw`.
"""

import jax
import jax.numpy as jnp
from jax import lax

from fishjax.nn.lowering import Geometry, Lowering
from fishjax.nn.lowerings.margins import Pads, around_gradient, spread


def forward(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """Patches of the images times the kernel."""
    return _correlate(x, w, geometry.pads, geometry.stride)


def input_gradient(g: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """Patches of the spread output gradient times the flipped, transposed kernel."""
    flipped = jnp.flip(w, (0, 1)).swapaxes(2, 3)
    return _correlate(spread(g, geometry.stride), flipped, around_gradient(geometry), 1)


def kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """Transposed patches of the images times the output gradient."""
    over = (0, 1, 2)
    rows = _patch_rows(x, geometry.kernel[:2], geometry.pads, geometry.stride)
    return jnp.stack([jnp.tensordot(row, g, (over, over)) for row in rows]).reshape(geometry.kernel)


PATCHES = Lowering(forward, input_gradient, kernel_gradient)


def _correlate(x: jax.Array, w: jax.Array, pads: Pads, stride: int) -> jax.Array:
    rows = _patch_rows(x, w.shape[:2], pads, stride)
    kernel = w.reshape(w.shape[0], -1, w.shape[3])
    return sum(
        (jnp.tensordot(row, kernel[at], 1) for at, row in enumerate(rows[1:], 1)),
        jnp.tensordot(rows[0], kernel[0], 1),
    )


def _patch_rows(x: jax.Array, reach: tuple[int, ...], pads: Pads, stride: int) -> list[jax.Array]:
    """For each row of the kernel what it meets, `[batch, height', width', kw * channel]`."""
    around = ((0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0))
    padded = lax.pad(x, jnp.zeros((), x.dtype), around)
    tops, lefts = (
        [slice(at, padded.shape[axis] - extent + at + 1, stride) for at in range(extent)]
        for axis, extent in enumerate(reach, 1)
    )
    rows = jnp.concatenate([padded[:, :, left] for left in lefts], axis=-1)
    return [rows[:, top] for top in tops]
