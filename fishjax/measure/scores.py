"""How well logits tell the species apart: loss, accuracy, confusion, exact AUC."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Scores(NamedTuple):
    """Scores of one split.

    loss: mean cross-entropy in nats. accuracy, balanced_accuracy (mean recall over the species
    present): in [0, 1]. auc_of: one-vs-rest AUC `[class]`, NaN for an absent species; auc: its
    mean over the others. confusion: counts `[true class, predicted class]`.
    """

    loss: jax.Array
    accuracy: jax.Array
    balanced_accuracy: jax.Array
    auc: jax.Array
    auc_of: jax.Array
    confusion: jax.Array


def scores(logits: jax.Array, labels: jax.Array) -> Scores:
    """Scores of `[example, class]` logits against integer labels `[example]`."""
    classes = logits.shape[1]
    truth = jax.nn.one_hot(labels, classes, dtype=bool)
    guess = jax.nn.one_hot(jnp.argmax(logits, axis=1), classes, dtype=bool)
    confusion = truth.T.astype(jnp.float32) @ guess.astype(jnp.float32)
    support, hits = jnp.sum(confusion, axis=1), jnp.diagonal(confusion)
    recall = jnp.where(support > 0, hits / jnp.maximum(support, 1.0), jnp.nan)
    auc_of = jax.vmap(binary_auc, in_axes=(1, 1))(logits, truth)
    log_p = jax.nn.log_softmax(logits)
    return Scores(
        loss=-jnp.mean(jnp.sum(jnp.where(truth, log_p, 0.0), axis=1)),
        accuracy=jnp.sum(hits) / labels.shape[0],
        balanced_accuracy=jnp.nanmean(recall),
        auc=jnp.nanmean(auc_of),
        auc_of=auc_of,
        confusion=confusion.astype(jnp.int32),
    )


def fit_of_flipped(logits: jax.Array, given: jax.Array, clean: jax.Array) -> dict[str, jax.Array]:
    """Of the examples whose label was flipped, the shares predicted as given and as clean, and of
    the others the share predicted as given.

    logits `[example, class]`; given and clean labels `[example]`. flipped_as_given_share is what
    was memorised of the noise (Arpit et al. 2017), unflipped_as_given_share the clean fit at which
    it was. NaN where there is no such example.
    """
    guess, flipped = jnp.argmax(logits, axis=1), given != clean

    def share(of: jax.Array, label: jax.Array) -> jax.Array:
        count = jnp.sum(of)
        hits = jnp.sum(of & (guess == label)) / jnp.maximum(count, 1)
        return jnp.where(count > 0, hits, jnp.nan)

    return {
        "flipped_as_given_share": share(flipped, given),
        "flipped_as_clean_share": share(flipped, clean),
        "unflipped_as_given_share": share(~flipped, given),
    }


def binary_auc(score: jax.Array, positive: jax.Array) -> jax.Array:
    """Area under the ROC curve of `score` `[example]` for bool `positive` `[example]`.

    The Mann-Whitney statistic by mid-ranks, never binned: ties count one half. Wins are counted
    exactly, of up to 500,000 examples; they, the number of pairs and the quotient are each rounded
    to float32. NaN where one of the two sides is empty or a score is NaN.
    """
    ordered = jnp.sort(score)
    below = jnp.searchsorted(ordered, score, side="left")
    up_to = jnp.searchsorted(ordered, score, side="right")
    positives = jnp.sum(positive.astype(jnp.int32))
    negatives = positive.shape[0] - positives
    doubled_ranks = _sum_in_halves(jnp.where(positive, below + up_to + 1, 0))
    doubled_wins = _less_square(doubled_ranks, positives)
    pairs = 2.0 * positives.astype(jnp.float32) * negatives.astype(jnp.float32)
    defined = (pairs > 0) & ~jnp.any(jnp.isnan(score))
    return jnp.where(defined, doubled_wins / jnp.maximum(pairs, 1.0), jnp.nan)


_HALF = 12
"""Bits of the lower half of a sum that an int32 cannot hold."""


def _sum_in_halves(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sum of int32 values from 0 on as (high, low), which is high * 2**12 + low."""
    return jnp.sum(values >> _HALF), jnp.sum(values & (2**_HALF - 1))


def _less_square(total: tuple[jax.Array, jax.Array], count: jax.Array) -> jax.Array:
    """A sum in halves less count * (count + 1), as float32."""
    high, low = count >> _HALF, count & (2**_HALF - 1)
    square_high = (high * high << _HALF) + 2 * high * low
    rest = total[1] - low * low - count
    exact_high = total[0] - square_high + (rest >> _HALF)
    above = exact_high.astype(jnp.float32) * 2.0**_HALF
    return above + (rest & (2**_HALF - 1)).astype(jnp.float32)
