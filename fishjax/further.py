"""The further measures of a network, named in `watch.also`: costly ones, read at stated epochs."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fishjax.feed import images
from fishjax.landscape import curvature, noise
from fishjax.measure import activations
from fishjax.measure.features import effective_rank, linear_probe
from fishjax.measure.scores import Scores, scores
from fishjax.network import CHUNK, Network, Readings, forward, in_batches, probes, refreshed
from fishjax.nn.model import Model, Output
from fishjax.sections import Watch


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
    taps = forward(network, probes(network), train=False).taps
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
    out = forward(network, probes(network), train=False)
    return {"effective_rank": effective_rank(features(network.model, out))}


def _batch_stats(network: Network) -> Readings:
    """Loss and accuracy with the statistics of minibatches less those with running ones.

    On the probes in minibatches of the run's own size; 0 without batch norm.
    """
    some = probes(network)
    size = min(network.setup.optim.batch_size, len(some))
    batches = some[: len(some) // size * size].reshape(-1, size)

    def read(batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        seen = [
            scores(forward(network, batch, train=train).logits, network.feed.labels[batch])
            for train in (True, False)
        ]
        return seen[0].loss - seen[1].loss, seen[0].accuracy - seen[1].accuracy

    loss, accuracy = lax.map(read, batches)
    return {
        "batch_stats_loss_gap": jnp.mean(loss),
        "batch_stats_accuracy_gap": jnp.mean(accuracy),
    }


def _probe(network: Network) -> Readings:
    """What a linear map of the features of all training images reads off the test images."""
    guess = _guessed(network, network.feed.train)
    return {
        "probe_balanced_accuracy": guess.balanced_accuracy,
        "probe_auc": guess.auc,
        "probe_auc_of": guess.auc_of,
    }


def _held_out_probe(network: Network) -> Readings:
    """The same of the features of all validation images, which the network was not trained on and
    which are as many of each species as in the source, whatever `data.imbalance`.
    """
    return {"held_out_probe_auc_of": _guessed(network, network.feed.val).auc_of}


def _guessed(network: Network, index: jax.Array) -> Scores:
    """Scores on the test images of a linear probe fitted to the features of the images `index`."""
    feed, of = network.feed, functools.partial(features, network.model)
    read = [in_batches(network, some, of) for some in (index, feed.test)]
    classes = network.setup.classes
    guess = linear_probe(read[0], feed.labels[index], classes, read[1])
    return scores(guess, feed.labels[feed.test])


def _recomputed(network: Network) -> Readings:
    """Loss and accuracy on validation and test images with batch norm's statistics those of the
    training subset at this network, see `network.refreshed`; as they are without batch norm.
    """
    feed, model = network.feed, network.model
    chunks = [feed.train[i : i + CHUNK] for i in range(0, len(feed.train), CHUNK)]
    train = functools.partial(model.apply, train=True)
    pixels = [images(feed, chunk) for chunk in chunks]
    settled = refreshed(train, network.variables, network.hyper, pixels)
    seen: Readings = {}
    for name, index in (("val", feed.val), ("test", feed.test)):
        logits = in_batches(network._replace(variables=settled), index, lambda out: out.logits)
        read = scores(logits, feed.labels[index])
        seen |= {f"recomputed_{name}_loss": read.loss, f"recomputed_{name}_accuracy": read.accuracy}
    return seen


MEASURES: dict[str, Callable[[Network], Readings]] = {
    "activations": _activations,
    "features": _features,
    "noise": noise,
    "batch_stats": _batch_stats,
    "curvature": curvature,
    "probe": _probe,
    "held_out_probe": _held_out_probe,
    "recomputed": _recomputed,
}
SPECIES = ("probe_auc_of", "held_out_probe_auc_of")
"""The measures that are `[species]` and not `[hidden layer]`."""
