"""Activations of a layer: moments, histogram, saturated and dormant shares."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

DORMANT_TAU = 0.025
MAGNITUDES = tuple(float(f"{10 ** (k / 2):.3g}") for k in range(-6, 7))
BINS = (*(-edge for edge in reversed(MAGNITUDES)), 0.0, *MAGNITUDES)
"""The edge of each histogram bin that is nearest to 0; two to a decade of magnitude, by sign.

The bin 0 holds what is smaller than 0.001 in magnitude, the outermost ones all beyond 1000.
"""


def moments(h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of all entries."""
    mean = jnp.mean(h)
    return mean, jnp.mean(jnp.square(h - mean))


def histogram(h: jax.Array) -> jax.Array:
    """The share of the entries in each of BINS, `[bin]`; a NaN is counted in none."""
    size = jnp.asarray(MAGNITUDES, h.dtype)
    flat = h.reshape(-1)
    reaching = jax.lax.map(lambda edge: _counts(flat, edge), size)
    below, above = reaching[:, 0], reaching[:, 1]
    small = jnp.sum(jnp.abs(flat) < size[0])
    counts = jnp.concatenate([_ring(below)[::-1], small[None], _ring(above)])
    return counts.astype(jnp.float32) / flat.size


def saturated_share(h: jax.Array, activation: str) -> jax.Array:
    """The share of the entries at which the activation function is flat; NaN where `h` cannot say.

    relu, leaky_relu: exactly 0. tanh: above 0.95 in magnitude. sigmoid: outside [0.05, 0.95].
    elu: below -0.95. These are the asymptotes of Glorot & Bengio 2010 within 5 % of the range's
    unit, as in Rakitianskaia & Engelbrecht 2015. gelu and silu come back to 0 far below it, where
    they are flat, so that their outputs do not tell: NaN, as for a network of one's own.
    """
    flat = _FLAT.get(activation)
    return jnp.mean(flat(h).astype(jnp.float32)) if flat else jnp.float32(jnp.nan)


def dormant_units(h: jax.Array, tau: float) -> jax.Array:
    """The share of the units of `[batch, ..., unit]` that are tau-dormant (Sokar et al. 2023).

    Dormant: a mean absolute activation of at most `tau` times the layer's mean. With tau 0, the
    units that are silent on the whole batch. In a layer of zeros all are dormant.
    """
    size = jnp.mean(jnp.abs(h), axis=tuple(range(h.ndim - 1)))
    return jnp.mean((size <= tau * jnp.mean(size)).astype(jnp.float32))


def _counts(flat: jax.Array, edge: jax.Array) -> jax.Array:
    """How many entries are at or below `-edge`, and at or above `edge`."""
    return jnp.stack([jnp.sum(flat <= -edge), jnp.sum(flat >= edge)])


def _ring(reaching: jax.Array) -> jax.Array:
    """From those beyond each edge, those between it and the next; the last ring is open."""
    return reaching - jnp.append(reaching[1:], 0)


_FLAT: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": lambda h: h == 0,
    "leaky_relu": lambda h: h == 0,
    "tanh": lambda h: jnp.abs(h) > 0.95,
    "sigmoid": lambda h: jnp.abs(h - 0.5) > 0.45,
    "elu": lambda h: h < -0.95,
}
