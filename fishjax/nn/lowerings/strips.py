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

AT_ONCE = 1 << 10
"""Pixels of a product: strips of 16 channels, 48 columns wide, then fit into a core's cache."""


def kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """Strips of the images times strips of the spread gradient, added up."""
    high, wide, channels, out = geometry.kernel
    apart = spread(g, geometry.stride)
    batch, height, width = apart.shape[:3]
    size = max((n for n in range(1, AT_ONCE // (height * width) + 1) if batch % n == 0), default=1)
    images, gradients = (each.reshape(batch // size, size, *each.shape[1:]) for each in (x, apart))

    def add(total: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        columns, rows = lax.optimization_barrier(_strips(*part, geometry))
        return total + jnp.einsum("...a,...b->ab", columns, rows), None

    nothing = jnp.zeros((wide * channels, high * out), x.dtype)
    total, _ = lax.scan(add, nothing, (images, gradients))
    return total.reshape(wide, channels, high, out).transpose(2, 0, 1, 3)


STRIPS = Lowering(packed(32).forward, packed(32).input_gradient, kernel_gradient)


def _strips(x: jax.Array, g: jax.Array, geometry: Geometry) -> tuple[jax.Array, jax.Array]:
    """`[image, row, column, wide * channels]` and `[image, row, column, high * out]`.

    They meet in the rows of the padded images and in the columns of the gradient.
    """
    high, wide = geometry.kernel[:2]
    width = g.shape[2]
    none = (0, 0, 0)
    around = [(*pad, 0) for pad in around_images(geometry)]
    padded = lax.pad(x, jnp.zeros((), x.dtype), (none, *around, none))
    columns = [padded[:, :, left : left + width] for left in range(wide)]
    rows = [
        lax.pad(g, jnp.zeros((), g.dtype), (none, (top, high - 1 - top, 0), none, none))
        for top in range(high)
    ]
    return jnp.concatenate(columns, -1), jnp.concatenate(rows, -1)
