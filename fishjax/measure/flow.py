"""Gradient flow: what reaches each layer's kernel, and how far the kernel moves."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

UP = 2.0**80
SMALL = 1e-10


class Flow(NamedTuple):
    """Euclidean norms over each layer's kernel in float32, every field `[layer]`."""

    gradient_norm: jax.Array
    weight_norm: jax.Array
    update_norm: jax.Array


def flow(params: Mapping, grads: Mapping, updates: Mapping, layers: tuple[str, ...]) -> Flow:
    """Norms of every layer's kernel, of its loss gradient, and of the update it gets."""
    return Flow(_norms(grads, layers), _norms(params, layers), _norms(updates, layers))


def relative(flow: Flow) -> dict[str, jax.Array]:
    """Per layer: gradient norm, weight norm, gradient over weight, update over weight.

    The ratios are dimensionless; a kernel of norm 0 has ratio 0.
    """
    weight = jnp.where(flow.weight_norm > 0, flow.weight_norm, jnp.inf)
    return {
        "gradient_norm": flow.gradient_norm,
        "weight_norm": flow.weight_norm,
        "flow": flow.gradient_norm / weight,
        "update_ratio": flow.update_norm / weight,
    }


def along_depth(flow: jax.Array) -> dict[str, jax.Array]:
    """Of the flow `[layer]` of consecutive layers, input first.

    flow_ratio: the first layer's over the last one's. flow_slope: see `decades`.
    """
    return {"flow_ratio": flow[0] / flow[-1], "flow_slope": decades(flow)}


def decades(flow: jax.Array) -> jax.Array:
    """Least-squares slope of log10(flow), of flow `[layer]`, in decades per layer.

    NaN for fewer than two layers.
    """
    depth = jnp.arange(flow.shape[0], dtype=flow.dtype)
    centred = depth - jnp.sum(depth) / max(len(depth), 1)
    return jnp.sum(centred * jnp.log10(flow)) / jnp.sum(jnp.square(centred))


def cosine(a: Any, b: Any) -> jax.Array:
    """The cosine between two trees of arrays taken as vectors; NaN where one of them is 0."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    product = sum(jnp.vdot(x, y) for x, y in pairs)
    return product / (size(a) * size(b))


def size(tree: Any) -> jax.Array:
    """The Euclidean norm of a tree of arrays taken as a vector."""
    return jnp.sqrt(sum(jnp.vdot(x, x) for x in jax.tree.leaves(tree)))


def norm(x: jax.Array) -> jax.Array:
    """The Euclidean norm of an array, in float32, right down to norms of 1e-35.

    One below `SMALL` is taken in units of 2^-80: the square of 1e-20 is no float32.
    """
    x = x.astype(jnp.float32)
    scaled = jnp.sqrt(jnp.sum(jnp.square(x * UP))) / UP
    plain = jnp.sqrt(jnp.sum(jnp.square(x)))
    return jnp.where(plain < SMALL, scaled, plain)


def _norms(tree: Mapping[str, Any], layers: tuple[str, ...]) -> jax.Array:
    return jnp.stack([norm(tree[layer]["kernel"]) for layer in layers])
