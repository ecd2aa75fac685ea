"""What a run is fed: images on the device, its own indices into them, its order of minibatches."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fishjax.setup import Hyper

INIT, ORDER, DROPOUT, KILL = range(4)


class Feed(NamedTuple):
    """Images and one run's view of them.

    pool, labels: every example of the source, shared by all runs, uint8
    `[example, height, width, 3]` and int32 `[example]`. train, val, test: int32 indices of this
    run. mean, deviation: of its training pixels scaled to [0, 1], `[3]`.
    """

    pool: jax.Array
    labels: jax.Array
    train: jax.Array
    val: jax.Array
    test: jax.Array
    mean: jax.Array
    deviation: jax.Array


def stream(key: jax.Array, purpose: int) -> jax.Array:
    """The run's random key for one purpose; a function of its seed, never of its slot."""
    return jax.random.fold_in(key, purpose)


def images(feed: Feed, index: jax.Array) -> jax.Array:
    """The images `[index]` as float32, centred and scaled by the training pixels."""
    return normalised(feed.pool[index], feed.mean, feed.deviation)


def normalised(pixels: jax.Array, mean: jax.Array, deviation: jax.Array) -> jax.Array:
    """uint8 pixels `[image, height, width, 3]` as float32, centred and scaled per channel `[3]`."""
    along = (1, 1, 1, 3)
    return (pixels.astype(jnp.float32) / 255.0 - mean.reshape(along)) / deviation.reshape(along)


def shuffled(feed: Feed, hyper: Hyper, key: jax.Array, epoch: jax.Array) -> jax.Array:
    """The training indices in the order of one epoch: a function of seed, `order` and epoch."""
    order = jax.random.fold_in(stream(key, ORDER), jnp.asarray(hyper.order, jnp.int32))
    return jax.random.permutation(jax.random.fold_in(order, epoch), feed.train)
