"""A trained network taken back from a study's folder."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fishjax.config import Config
from fishjax.engine.checkpoints import restore
from fishjax.feed import normalised
from fishjax.fields import UsageError, choose
from fishjax.measure.scores import scores
from fishjax.network import CHUNK, refreshed
from fishjax.nn.model import Model, Output, Variables
from fishjax.nn.models import build
from fishjax.settings import from_dict
from fishjax.setup import Hyper, Setup, lower
from fishjax.store import CellFolder, SweepFolder


@dataclasses.dataclass(frozen=True)
class Trained:
    """The network that one run ended with.

    species: the names of the classes, in the order of the logits.
    """

    config: Config
    species: tuple[str, ...]
    variables: Variables
    mean: jax.Array
    deviation: jax.Array

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities `[image, class]` of uint8 RGB images `[image, size, size, 3]`.

        Raises ValueError for another type or shape; size is the configuration's
        `data.image_size`.
        """
        self.check(images)
        return np.asarray(jax.nn.softmax(self._logits(jnp.asarray(images))))

    def check(self, images: np.ndarray) -> None:
        """Raises ValueError for images that the network does not take."""
        size = self.config.data.image_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise ValueError(
                f"the network takes uint8[image, {size}, {size}, 3], "
                f"not {images.dtype}{list(images.shape)}"
            )

    def _logits(self, images: jax.Array) -> jax.Array:
        model, hyper = self.model()
        pixels = normalised(images, self.mean, self.deviation)
        with jax.default_matmul_precision("highest"):
            return model.apply(self.variables, pixels, hyper, train=False).logits

    def model(self) -> tuple[Model, Hyper]:
        """The functions of the network and the numbers that they take."""
        setup, hyper = lower(self.config, len(self.species))
        return build(setup), jax.tree.map(jnp.float32, hyper)


class Barrier(NamedTuple):
    """height: the largest loss on the line less the mean of its ends', in nats (Frankle et al.
    2020, there of the error); near 0 where the ends lie in one basin. share: of the second
    network, `[point]` from 0 to 1. loss in nats and accuracy in [0, 1]: `[point]`.
    """

    height: float
    share: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray


def load(folder: str | pathlib.Path, arm: str, seed: int) -> Trained:
    """The final network of `arm` at `seed`, from the folder of a study.

    Raises UsageError, with the nearest name, for an arm or a seed that is not committed there.
    """
    sweep = SweepFolder(pathlib.Path(folder))
    choose(arm, [*sweep.plan()["arms"]], "arm")
    return restored(_committed(sweep, arm, seed))


def restored(cell: CellFolder) -> Trained:
    """The final network of a committed cell; UsageError where it cannot be read."""
    about, tree = cell.about(), restore(cell.params)
    if about is None:
        raise UsageError(f"{cell.path} is damaged; run the study again")
    return Trained(
        config=from_dict(about["config"]),
        species=tuple(about["species"]),
        variables=_variables(tree),
        mean=jnp.asarray(tree["mean"]),
        deviation=jnp.asarray(tree["deviation"]),
    )


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


def _committed(sweep: SweepFolder, arm: str, seed: int) -> CellFolder:
    done = {
        about["seed"]: cell
        for about, cell in sweep.started()
        if about["arm"] == arm and cell.outcome()
    }
    if seed not in done:
        raise UsageError(f"arm {arm!r} has no finished seed {seed}; finished: {sorted(done)}")
    return done[seed]


def _variables(tree: dict[str, Any]) -> Variables:
    arrays = jax.tree.map(jnp.asarray, tree)
    return Variables(arrays["params"], arrays["stats"])
