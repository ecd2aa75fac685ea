"""Units: which ever activate, which died, which came back, and which get no gradient.

A unit is a channel of a convolution or one output of a dense layer. It is active on a sample when
its activation is not exactly 0 at some location, so a leaky unit never counts as dead.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

DEAD_BELOW = 0.01
DORMANT_BELOW = 0.01


class History(NamedTuple):
    """What has been seen of each unit at evaluations, bool `[unit]` over all hidden layers.

    born: active on some sample at the first reading. died: born, and silent on every sample at
    some later one. revived: active again after that. readings: how many there were, int32.
    """

    born: jax.Array
    died: jax.Array
    revived: jax.Array
    readings: jax.Array


def activity(h: jax.Array, weight: jax.Array) -> jax.Array:
    """The total `weight` `[batch]` of the samples on which each unit of `h` is active, `[unit]`."""
    active = jnp.any(h != 0, axis=tuple(range(1, h.ndim - 1)))
    return weight @ active.astype(weight.dtype)


def unseen(units: int) -> History:
    """The history before the first evaluation."""
    never = jnp.zeros(units, bool)
    return History(never, never, never, jnp.int32(0))


def follow(history: History, activity: jax.Array) -> History:
    """The history after one more evaluation, with activities `[unit]` on the same probe set."""
    silent = activity == 0
    born = jnp.where(history.readings == 0, ~silent, history.born)
    died = history.died | (born & silent)
    return History(born, died, history.revived | (died & ~silent), history.readings + 1)


def unit_shares(history: History, activity: jax.Array, units: tuple[int, ...]) -> dict:
    """Per hidden layer `[layer]`, shares in [0, 1].

    activity: samples a unit is active on, mean over units.
    dead_share: units active on less than 1 % of the samples (SageMaker Debugger's DeadRelu).
    born_dead_share: units active on no sample at the first evaluation.
    died_share: units born that are now active on no sample.
    revived_share: units that died and were seen active again.
    """
    return {
        "activity": _by_layer(activity, units),
        "dead_share": _by_layer(activity < DEAD_BELOW, units),
        "born_dead_share": _by_layer(~history.born, units),
        "died_share": _by_layer(history.born & (activity == 0), units),
        "revived_share": _by_layer(history.revived, units),
    }


def revival(history: History) -> jax.Array:
    """Of the units ever seen to have died, the share seen active again; NaN where none died."""
    died, revived = jnp.sum(history.died), jnp.sum(history.revived)
    return jnp.where(died > 0, revived / jnp.maximum(died, 1), jnp.nan)


def silent_share(h: jax.Array) -> jax.Array:
    """The share of the units of `[batch, ..., unit]` that are active on no sample of the batch."""
    silent = jnp.all(h == 0, axis=tuple(range(h.ndim - 1)))
    return jnp.mean(silent.astype(h.dtype))


def dormant_share(gradient: jax.Array) -> jax.Array:
    """The share of units whose gradient at the pre-activation, `[batch, ..., unit]`, is dormant.

    Dormant: a mean absolute gradient of at most 1 % of the layer's mean (GraMa; the score of
    ReDo, Sokar et al. 2023, on gradients). A layer that gets no gradient is wholly dormant.
    """
    size = jnp.mean(jnp.abs(gradient), axis=tuple(range(gradient.ndim - 1)))
    return jnp.mean((size <= DORMANT_BELOW * jnp.mean(size)).astype(gradient.dtype))


def _by_layer(values: jax.Array, units: tuple[int, ...]) -> jax.Array:
    """The mean of `[unit]` over each hidden layer: `[layer]`."""
    ends = [sum(units[: i + 1]) for i in range(len(units))]
    parts = jnp.split(values.astype(jnp.float32), ends[:-1])
    return jnp.stack([jnp.mean(part) for part in parts])
