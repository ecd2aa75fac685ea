"""Which images train, which choose and which judge: exact sizes, whole groups, drawn by seed."""

from typing import NamedTuple

import numpy as np

from fishjax.data.dataset import DataError, Dataset


class Split(NamedTuple):
    """Indices of examples, int32. `train` is nested: its first n are the training set of size n."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


Groups = list[np.ndarray]
"""What may still be drawn of one species: the images of each group, all in the seed's order."""


def split(
    dataset: Dataset,
    train_size: int,
    val_size: int,
    seed: int,
    wanted: np.ndarray | None = None,
    *,
    exact: bool = True,
) -> Split:
    """Draws `seed`'s split: a pure function of labels, groups, fixed test, sizes and seed.

    - test `[test]`, ascending: the source's own where it has one, else a quarter of each species'
      images (rounded down, at least one). It depends on neither size.
    - val `[val_size]`, ascending: one image of each species that has a group to spare, then by the
      species' frequencies. It does not depend on `train_size`.
    - train `[train_size]`: one image of each species, then by the species' frequencies, so that
      every prefix is stratified, and balanced where the species are. Frequencies `wanted`
      `[species]`, in any unit, take the place of the source's own; where they are `exact`, a
      size that would not meet them is refused, else a species that runs out leaves its places to
      the others, as it does at the source's own frequencies.

    All sizes are the same for every seed. No group stands in two of the three: test and val take
    whole groups in the order drawn, and where the last holds more than is still wanted, its surplus
    is in no part. Where the groups drawn would leave none for training (or, of three and more, none
    for validation), the smallest of them is exchanged for the largest left over.

    Raises DataError for a group of two species, a species without a training image, and sizes that
    leave too little, with a size that would do for every seed.
    """
    own = np.flatnonzero(dataset.fixed_test)
    order = words(seed, 0, len(dataset.labels))
    pool = _pool(dataset, order, words(seed, 1, len(dataset.labels)))
    _check_species(dataset, pool, train_size, needed=1 if len(own) else 2)
    quotas = np.array([0 if len(own) else _quarter(groups) for groups in pool])
    test, left = _draw(pool, quotas, leave=2)
    frequency = np.array([_sizes(groups).sum() for groups in pool]) - quotas
    room = _Room(pool, frequency, tested=not len(own))

    spare = np.array([_reach(groups, leave=1) for groups in left])
    if spare.sum() < val_size:
        raise _too_large("val_size", val_size, spare.sum(), room.val_size(train_size), seed)
    due = np.repeat(np.arange(len(pool)), spare)[stratified(spare, frequency)[:val_size]]
    val, left = _draw(left, np.bincount(due, minlength=len(pool)), leave=1)

    rest = np.concatenate([images for groups in left for images in groups])
    if len(rest) < train_size:
        raise _too_large("train_size", train_size, len(rest), room.train_size(val_size), seed)
    rest = rest[np.lexsort((order[rest], dataset.labels[rest]))]
    there = np.bincount(dataset.labels[rest], minlength=len(pool))
    if wanted is not None and exact:
        dealt = _as_wanted(there, wanted, train_size, dataset, seed)
    else:
        dealt = stratified(there, frequency if wanted is None else wanted)[:train_size]
    parts = rest[dealt], np.sort(val), np.sort(np.concatenate([own, test]))
    return Split(*(part.astype(np.int32) for part in parts))


def words(seed: int, purpose: int, count: int) -> np.ndarray:
    """uint64 `[count]`: raw Philox words, which no version of NumPy changes.

    Purposes 0 and 1 draw the split, those from 2 on what `corruptions` needs.
    """
    return np.random.Philox(np.random.SeedSequence(seed, spawn_key=(purpose,))).random_raw(count)


def _pool(dataset: Dataset, order: np.ndarray, group_order: np.ndarray) -> list[Groups]:
    """Every species' groups, without the source's own test images and what is grouped with them."""
    labels = dataset.labels
    group = np.unique(dataset.groups, return_inverse=True)[1]
    owner = np.zeros(len(labels), np.int32)
    owner[group] = labels
    mixed = np.flatnonzero(owner[group] != labels)
    if len(mixed):
        names = sorted({dataset.species[labels[mixed[0]]], dataset.species[owner[group[mixed[0]]]]})
        raise DataError(
            f"{dataset.spec} has a group with images of {names[0]} and of {names[1]}; a group must "
            "be of one species"
        )
    free = np.flatnonzero(~np.isin(group, group[dataset.fixed_test]))
    free = free[np.lexsort((order[free], group[free], group_order[group[free]]))]
    pool = []
    for species in range(len(dataset.species)):
        images = free[labels[free] == species]
        ends = np.flatnonzero(np.diff(group[images])) + 1
        pool.append(np.split(images, ends) if len(images) else [])
    return pool


def _check_species(dataset: Dataset, pool: list[Groups], train_size: int, needed: int) -> None:
    for name, groups in zip(dataset.species, pool, strict=True):
        if len(groups) < needed:
            raise DataError(
                f"species {name!r} would have no training image: {_sizes(groups).sum()} images in "
                f"{len(groups)} groups can be drawn, at least {needed} groups are needed"
            )
    if train_size < len(pool):
        raise DataError(
            f"data.train_size={train_size} is less than one image for each of {len(pool)} species; "
            f"--set data.train_size={len(pool)} would do"
        )


def _draw(pool: list[Groups], quotas: np.ndarray, leave: int) -> tuple[np.ndarray, list[Groups]]:
    """Takes `quotas[species]` images by whole groups; the images, and the groups left over."""
    taken, left = [], []
    for groups, quota in zip(pool, quotas, strict=True):
        order = _reordered(groups, quota, leave)
        ends = np.cumsum(_sizes(order))
        count = int(np.searchsorted(ends, quota)) + 1 if quota else 0
        taken += np.concatenate([np.empty(0, np.int64), *order[:count]])[:quota].tolist()
        left.append(order[count:])
    return np.array(taken, np.int64), left


def _reordered(groups: Groups, quota: int, leave: int) -> Groups:
    """The groups, exchanged small for large until those that may be taken hold `quota` images."""
    order = list(groups)
    most = _takeable(groups, leave)
    while sum(map(len, order[:most])) < quota:
        sizes = _sizes(order)
        small, large = int(np.argmin(sizes[:most])), most + int(np.argmax(sizes[most:]))
        order[small], order[large] = order[large], order[small]
    return order


def _takeable(groups: Groups, leave: int) -> int:
    """How many groups may be taken if `leave` should and one must be left."""
    return len(groups) - (leave if len(groups) > leave else min(1, len(groups)))


def _reach(groups: Groups, leave: int) -> int:
    """How many images may be taken: those of the largest groups."""
    return int(np.sort(_sizes(groups))[::-1][: _takeable(groups, leave)].sum())


def _quarter(groups: Groups) -> int:
    return min(max(int(_sizes(groups).sum()) // 4, 1), _reach(groups, leave=2))


def _sizes(groups: Groups) -> np.ndarray:
    return np.array([len(images) for images in groups], np.int64)


def _as_wanted(
    there: np.ndarray, wanted: np.ndarray, train_size: int, dataset: Dataset, seed: int
) -> np.ndarray:
    """`train_size` places in a list sorted by species, at frequencies that are met or refused.

    Each species is dealt one image more than are `there`: the first such ends what would do.
    """
    order = stratified(there + 1, wanted)
    beyond = np.isin(order, np.cumsum(there + 1) - 1)
    would = int(np.argmax(beyond))
    if train_size > would:
        scarce = np.repeat(np.arange(len(there)), there + 1)[order[would]]
        raise DataError(
            f"data.train_size={train_size} with this data.imbalance needs more than the "
            f"{there[scarce]} images of {dataset.species[scarce]} that remain for it at seed "
            f"{seed}; --set data.train_size={would} would do there"
        )
    taken = order[:train_size]
    return taken - np.repeat(np.arange(len(there)), there + 1)[taken]


def stratified(counts: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """An order of `counts[species]` images, given as places in a list sorted by species.

    Every species' first comes first; its n-th (from 0) falls due at (n + 1/2) / frequency.
    """
    species = np.repeat(np.arange(len(counts)), counts)
    nth = np.arange(len(species)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.lexsort((species, np.where(nth == 0, 0.0, (nth + 0.5) / frequency[species])))


class _Room:
    """How large a part may be whatever the seed.

    A draw loses at most all but one image of a species' largest group. What that leaves for both
    parts, less an image of each species to train on, is always within reach of validation.
    """

    def __init__(self, pool: list[Groups], frequency: np.ndarray, tested: bool) -> None:
        surplus = np.array([_sizes(groups).max() - 1 for groups in pool])
        self._species = len(pool)
        self._spare = any(len(groups) > 1 + tested for groups in pool)
        self._both = int((frequency - surplus * (1 + tested)).sum())

    def val_size(self, train_size: int) -> int:
        return max(self._both - train_size, 1) if self._spare else 0

    def train_size(self, val_size: int) -> int:
        return max(self._both - val_size, self._species)


def _too_large(name: str, asked: int, there: int, would: int, seed: int) -> DataError:
    advice = f"--set data.{name}={would} would do" if would else "no species has a group to spare"
    return DataError(
        f"data.{name}={asked} is more than the {there} images that remain for it at seed {seed} "
        f"when no group is divided; {advice}"
    )
