"""A trained network taken back from a study's folder."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fishjax.config import Config
from fishjax.engine.checkpoints import restore
from fishjax.feed import normalised
from fishjax.fields import UsageError, choose
from fishjax.nn.models import Model, Variables, build
from fishjax.settings import from_dict
from fishjax.setup import Hyper, lower
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
        size = self.config.data.image_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise ValueError(
                f"predict takes uint8[image, {size}, {size}, 3], "
                f"not {images.dtype}{list(images.shape)}"
            )
        return np.asarray(jax.nn.softmax(self._logits(jnp.asarray(images))))

    def _logits(self, images: jax.Array) -> jax.Array:
        model, hyper = self._model()
        pixels = normalised(images, self.mean, self.deviation)
        return model.apply(self.variables, pixels, hyper, train=False).logits

    def _model(self) -> tuple[Model, Hyper]:
        setup, hyper = lower(self.config, len(self.species))
        return build(setup), jax.tree.map(jnp.float32, hyper)


def load(folder: str | pathlib.Path, arm: str, seed: int) -> Trained:
    """The final network of `arm` at `seed`, from the folder of a study.

    Raises UsageError, with the nearest name, for an arm or a seed that is not committed there.
    """
    sweep = SweepFolder(pathlib.Path(folder))
    choose(arm, [*sweep.plan()["arms"]], "arm")
    about, cell = _committed(sweep, arm, seed)
    tree = restore(cell.params)
    return Trained(
        config=from_dict(about["config"]),
        species=tuple(about["species"]),
        variables=_variables(tree),
        mean=jnp.asarray(tree["mean"]),
        deviation=jnp.asarray(tree["deviation"]),
    )


def _committed(sweep: SweepFolder, arm: str, seed: int) -> tuple[dict[str, Any], CellFolder]:
    done = {
        about["seed"]: (about, cell)
        for about, cell in sweep.started()
        if about["arm"] == arm and cell.outcome()
    }
    if seed not in done:
        raise UsageError(f"arm {arm!r} has no finished seed {seed}; finished: {sorted(done)}")
    return done[seed]


def _variables(tree: dict[str, Any]) -> Variables:
    arrays = jax.tree.map(jnp.asarray, tree)
    return Variables(arrays["params"], arrays["stats"])
