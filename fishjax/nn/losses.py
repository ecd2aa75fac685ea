"""Training losses as pure functions of logits, labels and the training images of each species."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fishjax.sections import Loss
from fishjax.setup import LossShape, choices

_LEAST = 1e-8
"""Below every 1 - p > 0 that float32 can tell from 0."""

LogWeight = Callable[[jax.Array, LossShape], jax.Array]


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: jax.Array | float) -> jax.Array:
    """Mean cross-entropy in nats of `[batch, class]` logits; labels `[batch]` in [0, class).

    `smoothing` moves that mass from the label to the uniform distribution (Szegedy et al. 2016).
    """
    log_p = jax.nn.log_softmax(logits)
    return _expected(log_p, jax.nn.one_hot(labels, logits.shape[-1]), smoothing)


def training_loss(
    logits: jax.Array, targets: jax.Array, shape: LossShape, counts: jax.Array
) -> jax.Array:
    """The mean over a batch of the loss that a run descends, in nats.

    logits `[batch, class]`; targets `[batch, class]`, the probability of each class; counts
    `[class]`, the run's training images, see `feed.class_counts`.

    Every class's -log p has its class weight and the focal factor (1 - p)^gamma (Lin et al. 2017,
    eq. 4, without alpha) before the smoothed targets weigh it: with gamma 0 this is
    `torch.nn.CrossEntropyLoss(weight, label_smoothing=...)` for class probabilities, which divides
    by the images and not by their weights. Being linear in the targets it is, of two labels mixed,
    the mixture of their losses (Zhang et al. 2018).

    `logit_adjustment` adds tau log prior to the logits (Menon et al. 2021, eq. 10); a class
    without images counts as one image there.
    """
    held = jnp.maximum(counts, 1.0)
    prior = jnp.log(held / jnp.sum(held))
    log_p = jax.nn.log_softmax(logits + shape.logit_adjustment * prior[None, :])
    missed = jnp.maximum(-jnp.expm1(log_p), _LEAST)
    factor = class_weights(shape, counts)[None, :] * jnp.exp(shape.focal_gamma * jnp.log(missed))
    return _expected(factor * log_p, targets, shape.smoothing)


def class_weights(shape: LossShape, counts: jax.Array) -> jax.Array:
    """The weight `[class]` of each class, of mean 1 over the classes that have images.

    With n images: inverse 1 / n; sqrt 1 / sqrt(n); effective (1 - beta) / (1 - beta^n) (Cui et al.
    2019, eq. 2); each to the power of `class_weight_power`, then scaled to the mean 1. The weights
    of K classes thus sum to K, as those of LDAM-DRW do. A class without images has the weight 1.

    The rarest of them then takes the weight of the class `class_weight_shift` places further, the
    first coming after the last; with `class_weight_swap` that one gets its weight in exchange.
    """
    held = jnp.maximum(counts, 1.0)
    kinds = jnp.stack([_LOG_WEIGHTS[kind](held, shape) for kind in _KINDS])
    log_weight = shape.class_weight_power * kinds[jnp.asarray(shape.class_weight, jnp.int32)]
    present = counts > 0
    largest = jnp.max(log_weight, where=present, initial=-jnp.inf)
    weight = jnp.exp(jnp.where(present, log_weight - largest, 0.0))
    weight = jnp.where(present, weight / jnp.mean(weight, where=present), 1.0)
    return _exchanged(weight, jnp.argmin(jnp.where(present, counts, jnp.inf)), shape)


def _exchanged(weight: jax.Array, rarest: jax.Array, shape: LossShape) -> jax.Array:
    classes = jnp.arange(len(weight))
    other = (rarest + jnp.asarray(shape.class_weight_shift, jnp.int32)) % len(weight)
    given = jnp.where((classes == other) & (shape.class_weight_swap > 0), weight[rarest], weight)
    return jnp.where(classes == rarest, weight[other], given)


def _expected(log_p: jax.Array, targets: jax.Array, smoothing: jax.Array | float) -> jax.Array:
    """Minus the mean of log_p under the smoothed targets, both `[batch, class]`."""
    picked = jnp.sum(targets * log_p, axis=-1)
    return -jnp.mean((1.0 - smoothing) * picked + smoothing * jnp.mean(log_p, axis=-1))


def _effective(held: jax.Array, shape: LossShape) -> jax.Array:
    return -jnp.log(-jnp.expm1(held * jnp.log(shape.effective_beta)))


_LOG_WEIGHTS: dict[str, LogWeight] = {
    "none": lambda held, shape: jnp.zeros_like(held),
    "inverse": lambda held, shape: -jnp.log(held),
    "sqrt": lambda held, shape: -0.5 * jnp.log(held),
    "effective": _effective,
}
_KINDS = choices(Loss, "class_weight")
