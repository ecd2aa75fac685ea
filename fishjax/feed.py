"""What a run is fed: images on the device, its own indices into them, its order of minibatches."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fishjax.setup import Hyper

INIT, ORDER, DROPOUT, KILL, AUGMENT, RATES = range(6)


class Feed(NamedTuple):
    """Images and one run's view of them.

    pool, labels: every example of the source, shared by all runs, uint8
    `[example, height, width, 3]` and int32 `[example]`. train, val, test: int32 indices of this
    run. mean, deviation: of its training pixels scaled to [0, 1], `[3]`. clean: int32 `[example]`,
    the labels before any was flipped; None where the program is to know of no flipped labels.
    """

    pool: jax.Array
    labels: jax.Array
    train: jax.Array
    val: jax.Array
    test: jax.Array
    mean: jax.Array
    deviation: jax.Array
    clean: jax.Array | None = None


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


def class_counts(feed: Feed, classes: int) -> jax.Array:
    """The run's training images of each class, float32 `[class]`."""
    labels = feed.labels[feed.train]
    return jnp.sum(jax.nn.one_hot(labels, classes), axis=0)


def drawn(
    feed: Feed, hyper: Hyper, key: jax.Array, epoch: jax.Array, counts: jax.Array
) -> jax.Array:
    """The training indices of one epoch, as many as there are: a function of seed, `order`, epoch.

    `hyper.sampling` is shuffled, every image once, or balanced: with replacement, each class that
    has images with equal chance and each of its images with equal chance. counts: see
    `class_counts`. Before the epoch `hyper.order_from` the order is 0.
    """
    order, since = (jnp.asarray(x, jnp.int32) for x in (hyper.order, hyper.order_from))
    order = jnp.where(epoch >= since, order, 0)
    now = jax.random.fold_in(jax.random.fold_in(stream(key, ORDER), order), epoch)

    def shuffled() -> jax.Array:
        return jax.random.permutation(now, feed.train)

    def balanced() -> jax.Array:
        chance = 1.0 / counts[feed.labels[feed.train]]
        return jax.random.choice(now, feed.train, feed.train.shape, p=chance)

    return lax.cond(jnp.asarray(hyper.sampling) > 0, balanced, shuffled)
