"""Prepared catalogue sets are read through `tfds.data_source`, without TensorFlow."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fishjax.data import catalogue
from fishjax.data.catalogue import read_tfds
from fishjax.data.dataset import DataError

SPLITS = {"train": 6, "validation": 2, "test": 3}


class TinyReef(tfds.core.GeneratorBasedBuilder):
    """Eleven plain images of two species; image i of a split has the colour 20 i."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["goby", "wrasse"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(count) for split, count in SPLITS.items()}

    def _generate_examples(self, count):
        for i in range(count):
            image = Image.fromarray(np.full((10, 12, 3), 20 * i, np.uint8))
            yield i, {"image": image, "label": i % 2}


class Unlabelled(TinyReef):
    """The same without a label."""

    def _info(self):
        features = {"image": tfds.features.Image(shape=(None, None, 3))}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, count):
        for i, example in super()._generate_examples(count):
            yield i, {"image": example["image"]}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    for builder in (TinyReef, Unlabelled):
        builder(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture(autouse=True)
def data_dir(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))


def write_metadata(folder, name, file_format, splits):
    """The metadata of a catalogue set, as if it had been prepared, without its images."""
    builder = tfds.builder(name, data_dir=folder, file_format=file_format)
    infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[count],
            num_bytes=1,
            filename_template=tfds.core.ShardedFileTemplate(
                data_dir=Path(builder.data_dir),
                dataset_name=name,
                split=split,
                filetype_suffix=file_format,
            ),
        )
        for split, count in splits.items()
    ]
    builder.info.set_splits(tfds.core.SplitDict(infos))
    Path(builder.data_dir).mkdir(parents=True)
    builder.info.write_to_directory(builder.data_dir)


@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda _: b""])
def test_a_damaged_shard_is_named(prepared, tmp_path, monkeypatch, damage):
    shutil.copytree(prepared, tmp_path / "damaged")
    shard = next((tmp_path / "damaged").rglob("tiny_reef-train.array_record-*"))
    shard.write_bytes(damage(shard.read_bytes()))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "damaged"))
    with pytest.raises(DataError, match="tfds:tiny_reef cannot be read"):
        read_tfds("tiny_reef", 8)


def test_a_prepared_set_has_a_pool_and_a_fixed_test():
    data = read_tfds("tiny_reef", 8)
    assert data.spec == "tfds:tiny_reef"
    assert data.species == ("goby", "wrasse")
    assert data.images.shape == (11, 8, 8, 3)
    np.testing.assert_array_equal(data.fixed_test, [False] * 8 + [True] * 3)
    np.testing.assert_array_equal(data.groups, range(11))
    # tfds shuffles within a split when it prepares one
    colours, ends = data.images[:, 0, 0, 0] // 20, np.cumsum(list(SPLITS.values()))
    for part, count in zip(np.split(colours, ends[:-1]), SPLITS.values(), strict=True):
        assert sorted(part) == list(range(count))
    np.testing.assert_array_equal(data.labels, colours % 2)
    assert read_tfds("tiny_reef:1.0.0", 8).digest() == data.digest()


def test_a_fresh_process_reads_it_without_tensorflow_or_its_builder(prepared):
    program = (
        "import sys; from fishjax.data.source import open_source; "
        "lazy = 'tensorflow_datasets' not in sys.modules; "
        "data = open_source('tfds:tiny_reef', 8); "
        "print(lazy, 'tensorflow' in sys.modules, len(data.images))"
    )
    out = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TFDS_DATA_DIR": str(prepared)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.split() == ["True", "False", "11"]


def test_a_mocked_set_of_the_catalogue(tmp_path):
    write_metadata(tmp_path, "cifar100", "array_record", {"train": 5, "test": 5})
    policy = tfds.testing.MockPolicy.USE_FILES
    with tfds.testing.mock_data(num_examples=5, data_dir=str(tmp_path), policy=policy):
        data = read_tfds("cifar100", 16)
    assert data.images.shape == (10, 16, 16, 3)
    assert len(data.species) == 100
    assert data.labels.max() < 100
    np.testing.assert_array_equal(data.fixed_test, [False] * 5 + [True] * 5)
    assert "tensorflow" not in sys.modules


def test_grey_images_repeat_their_channel(tmp_path):
    write_metadata(tmp_path, "mnist", "array_record", {"train": 3, "test": 3})
    policy = tfds.testing.MockPolicy.USE_FILES
    with tfds.testing.mock_data(num_examples=3, data_dir=str(tmp_path), policy=policy):
        images = read_tfds("mnist", 28).images
    assert images.std() > 10
    np.testing.assert_array_equal(images[..., 0], images[..., 2])


def test_colours_of_16_bits_keep_their_high_bytes():
    pixels = np.random.default_rng(0).integers(0, 65536, (9, 9, 3)).astype(np.uint16)
    small = catalogue._scaled("deep", pixels, 9)
    np.testing.assert_array_equal(small, pixels >> 8)


def test_what_is_not_prepared_as_array_record_says_how_to(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    how = r"tfds.builder\('cifar10', file_format='array_record'\).download_and_prepare\(\)"
    with pytest.raises(DataError, match=f"is not prepared in {tmp_path}.*{how}"):
        read_tfds("cifar10", 8)
    write_metadata(tmp_path, "cifar10", "tfrecord", {"train": 5, "test": 5})
    with pytest.raises(DataError, match=f"is prepared as tfrecord in {tmp_path}.*{how}"):
        read_tfds("cifar10", 8)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cifr100", "is not in the catalogue; did you mean 'cifar100'"),
        ("unlabelled", "needs an image .* it has image$"),
        ("no name!", "cannot be opened"),
        ("cifar100:9.9.9", "cannot be opened: .*9.9.9"),
    ],
)
def test_a_set_that_cannot_be_used_is_named(name, reason):
    with pytest.raises(DataError, match=f"tfds:{name} {reason}"):
        read_tfds(name, 8)
