"""The further measures of a network, named in `watch.also`: costly ones, read at stated epochs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from fishjax.evaluate import BATCH, PROBES
from fishjax.feed import Feed, class_counts, images
from fishjax.measure import activations
from fishjax.measure.curvature import hessian_product, stability_limit, top_eigenvalue
from fishjax.measure.features import effective_rank, linear_probe
from fishjax.measure.noise import noise_scale
from fishjax.measure.scores import scores
from fishjax.nn.losses import one_hot, training_loss
from fishjax.nn.model import Model, Output, Variables
from fishjax.schedules import height, momentum_at
from fishjax.sections import Watch
from fishjax.setup import Hyper, Setup

MICRO = 8

Readings = dict[str, jax.Array]
"""By metric: a number, `[hidden layer]`, or `[hidden layer, bin]`; float32."""


class Network(NamedTuple):
    """A run's network after `step` steps, and the images it is read on."""

    setup: Setup
    model: Model
    hyper: Hyper
    feed: Feed
    variables: Variables
    step: jax.Array


def further(network: Network) -> Readings:
    """The measures of `watch.also` that need nothing but the network, empty where there are none.

    On the probe images, the first 128 of the training ones, where no other are named.
    """
    also = network.setup.watch.also
    readings: Readings = {}
    for name, measure in MEASURES.items():
        if name in also:
            readings |= measure(network)
    return readings


def if_due(network: Network) -> Readings:
    """The further measures after an epoch that takes them, NaN after another.

    Between their epochs they are skipped where runs are mapped one by one, and computed in vain
    where they are vectorised. Empty where they wait for the end.
    """
    setup = network.setup
    if not (setup.watch.also and setup.watch.also_every):
        return {}

    def read() -> Readings:
        return further(network)

    def skip() -> Readings:
        shapes = jax.eval_shape(read)
        return {name: jnp.full(s.shape, jnp.nan, s.dtype) for name, s in shapes.items()}

    due = is_due(setup.watch, setup.optim.epochs, network.step // setup.steps_per_epoch)
    return lax.cond(due, read, skip)


def is_due(watch: Watch, epochs: int, epoch: Any) -> Any:
    """Whether the further measures are taken after `epoch` of `epochs`, before the end."""
    return (epoch % watch.also_every == 0) & (epoch < epochs)


def features(model: Model, out: Output) -> jax.Array:
    """Activations `[image, unit]` of the last hidden layer, averaged over the pixels of a map."""
    h = out.taps[model.hidden[-1]]
    return jnp.mean(h, axis=tuple(range(1, h.ndim - 1)))


def _activations(network: Network) -> Readings:
    """Per hidden layer: see `measure.activations`; the histogram is `[hidden layer, bin]`."""
    taps = _forward(network, train=False).taps
    layers = [taps[layer] for layer in network.model.hidden]
    moments = [activations.moments(h) for h in layers]
    kind = network.setup.model.activation if not network.setup.model.own else ""

    def each(of: Callable[[jax.Array], jax.Array]) -> jax.Array:
        return jnp.stack([of(h) for h in layers])

    return {
        "activation_mean": jnp.stack([mean for mean, _ in moments]),
        "activation_variance": jnp.stack([variance for _, variance in moments]),
        "activation_histogram": each(activations.histogram),
        "saturated_share": each(lambda h: activations.saturated_share(h, kind)),
        "tau_dormant_share": each(lambda h: activations.dormant_units(h, activations.DORMANT_TAU)),
        "tau_zero_share": each(lambda h: activations.dormant_units(h, 0.0)),
    }


def _features(network: Network) -> Readings:
    out = _forward(network, train=False)
    return {"effective_rank": effective_rank(features(network.model, out))}


def _noise(network: Network) -> Readings:
    """The gradient noise scale of the training loss, from micro-batches of 8 of the probes.

    Each micro-batch has batch norm's statistics of its own, as a minibatch has in training, so
    that the big gradient is the mean of the small ones in every network. NaN with fewer than two.
    """
    some = _probes(network)
    count = len(some) // MICRO
    if count < 2:
        return dict.fromkeys(("gradient_square", "gradient_noise", "noise_scale"), _nan())
    loss, at = _flat_loss(network)

    def add(sums: tuple, batch: jax.Array) -> tuple[tuple, None]:
        gradient = jax.grad(lambda x: loss(x, batch))(at)
        return (sums[0] + gradient, sums[1] + jnp.vdot(gradient, gradient)), None

    batches = some[: count * MICRO].reshape(count, MICRO)
    (total, squares), _ = lax.scan(add, (jnp.zeros_like(at), jnp.float32(0.0)), batches)
    mean = total / count
    return noise_scale(squares / count, jnp.vdot(mean, mean), MICRO, count * MICRO)


def _batch_stats(network: Network) -> Readings:
    """Loss and accuracy with the statistics of minibatches less those with running ones.

    On the probes in minibatches of the run's own size; 0 without batch norm.
    """
    some = _probes(network)
    size = min(network.setup.optim.batch_size, len(some))
    batches = some[: len(some) // size * size].reshape(-1, size)

    def read(batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        seen = [
            scores(_forward(network, train=train, index=batch).logits, network.feed.labels[batch])
            for train in (True, False)
        ]
        return seen[0].loss - seen[1].loss, seen[0].accuracy - seen[1].accuracy

    loss, accuracy = lax.map(read, batches)
    return {
        "batch_stats_loss_gap": jnp.mean(loss),
        "batch_stats_accuracy_gap": jnp.mean(accuracy),
    }


def _curvature(network: Network) -> Readings:
    """sharpness: the top eigenvalue of the training loss' Hessian, with batch statistics.

    sharpness_error: some eigenvalue is within it. sharpness_ratio: sharpness over the stability
    limit at the rate and momentum of the last step; NaN for adam, adamw and rmsprop. The loss is
    without weight decay.
    """
    loss, at = _flat_loss(network)
    some = _probes(network)
    product = hessian_product(lambda x: loss(x, some), at)
    start = jax.random.normal(jax.random.key(0), at.shape)
    sharpness, error = top_eigenvalue(product, start)
    optim, hyper = network.setup.optim, network.hyper
    epoch = jnp.maximum(network.step - 1, 0) / network.setup.steps_per_epoch
    rate = hyper.lr * height(hyper.schedule, epoch, optim.epochs)
    limit = stability_limit(optim.kind, rate, momentum_at(hyper, epoch, optim.epochs))
    return {
        "sharpness": sharpness,
        "sharpness_error": error,
        "sharpness_ratio": sharpness / limit,
    }


def _probe(network: Network) -> Readings:
    """What a linear map of the features of all training images reads off the test images."""
    feed = network.feed
    read = [_features_of(network, index) for index in (feed.train, feed.test)]
    classes = network.setup.classes
    guess = scores(
        linear_probe(read[0], feed.labels[feed.train], classes, read[1]), feed.labels[feed.test]
    )
    return {"probe_balanced_accuracy": guess.balanced_accuracy, "probe_auc": guess.auc}


def _features_of(network: Network, index: jax.Array) -> jax.Array:
    batches = jnp.pad(index, (0, -len(index) % BATCH)).reshape(-1, BATCH)
    read = lax.map(
        lambda batch: features(network.model, _forward(network, train=False, index=batch)), batches
    )
    return read.reshape(-1, read.shape[-1])[: len(index)]


def _flat_loss(
    network: Network,
) -> tuple[Callable[[jax.Array, jax.Array], jax.Array], jax.Array]:
    """The training loss of a vector of all parameters on some images, and the vector now.

    With batch statistics, without dropout, augmentation and weight decay.
    """
    at, unravel = ravel_pytree(network.variables.params)
    counts = class_counts(network.feed, network.setup.classes)

    def loss(vector: jax.Array, index: jax.Array) -> jax.Array:
        here = network._replace(variables=network.variables._replace(params=unravel(vector)))
        out = _forward(here, train=True, index=index)
        targets = one_hot(network.feed.labels[index], network.setup.classes)
        return training_loss(out.logits, targets, network.hyper.loss, counts)

    return loss, at


def _forward(network: Network, *, train: bool, index: jax.Array | None = None) -> Output:
    """The network's output without dropout, on the probes where no other images are named."""
    pixels = images(network.feed, _probes(network) if index is None else index)
    return network.model.apply(network.variables, pixels, network.hyper, train=train)


def _probes(network: Network) -> jax.Array:
    return network.feed.train[:PROBES]


def _nan() -> jax.Array:
    return jnp.float32(jnp.nan)


MEASURES: dict[str, Callable[[Network], Readings]] = {
    "activations": _activations,
    "features": _features,
    "noise": _noise,
    "batch_stats": _batch_stats,
    "curvature": _curvature,
    "probe": _probe,
}
