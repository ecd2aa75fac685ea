"""Kernel gradients as one product of rows: copies of the images, each a column further, times
copies of the gradient, each a row further.

Both are as many times as large as the kernel is wide or high, where whole patches would be as many
times as it has pixels; a matrix product of few channels gets rows and columns enough to be fast.
"""

import jax
import jax.numpy as jnp
from jax import lax

from fishjax.nn.lowering import Geometry, Lowering
from fishjax.nn.lowerings.margins import around_images, spread
from fishjax.nn.lowerings.packed import packed


def kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """Strips of every image times strips of its spread gradient, added up.

    They meet in the rows of the padded image and in the columns of the gradient. Images are written
    over one another, so that margins are zeroed once and a core's cache holds all that is copied.
    """
    high, wide, channels, out = geometry.kernel
    apart = spread(g, geometry.stride)
    height, width = apart.shape[1] + high - 1, apart.shape[2]

    def add(
        carry: tuple[jax.Array, jax.Array, jax.Array], pair: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
        total, columns, rows = carry
        columns, rows = _write(columns, rows, *pair, geometry)
        columns, rows = lax.optimization_barrier((columns, rows))
        return (total + jnp.einsum("hwa,hwb->ab", columns, rows), columns, rows), None

    nothing = (
        jnp.zeros((wide * channels, high * out), x.dtype),
        jnp.zeros((height, width, wide * channels), x.dtype),
        jnp.zeros((height, width, high * out), x.dtype),
    )
    (total, *_), _ = lax.scan(add, nothing, (x, apart))
    return total.reshape(wide, channels, high, out).transpose(2, 0, 1, 3)


STRIPS = Lowering(packed(32).forward, packed(32).input_gradient, kernel_gradient)


def _write(
    columns: jax.Array, rows: jax.Array, x: jax.Array, g: jax.Array, geometry: Geometry
) -> tuple[jax.Array, jax.Array]:
    """The strips `[row, column, wide * channels]` of an image and `[row, column, high * out]` of a
    gradient, written over those of others. No pad ahead of an image is negative.
    """
    high, wide, channels, out = geometry.kernel
    (top, _), (left, _) = around_images(geometry)
    height, width = rows.shape[:2]
    for right in range(wide):
        first, last = max(0, left - right), min(width, x.shape[1] + left - right)
        if first < last:
            part = x[: height - top, first + right - left : last + right - left]
            columns = lax.dynamic_update_slice(columns, part, (top, first, right * channels))
    for down in range(high):
        rows = lax.dynamic_update_slice(rows, g, (down, 0, down * out))
    return columns, rows
