"""Corruptions as controlled causes: which images a run is shown, under which labels, how they look.

They are applied in one order, each to what the ones before it left: which species are rare
(`imbalance`), test images trained on (`leakage`), images that repeat (`duplicates`), wrong labels
(`label_noise`), then pixels as `pixels.Look` lists them. Every draw is a function of the seed and
of the image, so that a larger share holds the smaller one, and arms of a seed differ only in what
they ask for. Validation and test keep their images and their labels.
"""

import dataclasses
import hashlib
from typing import NamedTuple

import numpy as np

from fishjax.data.dataset import DataError, Dataset
from fishjax.data.pixels import Look
from fishjax.data.splits import Split, split, stratified, words
from fishjax.fields import numbered
from fishjax.sections import Data

VERSION = 1
"""Changes whenever a corruption picks another image, label or pixel."""

_LEAKED, _FLIPPED, _TARGET, _CUED = range(2, 6)


class Part(NamedTuple):
    """The images of one split as a run meets them; every array `[image]`.

    example: int32, index in the source. label: int32, what the run is told. partner: int32, the
    image of the twin species blended in, -1 for none. cued: bool, whether it carries the cue.
    """

    example: np.ndarray
    label: np.ndarray
    partner: np.ndarray
    cued: np.ndarray
    look: Look


class View(NamedTuple):
    """What one run is shown of a source."""

    train: Part
    val: Part
    test: Part


def view(dataset: Dataset, data: Data, seed: int) -> View:
    """What a run of `seed` is shown: `splits.split`, corrupted as `data` says.

    - imbalance: the subset has exactly the frequencies of `frequencies`, by rounding as dealt; of
      one species made rare, as nearly as the others' images go round.
    - leakage: that share of the test images, `round(share * test)`, spread over the species as
      the training images are, takes the place of training images of its own species.
    - duplicates: the last `round(share * train)` training images are left out; each place is
      taken by one of those kept of the same species, in turn. Leaked images are among those kept.
    - label_noise: `round(share * train)` training labels, see `flipped`.
    - cue: on `round(cue_share * train)` training images, in the colour of the true species.
    - twins: the two species whose mean images are closest, in all three splits; each image is
      blended with the next one of the other species in its own split.
    - channel_shift: of test images; resolution: of all.

    Raises DataError, with a value that would do, for what the source cannot provide, and
    UsageError for an unknown species.
    """
    wanted, rare = frequencies(dataset, data), data.imbalance == "species"
    drawn = split(dataset, data.train_size, data.val_size, seed, wanted, exact=not rare)
    if wanted is not None and rare:
        _refuse_too_many(dataset, wanted, _rare(dataset, data), drawn.train, seed)
    train = _repeated(dataset, data, drawn.train, _leaked(dataset, data, drawn, seed))
    common = Look(
        twins=data.twins / 2,
        resolution=0 if data.resolution >= dataset.images.shape[1] else data.resolution,
    )
    told, cued = dataset.labels[train], np.zeros(len(train), bool)
    if data.label_noise:
        told = flipped(dataset, data, train, seed)
    if data.cue != "none":
        draw = words(seed, _CUED, len(dataset.labels))[train]
        cued = _chosen(draw, _count("cue_share", data.cue_share, len(train)))
    return View(
        _part(dataset, train, told, cued, common._replace(cue=data.cue)),
        _clean(dataset, drawn.val, common),
        _clean(dataset, drawn.test, common._replace(shift=data.channel_shift)),
    )


def view_digest(source: str, data: Data, seed: int) -> str:
    """sha256 of what a run is shown: the source's digest, every field of `data`, seed, VERSION."""
    told = (VERSION, source, sorted(dataclasses.asdict(data).items()), seed)
    return hashlib.sha256(repr(told).encode()).hexdigest()


def frequencies(dataset: Dataset, data: Data) -> np.ndarray | None:
    """How often each species is trained on, relative, `[species]`; None for as in the source.

    In the source's order of species, K of them, with ratio r, every species keeping an image:

    - exponential: r^(-k / (K - 1)), the long tail of Cui et al., CVPR 2019;
    - step: 1 for the first half (the larger one), 1/r for the rest;
    - species: as in the source, but 1/r as often for the one named, or numbered `#K` from 1.
    """
    if data.imbalance == "none":
        return None
    count = len(dataset.species)
    if data.imbalance == "exponential":
        return data.imbalance_ratio ** (-np.arange(count) / (count - 1))
    if data.imbalance == "step":
        return np.where(np.arange(count) < (count + 1) // 2, 1.0, 1 / data.imbalance_ratio)
    there = np.bincount(dataset.labels[~dataset.fixed_test], minlength=count).astype(float)
    there[_rare(dataset, data)] /= data.imbalance_ratio
    return there


def _refuse_too_many(
    dataset: Dataset, wanted: np.ndarray, rare: int, train: np.ndarray, seed: int
) -> None:
    """Refuses a subset that the rare species fills up, since every other one ran out."""
    count, share = np.sum(dataset.labels[train] == rare), wanted[rare] / wanted.sum()
    if (beyond := count - max(np.ceil(share * len(train)), 1)) > 0:
        raise DataError(
            f"data.train_size={len(train)} is more than the other species have at seed {seed}, so "
            f"that {dataset.species[rare]} would not be rare; "
            f"--set data.train_size={len(train) - int(beyond)} would do there"
        )


def _rare(dataset: Dataset, data: Data) -> int:
    """The species that imbalance=species makes rare."""
    return dataset.species.index(numbered(data.imbalance_species, dataset.species, "species"))


def flipped(dataset: Dataset, data: Data, train: np.ndarray, seed: int) -> np.ndarray:
    """The labels of `train` with the share `data.label_noise` of them wrong, int32 `[image]`.

    symmetric: any other species, equally likely; pair: the next species, the first after the last;
    similar: the species whose mean image is closest.
    """
    truth, count = dataset.labels[train], len(dataset.species)
    other = 1 + (words(seed, _TARGET, len(dataset.labels))[train] % np.uint64(count - 1))
    target = {
        "symmetric": lambda: (truth + other.astype(np.int32)) % count,
        "pair": lambda: (truth + 1) % count,
        "similar": lambda: distances(dataset).argmin(1)[truth],
    }[data.label_noise_kind]()
    draw = words(seed, _FLIPPED, len(dataset.labels))[train]
    wrong = _chosen(draw, _count("label_noise", data.label_noise, len(train)))
    return np.where(wrong, target, truth).astype(np.int32)


def distances(dataset: Dataset) -> np.ndarray:
    """Root mean square between mean images, `[species, species]`; inf from a species to itself."""
    means = dataset.mean_images.reshape(len(dataset.species), -1)
    apart = np.stack([np.sqrt(np.square(means - mean).mean(1)) for mean in means])
    np.fill_diagonal(apart, np.inf)
    return apart


def _part(
    dataset: Dataset, example: np.ndarray, label: np.ndarray, cued: np.ndarray, look: Look
) -> Part:
    partner = np.full(len(example), -1, np.int32)
    if look.twins:
        partner = _partners(dataset, example)
    return Part(example, label, partner, cued, look)


def _clean(dataset: Dataset, example: np.ndarray, look: Look) -> Part:
    return _part(dataset, example, dataset.labels[example], np.zeros(len(example), bool), look)


def _count(name: str, share: float, of: int) -> int:
    """`round(share * of)`; DataError where a share above 0 comes to no image."""
    count = round(share * of)
    if share and not count:
        raise DataError(
            f"data.{name}={share:g} of {of} images is none; --set data.{name}={1 / of:.4g} would do"
        )
    return count


def _chosen(draw: np.ndarray, count: int) -> np.ndarray:
    """bool `[image]`: the `count` images with the smallest `draw`, the first of equal ones."""
    chosen = np.zeros(len(draw), bool)
    chosen[np.argsort(draw, kind="stable")[:count]] = True
    return chosen


def _leaked(dataset: Dataset, data: Data, drawn: Split, seed: int) -> np.ndarray:
    """The training images that are kept, with test images in the place of the last of a species."""
    size = len(drawn.train)
    kept = drawn.train[: size - _count("duplicates", data.duplicates, size)].copy()
    due = _count("leakage", data.leakage, len(drawn.test))
    if not due:
        return kept
    count = len(dataset.species)
    room = np.bincount(dataset.labels[kept], minlength=count)
    there = np.bincount(dataset.labels[drawn.test], minlength=count)
    both = np.minimum(room, there)
    if due > both.sum():
        raise DataError(
            f"data.leakage={data.leakage:g} is {due} of {len(drawn.test)} test images, but at seed "
            f"{seed} only {both.sum()} have a training image of their species to replace; "
            f"--set data.leakage={np.floor(1e4 * both.sum() / len(drawn.test)) / 1e4:g} would do"
        )
    quotas = np.bincount(
        np.repeat(np.arange(count), both)[stratified(both, room)[:due]], minlength=count
    )
    draw = words(seed, _LEAKED, len(dataset.labels))
    for species, quota in enumerate(quotas):
        tests = drawn.test[dataset.labels[drawn.test] == species]
        places = np.flatnonzero(dataset.labels[kept] == species)
        kept[places[::-1][:quota]] = tests[np.argsort(draw[tests])][:quota]
    return kept


def _repeated(dataset: Dataset, data: Data, train: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """As many images as `train`: those kept, then for each place one of them of its species."""
    species, least = dataset.labels[train], len(dataset.species)
    if len(kept) < least:
        most = np.floor(1e4 * (1 - least / len(train))) / 1e4
        raise DataError(
            f"data.duplicates={data.duplicates:g} keeps {len(kept)} of {len(train)} training "
            f"images, less than one of each of {least} species; "
            f"--set data.duplicates={most:g} would do"
        )
    filled = np.empty_like(train)
    filled[: len(kept)] = kept
    for k in range(least):
        places = np.flatnonzero(species[len(kept) :] == k) + len(kept)
        filled[places] = np.resize(kept[species[: len(kept)] == k], len(places))
    return filled


def _partners(dataset: Dataset, example: np.ndarray) -> np.ndarray:
    """For each image of the twin species the next one of the other, int32 `[image]`; else -1."""
    apart = distances(dataset)
    pair = np.unravel_index(apart.argmin(), apart.shape)
    partner = np.full(len(dataset.labels), -1, np.int32)
    own = [list(dict.fromkeys(example[dataset.labels[example] == k].tolist())) for k in pair]
    for these, others, other in ((*own, pair[1]), (*own[::-1], pair[0])):
        if these and not others:
            raise DataError(
                f"data.twins blends in {dataset.species[other]}, of which a split has no image; "
                "take a larger data.val_size"
            )
        partner[these] = [others[(k + 1) % len(others)] for k in range(len(these))]
    return partner[example]
