"""Axes: where the numbers of a layer's units meet the layer's output."""

import jax
import jax.numpy as jnp


def along_units(values: jax.Array, h: jax.Array) -> jax.Array:
    """`values` `[unit]` with axes of length 1 in front, as many as `h` `[..., unit]` has."""
    return jnp.expand_dims(values, tuple(range(h.ndim - 1)))
