"""A trained network taken back from a study's folder."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fishjax.cellfolder import CellFolder
from fishjax.config import Config
from fishjax.engine.checkpoints import restore
from fishjax.feed import normalised
from fishjax.fields import UsageError, choose
from fishjax.nn.model import Model, Variables
from fishjax.nn.models import build
from fishjax.settings import from_dict
from fishjax.setup import Hyper, lower
from fishjax.store import SweepFolder


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


def load(folder: str | pathlib.Path, arm: str, seed: int) -> Trained:
    """The final network of `arm` at `seed`, from the folder of a study.

    Where a lost tuning cell was trained again and chose another rate, the one committed last.
    Raises UsageError, with the nearest name, for an arm or a seed that is not committed there.
    """
    sweep = SweepFolder(pathlib.Path(folder))
    choose(arm, [*sweep.plan()["arms"]], "arm")
    return restored(_committed(sweep, arm, seed))


def restored(cell: CellFolder) -> Trained:
    """The final network of a committed cell; UsageError where it does not say whose it is."""
    about = cell.about()
    if about is None:
        raise UsageError(f"{cell.path} is damaged; run the study again")
    tree = restore(cell.params)
    return Trained(
        config=from_dict(about["config"]),
        species=tuple(about["species"]),
        variables=_variables(tree),
        mean=jnp.asarray(tree["mean"]),
        deviation=jnp.asarray(tree["deviation"]),
    )


def _committed(sweep: SweepFolder, arm: str, seed: int) -> CellFolder:
    cells = [(about["seed"], cell) for about, cell in sweep.started() if about["arm"] == arm]
    if done := [cell for each, cell in cells if each == seed and cell.outcome()]:
        return max(done, key=lambda cell: cell.committed_ns)
    finished = sorted({each for each, cell in cells if cell.outcome()})
    raise UsageError(f"arm {arm!r} has no finished seed {seed}; finished: {finished}")


def _variables(tree: dict[str, Any]) -> Variables:
    arrays = jax.tree.map(jnp.asarray, tree)
    return Variables(arrays["params"], arrays["stats"])
