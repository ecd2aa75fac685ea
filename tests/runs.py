"""Small runs that tests share: random images, tiny nets, hand-made packs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fishjax.config import Config
from fishjax.engine.program import Shared, Slots
from fishjax.feed import Feed
from fishjax.nn import models
from fishjax.nn.model import Model, Output, Probe
from fishjax.settings import override
from fishjax.setup import Hyper, Setup, lower

TINY = {
    "model.depth": 2,
    "model.widths": (4, 6),
    "model.dense": (8,),
    "optim.batch_size": 8,
    "optim.epochs": 4,
    "watch.every": 2,
    "data.train_size": 16,
    "data.val_size": 8,
    "data.image_size": 8,
}
CLASSES = 3


def tiny(**changes: object) -> tuple[Setup, Hyper]:
    """A tiny run; `model__depth=3` changes `model.depth`."""
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return lower(override(Config(), {**TINY, **dotted}), CLASSES)


def build(setup: Setup) -> Model:
    """Its network, compiled; one that is not compiles every operation of every shape apart."""
    model = models.build(setup)
    compiled = jax.jit(model.apply, static_argnames="train")

    def apply(*args: Any, probe: Probe | None = None, **kwargs: Any) -> Output:
        nudge, mask = probe or ({}, {})
        return compiled(*args, probe=Probe(dict(nudge), dict(mask)), **kwargs)

    return model._replace(init=jax.jit(model.init), apply=apply)


def make_feed(setup: Setup, seed: int = 0) -> Feed:
    """Random images whose brightness depends on their species, split in order."""
    rng = np.random.default_rng(seed)
    sizes = (setup.data.train_size, setup.data.val_size, 9)
    count, size = sum(sizes), setup.data.image_size
    labels = np.arange(count) % CLASSES
    pool = rng.integers(0, 160, (count, size, size, 3)) + 40 * labels[:, None, None, None]
    parts = np.split(np.arange(count, dtype=np.int32), np.cumsum(sizes)[:-1])
    return Feed(
        jnp.asarray(pool.astype(np.uint8)),
        jnp.asarray(labels.astype(np.int32)),
        *(jnp.asarray(part) for part in parts),
        jnp.full(3, 0.4),
        jnp.full(3, 0.3),
    )


def make_slots(hypers: list[Hyper], seeds: list[int], feed: Feed) -> tuple[Shared, Slots]:
    """A pack of runs on one feed."""
    width = len(hypers)

    def each(x: jax.Array) -> jax.Array:
        return jnp.stack([x] * width)

    slots = Slots(
        active=jnp.ones(width, bool),
        hyper=jax.tree.map(lambda *leaves: jnp.asarray(leaves, jnp.float32), *hypers),
        key=jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32)),
        train=each(feed.train),
        val=each(feed.val),
        test=each(feed.test),
        mean=each(feed.mean),
        deviation=each(feed.deviation),
    )
    return Shared(feed.pool, feed.labels), slots


def as_arrays(hyper: Hyper) -> Hyper:
    """The scalars as float32 arrays, as a pack holds them."""
    return jax.tree.map(jnp.float32, hyper)
