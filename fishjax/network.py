"""A run's network at some moment, and the images that it is read on."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fishjax.evaluate import BATCH, PROBES
from fishjax.feed import Feed, class_counts, images
from fishjax.nn.losses import training_loss
from fishjax.nn.model import Model, Output, Variables
from fishjax.setup import Hyper, Setup

CHUNK = 256
"""Images whose batch statistics are taken together where running ones are recomputed."""

Readings = dict[str, jax.Array]
"""By metric: a number or an array over parts of the network, float32."""


class Network(NamedTuple):
    """A run's network after `step` steps, the last of them at the step `when` of the schedule."""

    setup: Setup
    model: Model
    hyper: Hyper
    feed: Feed
    variables: Variables
    step: jax.Array
    when: jax.Array


def probes(network: Network) -> jax.Array:
    """The probe images: the first 128 of the training ones, or all where there are fewer."""
    return network.feed.train[:PROBES]


def forward(network: Network, index: jax.Array, *, train: bool) -> Output:
    """The network's output on the images `[index]`, without dropout."""
    pixels = images(network.feed, index)
    return network.model.apply(network.variables, pixels, network.hyper, train=train)


def in_batches(
    network: Network, index: jax.Array, read: Callable[[Output], jax.Array]
) -> jax.Array:
    """What `read` makes, `[image, ...]`, of the outputs on all images `[index]`, in evaluation."""
    batches = jnp.pad(index, (0, -len(index) % BATCH)).reshape(-1, BATCH)
    seen = lax.map(lambda batch: read(forward(network, batch, train=False)), batches)
    return seen.reshape(-1, *seen.shape[2:])[: len(index)]


def objective(network: Network) -> Callable[[Any, jax.Array], jax.Array]:
    """The training loss, in nats, of parameters on the images `[index]`.

    With batch statistics, without dropout, augmentation and weight decay.
    """
    counts = class_counts(network.feed, network.setup.classes)

    def loss(params: Any, index: jax.Array) -> jax.Array:
        here = network._replace(variables=network.variables._replace(params=params))
        targets = jax.nn.one_hot(network.feed.labels[index], network.setup.classes)
        logits = forward(here, index, train=True).logits
        return training_loss(logits, targets, network.hyper.loss, counts)

    return loss


def refreshed(
    train: Callable[..., Output], variables: Variables, hyper: Hyper, pixels: Sequence[jax.Array]
) -> Variables:
    """With batch norm's statistics as means of those of some chunks, weighted by their images.

    train: what a network makes of (variables, images, hyper) in training.
    """
    if not variables.stats:
        return variables
    seen = 0
    for some in pixels:
        kept = hyper._replace(norm_momentum=jnp.float32(seen / (seen + len(some))))
        variables = Variables(variables.params, train(variables, some, kept).stats)
        seen += len(some)
    return variables
