"""Image sets of the tensorflow-datasets catalogue, prepared as array_record, without TensorFlow."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import registered

from fishjax.data.dataset import DataError, Dataset
from fishjax.data.photographs import fit
from fishjax.fields import nearest

_POOL = ("train", "validation")
_TEST = "test"


def read_tfds(name: str, image_size: int) -> Dataset:
    """The set `name`, in the catalogue's syntax `set[/config][:version]`, scaled by `fit`.

    It is looked for where `TFDS_DATA_DIR` says, else where tensorflow-datasets keeps its own, and
    never downloaded. `train` and `validation` come first, `test`, where there is one, is the fixed
    test set; every example is a group of its own. TensorFlow is not imported.

    Raises DataError for a set that is unknown, not prepared, not prepared as array_record, without
    the features `image` (8- or 16-bit) and `label`, or with an example that has no label.
    """
    builder = _builder(name)
    features = dict(builder.info.features.items())
    label, image = features.get("label"), features.get("image")
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise DataError(
            f"tfds:{name} needs an image called `image` and a class label called `label`; "
            f"it has {', '.join(features)}"
        )
    sources = _sources(name, builder)
    sizes = [len(source) for source in sources.values()]
    images = np.empty((sum(sizes), image_size, image_size, 3), np.uint8)
    labels = np.empty(len(images), np.int32)
    for row, example in enumerate(_examples(name, sources.values())):
        images[row] = _scaled(name, example["image"], image_size)
        labels[row] = example["label"]
    if labels.min(initial=0) < 0:
        raise DataError(f"tfds:{name} has {np.sum(labels < 0)} examples without a label")
    return Dataset(
        spec=f"tfds:{name}",
        images=images,
        labels=labels,
        groups=np.arange(len(images), dtype=np.int32),
        species=tuple(label.names),
        fixed_test=np.repeat([split == _TEST for split in sources], sizes),
    )


def _builder(name: str) -> Any:
    """The set's `tfds.core.DatasetBuilder`, whose decorated methods no type checker follows."""
    try:
        return tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
    except registered.DatasetNotFoundError:
        known = registered.list_imported_builders()
        raise DataError(f"tfds:{name} is not in the catalogue{nearest(name, known)}") from None
    except Exception as error:  # a builder is code of its own and raises what it likes
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"tfds:{name} cannot be opened: {reason}") from error


def _sources(name: str, builder: Any) -> dict[str, Sequence[Any]]:
    """The splits that are used, pool first, each with random access."""
    splits = [split for split in (*_POOL, _TEST) if split in builder.info.splits]
    try:
        if splits:
            return {split: builder.as_data_source(split=split) for split in splits}
    except (NotImplementedError, ValueError):
        form = getattr(builder.info.file_format, "value", "nothing known")
        state = f"is prepared as {form} in {builder.data_dir}"
    else:
        state = f"is not prepared in {builder.data_dir}"
    raise DataError(
        f"tfds:{name} {state}, but fishjax reads array_record; in an environment with TensorFlow "
        f"run tfds.builder({name!r}, file_format='array_record').download_and_prepare(), "
        "and set TFDS_DATA_DIR if its data_dir is not the usual one"
    )


def _examples(name: str, sources: Iterable[Sequence[Any]]) -> Iterator[Any]:
    """Every example; what their files are damaged by is the reader's to raise, as it likes."""
    for source in sources:
        for i in range(len(source)):
            try:
                example = source[i]
            except Exception as error:
                reason = str(error).strip().partition("\n")[0]
                raise DataError(f"tfds:{name} cannot be read: {reason}") from error
            yield example


def _scaled(name: str, pixels: np.ndarray, image_size: int) -> np.ndarray:
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"tfds:{name} has {pixels.dtype} images; uint8 or uint16 is needed")
    if pixels.shape[2] == 1:
        return fit(Image.fromarray(pixels[:, :, 0]), image_size)
    if pixels.dtype == np.uint16:  # Pillow has no colour image of 16 bits
        pixels = (pixels >> 8).astype(np.uint8)
    return fit(Image.fromarray(pixels), image_size)
