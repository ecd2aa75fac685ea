"""Splits are exact, whole-grouped, stratified, nested and a pure function of their arguments."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fishjax.data.dataset import DataError, Dataset
from fishjax.data.fish4knowledge import read_f4k
from fishjax.data.splits import split

SEEDS = (*range(64), *range(1000, 1011))
# Fish4Knowledge's own numbers: trajectories with 1, 2, 3 and 4 frames of each species.
FRAMES = (
    (31, 12, 9, 17),
    (49, 8, 11, 13),
    (32, 16, 6, 17),
    (20, 11, 8, 21),
    (14, 13, 6, 23),
    (29, 6, 4, 8),
    (11, 11, 3, 18),
    (21, 7, 4, 11),
    (11, 7, 1, 16),
    (5, 3, 5, 19),
    (14, 2, 6, 3),
    (4, 4, 2, 7),
    (9, 0, 0, 7),
    (4, 2, 1, 7),
    (5, 2, 1, 2),
    (1, 1, 1, 6),
    (0, 1, 0, 4),
    (1, 0, 0, 2),
    (0, 1, 0, 3),
    (3, 1, 0, 0),
    (5, 0, 0, 0),
    (0, 0, 0, 4),
    (1, 0, 1, 2),
)


def grouped(sizes, fixed=None):
    """A data set with groups of `sizes[species]` images, in an order unlike that of its groups."""
    labels = [species for species, groups in enumerate(sizes) for _ in range(sum(groups))]
    flat = [size for groups in sizes for size in groups]
    groups = np.repeat(np.arange(len(flat)), flat)
    order = np.argsort(np.arange(len(labels)) * 0.618 % 1, kind="stable")
    return Dataset(
        spec="test",
        images=np.zeros((len(labels), 1, 1, 3), np.uint8),
        labels=np.array(labels, np.int32)[order],
        groups=(7 * groups + 3).astype(np.int32)[order],
        species=tuple(f"species {k}" for k in range(len(sizes))),
        fixed_test=np.zeros(len(labels), bool) if fixed is None else np.array(fixed)[order],
    )


LOOKALIKE = grouped([np.repeat((1, 2, 3, 4), counts).tolist() for counts in FRAMES])


def counted(data, part):
    return np.bincount(data.labels[part], minlength=len(data.species))


def assert_sound(data, parts, train_size, val_size):
    assert [part.dtype for part in parts] == [np.int32] * 3
    assert (len(parts.train), len(parts.val)) == (train_size, val_size)
    assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))
    groups = [set(data.groups[part].tolist()) for part in parts]
    assert len(set.union(*groups)) == sum(map(len, groups))
    assert counted(data, parts.train).all()


def assert_fits_fish4knowledge(data):
    everything = counted(data, np.arange(len(data.labels)))
    for seed in SEEDS:
        for train_size in (512, 700):
            parts = split(data, train_size, 200, seed)
            assert_sound(data, parts, train_size, 200)
            np.testing.assert_array_equal(counted(data, parts.test), np.maximum(everything // 4, 1))
            assert counted(data, parts.val).all()
            share = counted(data, parts.train) / train_size
            assert np.abs(share - everything / everything.sum()).max() < 0.015


def test_every_seed_fits_a_lookalike_of_fish4knowledge():
    assert len(LOOKALIKE.labels) == 1533
    assert_fits_fish4knowledge(LOOKALIKE)


def test_every_seed_fits_the_photographs(photographs):
    assert_fits_fish4knowledge(read_f4k(str(photographs), 8))


def test_seeds_and_nothing_else_draw_the_split():
    first, again = split(LOOKALIKE, 512, 200, 3), split(LOOKALIKE, 512, 200, 3)
    other = split(LOOKALIKE, 512, 200, 4)
    for one, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, different)
    drawn = {seed: set(split(LOOKALIKE, 512, 200, seed).test.tolist()) for seed in range(20)}
    assert len(set.union(*drawn.values())) > 1500  # every image is test for some seed


def test_known_bytes_stay():
    parts = split(LOOKALIKE, 30, 25, 0)
    assert [part[:5].tolist() for part in parts] == [
        [814, 421, 823, 1398, 745],
        [222, 223, 225, 289, 312],
        [2, 4, 5, 8, 12],
    ]


def test_train_is_nested_and_opens_with_every_species():
    long, short = split(LOOKALIKE, 700, 200, 5), split(LOOKALIKE, 100, 200, 5)
    np.testing.assert_array_equal(long.train[:100], short.train)
    np.testing.assert_array_equal(long.val, short.val)
    np.testing.assert_array_equal(long.test, short.test)
    assert sorted(LOOKALIKE.labels[long.train[:23]]) == list(range(23))
    np.testing.assert_array_equal(split(LOOKALIKE, 700, 50, 5).test, long.test)


def test_a_balanced_pool_gives_balanced_prefixes():
    data = grouped([[3] * 40] * 5)
    parts = split(data, 250, 50, 2)
    for size in range(1, 251):
        assert np.ptp(counted(data, parts.train[:size])) <= 1
    np.testing.assert_array_equal(counted(data, parts.val), 10)
    np.testing.assert_array_equal(counted(data, parts.test), 30)


def test_the_source_s_own_test_set_is_kept_and_its_groups_left_alone():
    sizes = [[2] * 20] * 3
    fixed = np.zeros(120, bool)
    fixed[:9] = True  # the fifth group of the first species has one image on either side
    data = grouped(sizes, fixed)
    for seed in range(5):
        parts = split(data, 60, 20, seed)
        assert_sound(data, parts, 60, 20)
        np.testing.assert_array_equal(parts.test, np.flatnonzero(data.fixed_test))


def test_scarce_species_leave_a_group_for_training():
    data = grouped([[1, 9], [4, 4, 1], [5, 1, 1], [1] * 30])
    tests = [2, 2, 1, 7]
    for seed in range(40):
        parts = split(data, 8, 6, seed)
        assert_sound(data, parts, 8, 6)
        np.testing.assert_array_equal(counted(data, parts.test), tests)
        assert counted(data, parts.val)[1:].all()


def advised(message):
    return int(re.search(r"--set data\.\w+_size=(\d+) would do", message)[1])


def test_a_training_set_too_large_says_what_would_do_for_every_seed():
    with pytest.raises(
        DataError, match=r"data.train_size=1400 is more than the 9\d\d images"
    ) as no:
        split(LOOKALIKE, 1400, 200, 0)
    size = advised(str(no.value))
    assert size > 800
    for seed in SEEDS:
        assert_sound(LOOKALIKE, split(LOOKALIKE, size, 200, seed), size, 200)
    with pytest.raises(DataError, match="one image for each of 23 species"):
        split(LOOKALIKE, 22, 200, 0)


def test_a_validation_set_too_large_says_what_would_do_for_every_seed():
    with pytest.raises(
        DataError, match=r"data.val_size=1400 is more than the 1\d\d\d images"
    ) as no:
        split(LOOKALIKE, 512, 1400, 0)
    size = advised(str(no.value))
    assert size > 400
    for seed in SEEDS:
        assert_sound(LOOKALIKE, split(LOOKALIKE, 512, size, seed), 512, size)
    with pytest.raises(DataError) as no:
        split(LOOKALIKE, 23, 1400, 0)
    size = advised(str(no.value))
    assert size > 800
    for seed in SEEDS:
        assert_sound(LOOKALIKE, split(LOOKALIKE, 23, size, seed), 23, size)
    with pytest.raises(DataError, match="no species has a group to spare"):
        split(grouped([[5, 5], [5, 5]]), 4, 1, 0)


def test_without_surplus_nothing_is_lost():
    data = grouped([[1] * 40, [1] * 40])
    assert_sound(data, split(data, 50, 10, 0), 50, 10)
    with pytest.raises(DataError, match=r"--set data\.train_size=50 would do"):
        split(data, 51, 10, 0)
    with pytest.raises(DataError, match=r"--set data\.val_size=10 would do"):
        split(data, 50, 59, 0)


def test_a_species_without_a_training_image_is_named():
    with pytest.raises(DataError, match=r"'species 1' .* 8 images in 1 groups .* 2 groups"):
        split(grouped([[1] * 9, [8]]), 4, 1, 0)
    with pytest.raises(DataError, match=r"'species 1' .* 0 images in 0 groups"):
        split(grouped([[1] * 9, [8]], [*[False] * 9, *[True] * 8]), 4, 1, 0)


def test_a_group_of_two_species_is_refused():
    data = grouped([[1] * 9, [1] * 9])
    data.groups[:] = 0
    with pytest.raises(DataError, match="images of species 0 and of species 1"):
        split(data, 4, 1, 0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.integers(1, 6), min_size=2, max_size=12), min_size=2, max_size=6),
    st.integers(0, 2**32),
    st.integers(1, 20),
    st.integers(1, 40),
)
def test_any_groups_split_soundly_or_get_advice_that_works(sizes, seed, val_size, train_size):
    data, asked = grouped(sizes), {"train": train_size, "val": val_size}
    for _ in range(3):
        try:
            parts = split(data, asked["train"], asked["val"], seed)
        except DataError as refusal:
            advice = re.search(r"--set data\.(\w+)_size=(\d+) would do", str(refusal))
            if not advice:
                assert all(len(groups) == 2 for groups in sizes)
                return
            assert int(advice[2]) != asked[advice[1]]
            asked[advice[1]] = int(advice[2])
        else:
            assert_sound(data, parts, asked["train"], asked["val"])
            return
    pytest.fail("three pieces of advice did not help")
