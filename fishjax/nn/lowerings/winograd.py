"""Winograd's 3x3 convolutions in JAX's own operations, with a quarter of the products.

Minimal filtering (Lavin & Gray 2016) of tiles of 4x4 pixels, at the points 0, +-2/3, +-3/2 and
infinity, which round less than whole numbers do (Barabasz et al. 2020): images, gradients and
kernels are evaluated at 6x6 points, multiplied at each over their channels, and interpolated.
"""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fishjax.nn.lowering import Geometry, Lowering
from fishjax.nn.lowerings.margins import Pads, around_gradient

REACH, TILE, CHANNELS = 3, 4, 8
AT_ONCE = 1 << 14
"""Tiles times channels: at 36 points a few megabytes, as much as a core's cache holds."""
_FINITE = (0.0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)


def computes(geometry: Geometry) -> bool:
    """Whether a convolution is one of these: 3x3, without a stride."""
    return geometry.kernel[:2] == (REACH, REACH) and geometry.stride == 1


def pays(geometry: Geometry) -> bool:
    """Whether one is worth a try: with channels enough to fill vectors.

    First layers of 3 are faster alone, and slow the steps of T and S down.
    """
    return computes(geometry) and min(geometry.kernel[2:]) >= CHANNELS


def forward(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """Cross-correlation of the images with the kernel."""
    return _correlate(x, w, geometry.pads)


def input_gradient(g: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """Full correlation of the output gradient with the flipped, transposed kernel."""
    return _correlate(g, jnp.flip(w, (0, 1)).swapaxes(2, 3), around_gradient(geometry))


def kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """Correlation of every patch of the images with its tile of the gradient, all added up."""
    counts = _tiles(g.shape[1:3])

    def add(total: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        patches = _at_points(_BASIS, part[0], geometry.pads, counts)
        tiles = _at_points(_values(TILE), part[1], ((0, 0), (0, 0)), counts)
        return total + jnp.einsum("ptc,ptk->pck", patches, tiles), None

    channels = geometry.kernel[2:]
    parts = _in_parts(x, counts, channels), _in_parts(g, counts, channels)
    products, _ = lax.scan(add, jnp.zeros((len(_BASIS) ** 2, *channels), x.dtype), parts)
    powers = _powers(REACH)
    products = products.reshape(len(_BASIS), len(_BASIS), *channels)
    return jnp.einsum("ai,bj,abck->ijck", powers, powers, products)


WINOGRAD = Lowering(forward, input_gradient, kernel_gradient)


def _correlate(x: jax.Array, w: jax.Array, pads: Pads) -> jax.Array:
    """`[batch, h', w', out]`, tile by tile; what lies beyond the edge is cut off."""
    rows, columns = (
        size + sum(pad) - REACH + 1 for size, pad in zip(x.shape[1:3], pads, strict=True)
    )
    counts = height, width = _tiles((rows, columns))
    values = _values(REACH)
    kernel = jnp.einsum("ai,bj,ijck->abck", values, values, w).reshape(-1, *w.shape[2:])

    def part(x: jax.Array) -> jax.Array:
        products = lax.optimization_barrier(_at_points(_BASIS, x, pads, counts) @ kernel)
        size = (len(_BASIS), x.shape[0], height, width, w.shape[3])
        by_row = _times(_powers(TILE).T, products.reshape(len(_BASIS), *size), 0)
        pixels = _times(_powers(TILE).T, by_row.swapaxes(0, 1), 4)
        return jnp.moveaxis(pixels, 0, 2).reshape(size[1], TILE * height, TILE * width, size[4])

    whole = lax.map(part, _in_parts(x, counts, w.shape[2:]))
    whole = whole.reshape(x.shape[0], TILE * height, TILE * width, w.shape[3])
    return whole[:, :rows, :columns]


def _tiles(size: Sequence[int]) -> tuple[int, int]:
    """How many tiles cover an image's height and width."""
    height, width = size
    return -(-height // TILE), -(-width // TILE)


def _in_parts(x: jax.Array, counts: tuple[int, int], channels: Sequence[int]) -> jax.Array:
    """`[batch, ...]` as `[part, image, ...]`: a part's tiles are worked on in the cache."""
    batch = len(x)
    most = AT_ONCE // (counts[0] * counts[1] * max(channels))
    size = max((n for n in range(1, most + 1) if batch % n == 0), default=1)
    return x.reshape(batch // size, size, *x.shape[1:])


def _at_points(matrix: np.ndarray, x: jax.Array, pads: Pads, counts: tuple[int, int]) -> jax.Array:
    """`[point, square, channel]`: squares of the images as wide as the matrix, one every TILE
    pixels, at every pair of points.
    """
    reach = matrix.shape[1]
    height, width = (TILE * (count - 1) + 1 for count in counts)
    around = [
        (low, corners + reach - 1 - size - low, 0)
        for corners, (low, _), size in zip((height, width), pads, x.shape[1:3], strict=True)
    ]
    padded = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *around, (0, 0, 0)))
    by_row = _times(matrix, [padded[:, at : at + height : TILE] for at in range(reach)], 0)
    columns = [by_row[:, :, :, at : at + width : TILE] for at in range(reach)]
    return _times(matrix, columns, 1).reshape(len(matrix) ** 2, -1, x.shape[3])


def _times(matrix: np.ndarray, parts: Iterable[jax.Array], axis: int) -> jax.Array:
    """The matrix times the parts, its rows along a new axis.

    In one loop, and computed once: fused with what reads it, XLA would do it again for each reader.
    """
    total = None
    for column, part in zip(matrix.T, parts, strict=True):
        part = jnp.expand_dims(part, axis)
        term = jnp.expand_dims(column, [i for i in range(part.ndim) if i != axis]) * part
        total = term if total is None else total + term
    return lax.optimization_barrier(total)


def _powers(count: int) -> np.ndarray:
    """`[point, power]`: 1, p, p^2, ... at every point; at infinity only the highest counts."""
    infinity = np.eye(count)[-1:]
    return np.concatenate([np.vander(_FINITE, count, increasing=True), infinity], dtype=np.float32)


def _values(count: int) -> np.ndarray:
    """`[point, coefficient]`: a polynomial at every point, over Lagrange's denominator there."""
    apart = np.subtract.outer(_FINITE, _FINITE) + np.eye(len(_FINITE))
    return _powers(count) / np.append(apart.prod(1), 1.0).astype(np.float32)[:, None]


def _basis() -> np.ndarray:
    """`[point, pixel]`: Lagrange's numerator of each point, and that of all points at infinity."""
    others = [[q for q in _FINITE if q != p] for p in _FINITE]
    rows = [np.append(np.poly(roots)[::-1], 0.0) for roots in others]
    return np.stack([*rows, np.poly(_FINITE)[::-1]]).astype(np.float32)


_BASIS = _basis()
