"""The order of an epoch, shuffled and balanced, and the images of each class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import stats

from fishjax.feed import Feed, class_counts, drawn
from tests.runs import as_arrays, tiny

SIZES = (60, 25, 10, 0, 1)
KEY = jax.random.key(7)


def long_tailed() -> Feed:
    """96 training images of four of five classes among 200 examples; no pixels."""
    rng = np.random.default_rng(0)
    train = rng.permutation(200)[: sum(SIZES)].astype(np.int32)
    labels = np.full(200, 3, np.int32)
    labels[train] = np.repeat(np.arange(len(SIZES)), SIZES)
    empty = jnp.zeros(0, jnp.int32)
    pool = jnp.zeros((200, 0, 0, 3), jnp.uint8)
    moments = (jnp.zeros(3), jnp.ones(3))
    return Feed(pool, jnp.asarray(labels), jnp.asarray(train), empty, empty, *moments)


FEED = long_tailed()
EPOCHS = 400


@jax.jit
def epochs_of(hyper, key):
    """`[epoch, train]`"""
    counts = class_counts(FEED, len(SIZES))
    return jax.vmap(lambda epoch: drawn(FEED, hyper, key, epoch, counts))(jnp.arange(EPOCHS))


def hyper_of(sampling, order=0, since=0):
    setting = {"optim__order": order, "optim__order_from": since, "optim__epochs": EPOCHS}
    return as_arrays(tiny(optim__sampling=sampling, **setting)[1])


def test_counts_are_those_of_the_training_images():
    assert class_counts(FEED, len(SIZES)).tolist() == list(SIZES)
    noisy = FEED._replace(labels=jnp.where(FEED.labels == 1, 2, FEED.labels))
    assert class_counts(noisy, len(SIZES)).tolist() == [60, 0, 35, 0, 1]


def test_shuffled_is_the_permutation_it_has_always_been():
    epochs = epochs_of(hyper_of("shuffled", order=5), KEY)
    for epoch, drawn_then in enumerate(np.asarray(epochs)[:3]):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(KEY, 1), 5), epoch)
        expected = jax.random.permutation(key, FEED.train)
        np.testing.assert_array_equal(drawn_then, expected)
        assert sorted(drawn_then.tolist()) == sorted(FEED.train.tolist())


@pytest.mark.parametrize("sampling", ["shuffled", "balanced"])
def test_an_order_holds_from_its_epoch_on(sampling):
    zero, five = (epochs_of(hyper_of(sampling, order), KEY) for order in (0, 5))
    both = epochs_of(hyper_of(sampling, order=5, since=3), KEY)
    np.testing.assert_array_equal(both[:3], zero[:3])
    np.testing.assert_array_equal(both[3:], five[3:])
    assert np.any(zero[:3] != five[:3])


def test_balanced_draws_every_class_and_every_image_of_it_with_equal_chance():
    draws = np.asarray(epochs_of(hyper_of("balanced"), KEY))
    assert draws.shape == (EPOCHS, sum(SIZES))
    assert set(draws.ravel().tolist()) <= set(FEED.train.tolist())
    times = {int(i): int(n) for i, n in zip(*np.unique(draws, return_counts=True), strict=True)}
    labels = np.asarray(FEED.labels)
    of_class = [[n for i, n in times.items() if labels[i] == c] for c in range(len(SIZES))]
    assert [len(images) for images in of_class] == list(SIZES)
    assert stats.chisquare([sum(images) for images in of_class if images]).pvalue > 1e-3
    for images in of_class[:3]:
        assert stats.chisquare(images).pvalue > 1e-3


def test_balanced_is_a_function_of_seed_order_and_epoch():
    once = np.asarray(epochs_of(hyper_of("balanced"), KEY))
    again = np.asarray(epochs_of(hyper_of("balanced"), KEY))
    np.testing.assert_array_equal(once, again)
    assert np.any(once[0] != once[1])
    for other in (
        epochs_of(hyper_of("balanced", order=1), KEY),
        epochs_of(hyper_of("balanced"), jax.random.key(8)),
    ):
        assert np.any(once != np.asarray(other))


@pytest.mark.parametrize("mapping", [lax.map, lambda f, xs: jax.vmap(f)(xs)], ids=["map", "vmap"])
def test_both_kinds_go_through_one_mapped_program(mapping):
    both = [hyper_of("shuffled"), hyper_of("balanced")]
    pack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *both)
    mixed = jax.jit(lambda hypers: mapping(lambda h: epochs_of(h, KEY), hypers))
    alone = [epochs_of(hyper, KEY) for hyper in both]
    np.testing.assert_array_equal(mixed(pack), np.stack(alone))
