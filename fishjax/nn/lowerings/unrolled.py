"""Mapped convolutions one after another: a dense one for each run, none of them in groups."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from fishjax.nn.lowering import Geometry, Lowering

_Product = Callable[[jax.Array, jax.Array, Geometry], jax.Array]


@functools.cache
def unrolled(one: Lowering) -> Lowering:
    """`one` for each run in turn, the program as many times as long; for packs of few runs.

    Where only one factor is mapped, it is left to `one`, which makes a single convolution of it.
    """
    return Lowering(*(_unrolled(product) for product in one))


def _unrolled(product: _Product) -> _Product:
    def call(a: jax.Array, b: jax.Array, geometry: Geometry) -> jax.Array:
        @custom_vmap
        def alone(a: jax.Array, b: jax.Array) -> jax.Array:
            return product(a, b, geometry)

        @alone.def_vmap
        def over_runs(runs: int, mapped: list[bool], a: jax.Array, b: jax.Array) -> tuple:
            if all(mapped):
                pairs = zip(jnp.unstack(a), jnp.unstack(b), strict=True)
                return jnp.stack([alone(*pair) for pair in pairs]), True
            axes = tuple(0 if each else None for each in mapped)
            return jax.vmap(lambda a, b: product(a, b, geometry), axes)(a, b), True

        return alone(a, b)

    return call
