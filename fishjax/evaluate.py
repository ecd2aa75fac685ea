"""Readings of a network on its fixed probe sets, with dropout off and running statistics."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fishjax.feed import KILL, Feed, images, stream
from fishjax.measure.scores import Scores, fit_of_flipped, scores
from fishjax.measure.units import activity, dormant_share
from fishjax.nn.losses import cross_entropy
from fishjax.nn.model import Model, Probe, Variables
from fishjax.setup import Hyper

BATCH, PROBES = 32, 128
KILLED_SHARES = (0.0, 0.25, 0.5, 0.75)


class Evaluation(NamedTuple):
    """Scores of the three splits; flipped: see `scores.fit_of_flipped`, empty where the feed knows
    of no flipped labels; units: shares per hidden layer, see `units.unit_shares`; revival: of all
    units that ever died, see `units.revival`; slope: see `landscape.slope`; further: see
    `further.further`, NaN where not due.
    """

    train: Scores
    val: Scores
    test: Scores
    flipped: dict[str, jax.Array]
    units: dict[str, jax.Array]
    revival: jax.Array
    slope: dict[str, jax.Array]
    further: dict[str, jax.Array]


class Examination(NamedTuple):
    """What is read once, at the end of a run.

    dormant_share: `[hidden layer]`. blocked_gradient: log2 of the gradient norm below the killed
    layer over the same with none killed, for each of KILLED_SHARES. blocking_slope: its
    least-squares slope per share. test_logits: `[test example, class]`. further: see
    `further.further`.
    """

    dormant_share: jax.Array
    blocked_gradient: jax.Array
    blocking_slope: jax.Array
    test_logits: jax.Array
    further: dict[str, jax.Array]


def read(
    model: Model, hyper: Hyper, feed: Feed, variables: Variables
) -> tuple[tuple[Scores, Scores, Scores], jax.Array, dict[str, jax.Array]]:
    """Scores of train, val and test, the activity `[unit]` of all units on all of train, and how
    its flipped labels are fitted.
    """
    index = jnp.concatenate((feed.train, feed.val, feed.test))
    is_train = jnp.arange(len(index)) < len(feed.train)
    logits, active = _over_batches(model, hyper, feed, variables, index, is_train)
    marks = [len(feed.train), len(feed.train) + len(feed.val)]
    train, val, test = jnp.split(logits, marks)
    read_scores = (
        scores(train, feed.labels[feed.train]),
        scores(val, feed.labels[feed.val]),
        scores(test, feed.labels[feed.test]),
    )
    flipped = {}
    if feed.clean is not None:
        flipped = fit_of_flipped(train, feed.labels[feed.train], feed.clean[feed.train])
    return read_scores, active / len(feed.train), flipped


def examine(
    model: Model, hyper: Hyper, key: jax.Array, feed: Feed, variables: Variables
) -> Examination:
    """Dormant units, the response to killed ones, and the network's word on every test image.

    Both measures use the first 128 training images, or all where there are fewer.
    """
    blocked = _blocked_gradient(model, hyper, key, feed, variables)
    shares = jnp.asarray(KILLED_SHARES)
    centred = shares - jnp.mean(shares)
    every = jnp.ones(feed.test.shape, bool)
    return Examination(
        dormant_share=_dormant_share(model, hyper, feed, variables),
        blocked_gradient=blocked,
        blocking_slope=jnp.sum(centred * blocked) / jnp.sum(centred**2),
        test_logits=_over_batches(model, hyper, feed, variables, feed.test, every)[0],
        further={},
    )


def _over_batches(
    model: Model,
    hyper: Hyper,
    feed: Feed,
    variables: Variables,
    index: jax.Array,
    counted: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Logits of every example, and on how many of the `counted` ones each unit is active."""
    pad = -len(index) % BATCH
    batches = jnp.pad(index, (0, pad)).reshape(-1, BATCH)
    weights = jnp.pad(counted, (0, pad)).reshape(-1, BATCH).astype(jnp.float32)

    def one(batch: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        out = model.apply(variables, images(feed, batch[0]), hyper, train=False)
        active = [activity(out.taps[layer], batch[1]) for layer in model.hidden]
        return out.logits, jnp.concatenate(active)

    logits, active = lax.map(one, (batches, weights))
    return logits.reshape(-1, logits.shape[-1])[: len(index)], jnp.sum(active, axis=0)


def _dormant_share(model: Model, hyper: Hyper, feed: Feed, variables: Variables) -> jax.Array:
    some = feed.train[:PROBES]
    pixels, labels = images(feed, some), feed.labels[some]
    shapes = jax.eval_shape(lambda: model.apply(variables, pixels, hyper, train=False).taps)
    still = {layer: jnp.zeros(shapes[layer].shape) for layer in model.hidden}

    def loss(nudge: dict[str, jax.Array]) -> jax.Array:
        out = model.apply(variables, pixels, hyper, train=False, probe=Probe(nudge=nudge))
        return cross_entropy(out.logits, labels, 0.0)

    gradients = jax.grad(loss)(still)
    return jnp.stack([dormant_share(gradients[layer]) for layer in model.hidden])


def _blocked_gradient(
    model: Model, hyper: Hyper, key: jax.Array, feed: Feed, variables: Variables
) -> jax.Array:
    """The intact network's error signal, sent back through the middle hidden layer with a random
    share of its units killed, one of them never: what is left of the gradient in the kernels below
    it; NaN where there is no layer below.
    """
    some = feed.train[:PROBES]
    pixels, labels = images(feed, some), feed.labels[some]
    position = len(model.hidden) // 2
    layer, units = model.hidden[position], model.units[position]
    below = model.hidden[:position]
    if not below:
        return jnp.full(len(KILLED_SHARES), jnp.nan)
    rank = jax.random.permutation(stream(key, KILL), units)

    def logits_of(params: Any, mask: jax.Array) -> jax.Array:
        now = Variables(params, variables.stats)
        probe = Probe(mask={layer: mask})
        return model.apply(now, pixels, hyper, train=False, probe=probe).logits

    intact = logits_of(variables.params, jnp.ones(units))
    error = jax.grad(lambda logits: cross_entropy(logits, labels, 0.0))(intact)

    def norm_below(share: jax.Array) -> jax.Array:
        killed = jnp.minimum(jnp.round(share * units), units - 1)
        mask = (rank.astype(jnp.float32) >= killed).astype(jnp.float32)
        (gradient,) = jax.vjp(lambda params: logits_of(params, mask), variables.params)[1](error)
        return jnp.sqrt(sum(jnp.sum(jnp.square(gradient[name]["kernel"])) for name in below))

    norms = lax.map(norm_below, jnp.asarray(KILLED_SHARES))
    return jnp.log2(norms / norms[:1])
