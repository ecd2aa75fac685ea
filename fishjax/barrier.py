"""The loss on the straight line between two trained networks."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fishjax.config import Config
from fishjax.feed import normalised
from fishjax.fields import UsageError
from fishjax.measure.scores import scores
from fishjax.network import CHUNK, refreshed
from fishjax.nn.model import Output, Variables
from fishjax.nn.models import build
from fishjax.setup import Setup, lower
from fishjax.trained import Trained


class Barrier(NamedTuple):
    """height: the largest loss on the line less the mean of its ends', in nats (Frankle et al.
    2020, there of the error); near 0 where the ends lie in one basin. share: of the second
    network, `[point]` from 0 to 1. loss in nats and accuracy in [0, 1]: `[point]`.
    """

    height: float
    share: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray


def barrier(
    a: Trained, b: Trained, images: np.ndarray, labels: np.ndarray, points: int = 11
) -> Barrier:
    """Reads the networks `(1 - share) a + share b` on uint8 training `images` and `labels`.

    Batch norm's statistics are recomputed at every point as means over chunks of 256 of the
    images: those of `a` and `b` fit no network between them, and the barrier would be inflated.
    The input's centring and scaling go along the line too. Products are of full float32, as in
    training.

    Raises UsageError for networks of different shapes, ValueError for images they do not take.
    """
    if a.species != b.species:
        raise UsageError("a line needs two networks of one section model and the same species")
    check_alike(a.config, b.config, len(a.species))
    a.check(images)
    setup, hyper = lower(a.config, len(a.species))
    hyper = jax.tree.map(jnp.float32, hyper)
    train, read = _applied(setup)
    chunks = np.array_split(images, range(CHUNK, len(images), CHUNK))
    share = np.linspace(0.0, 1.0, points)

    def logits(at: Trained) -> jax.Array:
        pixels = [normalised(jnp.asarray(chunk), at.mean, at.deviation) for chunk in chunks]
        variables = refreshed(train, at.variables, hyper, pixels)
        return jnp.concatenate([read(variables, some, hyper).logits for some in pixels])

    with jax.default_matmul_precision("highest"):
        along = [logits(_between(a, b, here)) for here in share]
    seen = [scores(each, jnp.asarray(labels, jnp.int32)) for each in along]
    loss, accuracy = (np.asarray([getattr(s, n) for s in seen]) for n in ("loss", "accuracy"))
    height = float(np.max(loss) - (loss[0] + loss[-1]) / 2.0)
    return Barrier(height, share, loss, accuracy)


def check_alike(a: Config, b: Config, classes: int) -> None:
    """Raises UsageError for networks that are not the same function of their parameters."""
    (one, hyper), (other, others) = (lower(each, classes) for each in (a, b))
    if one.model != other.model or hyper.slope != others.slope:
        raise UsageError("a line needs two networks of one section model and the same species")
    if one.model.own and _has_statistics(one):
        raise UsageError(f"model.own={one.model.own}: its running statistics cannot be recomputed")


def _has_statistics(setup: Setup) -> bool:
    model, hyper = build(setup), lower(Config(), setup.classes)[1]
    return bool(jax.eval_shape(lambda key: model.init(key, hyper), jax.random.key(0)).stats)


@functools.lru_cache(maxsize=8)
def _applied(setup: Setup) -> tuple[Callable[..., Output], Callable[..., Output]]:
    """The network in training and in evaluation, compiled once for all lines."""
    apply = build(setup).apply
    train, read = (jax.jit(functools.partial(apply, train=train)) for train in (True, False))
    return train, read


def _between(a: Trained, b: Trained, share: float) -> Trained:
    """The network `(1 - share) a + share b`, with the statistics of `a`."""

    def mix(x: jax.Array, y: jax.Array) -> jax.Array:
        return (1.0 - share) * x + share * y

    params = jax.tree.map(mix, a.variables.params, b.variables.params)
    return dataclasses.replace(
        a,
        variables=Variables(params, a.variables.stats),
        mean=mix(a.mean, b.mean),
        deviation=mix(a.deviation, b.deviation),
    )
