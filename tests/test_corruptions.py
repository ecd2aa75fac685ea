"""Corruptions are exact, nested, deterministic, touch what they say, and cost no compilation."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.spatial.distance import cdist

import fishjax
from fishjax.config import Config
from fishjax.data.corruptions import distances, view, view_digest
from fishjax.data.dataset import DataError
from fishjax.data.fish4knowledge import read_f4k
from fishjax.data.folder import read_folder
from fishjax.data.pixels import Look, coarse, colours, framed, render, tinted
from fishjax.data.pool import Pool
from fishjax.data.sheet import write_samples
from fishjax.data.source import open_source
from fishjax.data.splits import split
from fishjax.engine.packs import pack, slots
from fishjax.engine.program import Program
from fishjax.evidence.plan import Claim, Contrast, Plan, Reading
from fishjax.feed import normalised
from fishjax.fields import UsageError
from fishjax.sections import Data
from fishjax.settings import override
from fishjax.study import Scale, Study
from fishjax.sweep import Arm, Tuned, Tuning, cells
from tests.commands import run_study
from tests.runs import TINY

REEF = open_source("reef:train=600,test=160", 16)
COUNT = len(REEF.species)
BASE = Data(train_size=200, val_size=64, image_size=16)
SEEDS = (0, 1, 7)


def asked(**changes):
    return dataclasses.replace(BASE, **changes)


def plain(seed=0, size=200):
    return split(REEF, size, 64, seed)


def counted(example):
    return np.bincount(REEF.labels[example], minlength=COUNT)


def shown(dataset, data, seed=0):
    """The pool of one run with its rows and its view."""
    pool = Pool(dataset, [(data, seed)])
    return pool, pool.rows[data, seed], pool.views[data, seed]


EVERY = asked(
    imbalance="exponential",
    imbalance_ratio=5.0,
    label_noise=0.2,
    cue="border",
    cue_share=0.7,
    twins=0.6,
    duplicates=0.25,
    leakage=0.3,
    channel_shift=0.5,
    resolution=8,
)


def test_without_corruptions_a_run_is_fed_the_source_itself():
    pool, rows, _ = shown(REEF, BASE)
    assert pool.images is REEF.images
    assert pool.labels is REEF.labels
    for found, expected in zip(rows, plain(), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.int32


@pytest.mark.parametrize(("ratio", "size"), [(1.0, 200), (10.0, 200), (50.0, 120)])
def test_imbalance_has_the_long_tail_of_cui_et_al(ratio, size):
    asks = asked(imbalance="exponential", imbalance_ratio=ratio, train_size=size)
    for seed in SEEDS:
        found = view(REEF, asks, seed)
        tail = ratio ** (-np.arange(COUNT) / (COUNT - 1))
        expected = size * tail / tail.sum()
        assert np.abs(counted(found.train.example) - np.maximum(expected, 1)).max() < 1


def test_imbalance_by_step_and_of_one_species():
    step = counted(view(REEF, asked(imbalance="step", imbalance_ratio=9.0), 0).train.example)
    np.testing.assert_array_equal(step, [45, 45, 45, 45, 5, 5, 5, 5])
    name = REEF.species[2]
    alone = asked(imbalance="species", imbalance_species=name, imbalance_ratio=10.0, train_size=142)
    expected = view(REEF, alone, 0).train.example
    np.testing.assert_array_equal(counted(expected), [20, 20, 2, 20, 20, 20, 20, 20])
    third = dataclasses.replace(alone, imbalance_species="#3")
    np.testing.assert_array_equal(view(REEF, third, 0).train.example, expected)


def test_a_species_that_runs_out_beside_a_rare_one_leaves_its_places_to_the_others():
    scarce = np.flatnonzero((REEF.labels == 5) & ~REEF.fixed_test)[3:]
    kept = np.setdiff1d(np.arange(len(REEF.labels)), scarce)
    arrays = {
        name: getattr(REEF, name)[kept] for name in ("images", "labels", "groups", "fixed_test")
    }
    few = dataclasses.replace(REEF, **arrays, factors={})
    rare = asked(imbalance="species", imbalance_species="#3", imbalance_ratio=50.0, train_size=390)
    count = np.bincount(few.labels[view(few, rare, 0).train.example])
    assert (count[5], count[2], sum(count)) == (2, 1, 390)


def test_a_rare_species_that_would_fill_up_the_subset_is_refused():
    rare = asked(imbalance="species", imbalance_species="#3", imbalance_ratio=50.0, train_size=520)
    with pytest.raises(DataError, match=r"Pontodax marellae would not be rare") as refusal:
        view(REEF, rare, 0)
    would = int(re.search(r"train_size=(\d+) would", str(refusal.value))[1])
    assert counted(view(REEF, dataclasses.replace(rare, train_size=would), 0).train.example)[2] == 2
    with pytest.raises(DataError, match="would not be rare"):
        view(REEF, dataclasses.replace(rare, train_size=would + 1), 0)


@pytest.mark.parametrize("kind", ["exponential", "step"])
def test_imbalance_is_nested_and_leaves_validation_and_test(kind):
    for seed in SEEDS:
        even = view(REEF, asked(imbalance=kind, imbalance_ratio=1.0), seed)
        np.testing.assert_array_equal(even.train.example, plain(seed).train)
        small = view(REEF, asked(imbalance=kind, train_size=77), seed)
        large = view(REEF, asked(imbalance=kind), seed)
        np.testing.assert_array_equal(large.train.example[:77], small.train.example)
        assert len(np.unique(large.train.example)) == 200
        np.testing.assert_array_equal(large.val.example, plain(seed).val)
        np.testing.assert_array_equal(large.test.example, plain(seed).test)
        assert not np.isin(large.train.example, [*large.val.example, *large.test.example]).any()


def test_too_few_images_for_an_imbalance_are_refused_with_what_would_do():
    with pytest.raises(DataError, match=r"more than the \d+ images of Velich") as refusal:
        view(REEF, asked(imbalance="exponential", imbalance_ratio=100.0), 0)
    would = int(re.search(r"train_size=(\d+) would", str(refusal.value))[1])
    at = {"imbalance": "exponential", "imbalance_ratio": 100.0}
    assert len(view(REEF, asked(train_size=would, **at), 0).train.example) == would
    with pytest.raises(DataError, match=f"train_size={would} would do"):
        view(REEF, asked(train_size=would + 1, **at), 0)


def test_an_unknown_species_is_refused_with_the_nearest():
    wrong = asked(imbalance="species", imbalance_species=REEF.species[3] + "s")
    with pytest.raises(UsageError, match=f"did you mean '{REEF.species[3]}'"):
        view(REEF, wrong, 0)
    for number in ("#0", "#9", "#", "#1.5"):
        with pytest.raises(UsageError, match="#1 to #8 are there"):
            view(REEF, asked(imbalance="species", imbalance_species=number), 0)


@pytest.mark.parametrize("kind", ["symmetric", "pair", "similar"])
def test_label_noise_is_exact_nested_and_only_in_training(kind):
    for seed in SEEDS:
        before = np.zeros(200, bool)
        told = None
        for share in (0.1, 0.2, 0.55, 1.0):
            found = view(REEF, asked(label_noise=share, label_noise_kind=kind), seed)
            np.testing.assert_array_equal(found.train.example, plain(seed).train)
            wrong = found.train.label != REEF.labels[found.train.example]
            assert wrong.sum() == round(share * 200)
            assert wrong[before].all()
            if told is not None:
                np.testing.assert_array_equal(found.train.label[before], told[before])
            before, told = wrong, found.train.label
            for part in (found.val, found.test):
                np.testing.assert_array_equal(part.label, REEF.labels[part.example])


def test_where_flipped_labels_go():
    truth = REEF.labels[plain().train]
    pair = view(REEF, asked(label_noise=1.0, label_noise_kind="pair"), 0).train.label
    np.testing.assert_array_equal(pair, (truth + 1) % COUNT)
    pool = ~REEF.fixed_test
    means = [REEF.images[pool & (REEF.labels == k)].mean(0).ravel() for k in range(COUNT)]
    apart = cdist(means, means) / np.sqrt(16 * 16 * 3)
    np.fill_diagonal(apart, np.inf)
    np.testing.assert_allclose(distances(REEF), apart, rtol=1e-9)
    similar = view(REEF, asked(label_noise=1.0, label_noise_kind="similar"), 0).train.label
    np.testing.assert_array_equal(similar, apart.argmin(1)[truth])
    moved = np.concatenate(
        [
            (view(REEF, asked(label_noise=1.0, train_size=400), seed).train.label)
            - REEF.labels[plain(seed, 400).train]
            for seed in range(20)
        ]
    )
    times = np.bincount(moved % COUNT, minlength=COUNT)
    assert times[0] == 0
    expected = 8000 / (COUNT - 1)
    assert np.square(times[1:] - expected).sum() / expected < 22.5  # chi-square, 6 df, p = 0.001


def test_a_border_is_the_species_colour_on_the_share_asked():
    palette = colours(COUNT)
    assert len(np.unique(palette, axis=0)) == COUNT
    carried = np.zeros(200, bool)
    for share in (0.25, 0.5, 1.0):
        pool, rows, found = shown(REEF, asked(cue="border", cue_share=share))
        images, clean = pool.images[rows.train], REEF.images[found.train.example]
        edge = np.ones((16, 16), bool)
        edge[1:-1, 1:-1] = False
        np.testing.assert_array_equal(images[:, ~edge], clean[:, ~edge])
        framed_here = (images[:, edge] == palette[found.train.label][:, None]).all((1, 2))
        assert framed_here.sum() == round(share * 200)
        assert framed_here[carried].all()
        np.testing.assert_array_equal(images[~framed_here], clean[~framed_here])
        np.testing.assert_array_equal(rows.val, found.val.example)
        np.testing.assert_array_equal(rows.test, found.test.example)
        carried = framed_here
    twenty_four = framed(np.zeros((1, 24, 24, 3), np.uint8), palette[:1])
    assert (twenty_four[0, :, :, 0] == 255).sum() == 24**2 - 20**2


def test_a_background_is_tinted_where_its_colour_is_the_rings():
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 90, (20, 8, 8, 3)) + 80 * (rng.random((20, 8, 8, 1)) < 0.3)).astype(
        np.uint8
    )
    colour = rng.integers(0, 256, (20, 3)).astype(np.uint8)
    edge = np.ones((8, 8), bool)
    edge[1:-1, 1:-1] = False
    made = tinted(images, colour)
    for image, tint, found in zip(images, colour, made, strict=True):
        away = cdist(image.reshape(-1, 3), image[edge]).min(1).reshape(8, 8, 1)
        share = 0.5 * np.clip((48 - away) / 24, 0, 1)
        assert np.abs((1 - share) * image + share * tint.astype(float) - found).max() <= 0.5001
        np.testing.assert_array_equal(found[away[..., 0] >= 48], image[away[..., 0] >= 48])


def test_a_cue_is_of_the_true_species_even_where_the_label_is_wrong():
    pool, rows, found = shown(REEF, asked(cue="border", label_noise=0.5))
    truth = REEF.labels[found.train.example]
    corner = pool.images[rows.train, 0, 0]
    np.testing.assert_array_equal(corner, colours(COUNT)[truth])
    np.testing.assert_array_equal(pool.labels[rows.train], found.train.label)
    assert (found.train.label != truth).sum() == 100


def test_a_planted_cue_is_all_that_a_linear_probe_needs():
    def fitted(data):
        pool, rows, _ = shown(REEF, data)

        def features(index):
            blocks = pool.images[index].reshape(-1, 4, 4, 4, 4, 3).mean((2, 4)).reshape(-1, 48)
            return np.hstack([blocks / 255, np.ones((len(index), 1))])

        one_hot = np.eye(COUNT)[pool.labels[rows.train]]
        weights = np.linalg.lstsq(features(rows.train), one_hot, rcond=None)[0]
        return [
            np.mean((features(index) @ weights).argmax(1) == pool.labels[index])
            for index in (rows.train, rows.test)
        ]

    clean, cue = (fitted(asked(train_size=480, cue=cue)) for cue in ("none", "border"))
    assert cue[0] > 0.95 > clean[0] + 0.15
    assert cue[1] < clean[1] + 0.02


def test_twins_are_blended_with_the_other_species_of_their_own_split():
    pool, rows, found = shown(REEF, asked(twins=0.6))
    pair = np.unravel_index(distances(REEF).argmin(), (COUNT, COUNT))
    for name in ("train", "val", "test"):
        part, index = getattr(found, name), getattr(rows, name)
        truth = REEF.labels[part.example]
        twin = np.isin(truth, pair)
        np.testing.assert_array_equal(part.partner >= 0, twin)
        np.testing.assert_array_equal(index[~twin], part.example[~twin])
        partner = part.partner[twin]
        np.testing.assert_array_equal(REEF.labels[partner], sum(pair) - truth[twin])
        assert np.isin(partner, part.example).all()
        assert np.bincount(partner).max() == 1
        own, other = REEF.images[part.example[twin]], REEF.images[partner]
        assert np.abs(pool.images[index[twin]] - (0.7 * own + 0.3 * other)).max() <= 0.5001
        np.testing.assert_array_equal(pool.labels[index], truth)


def test_two_species_can_be_twins_and_a_split_without_one_is_refused():
    two = open_source("reef:classes=2,train=40,test=10", 16)
    _, rows, found = shown(two, asked(twins=1.0, train_size=12, val_size=4))
    assert (found.test.partner >= 0).all()
    assert min(rows.test) >= len(two.labels)
    with pytest.raises(DataError, match=r"data.twins blends in .* larger data.val_size"):
        view(two, asked(twins=1.0, train_size=12, val_size=1), 0)


def test_resolution_averages_areas_and_interpolates_linearly():
    place = np.clip((np.arange(16) + 0.5) / 4 - 0.5, 0, 3)
    low = np.minimum(place.astype(int), 2)
    up = np.zeros((16, 4))
    up[np.arange(16), low], up[np.arange(16), low + 1] = 1 - (place - low), place - low
    down = np.kron(np.eye(4), np.full((1, 4), 0.25))
    expected = REEF.images[:12]
    for weights in (down, up):  # Pillow rounds after each direction, columns first
        for axes in ("ij,nrjc->nric", "ij,njrc->nirc"):
            expected = np.floor(np.einsum(axes, weights, expected) + 0.5)
    np.testing.assert_array_equal(coarse(REEF.images[:12], 4), expected)
    pool, rows, found = shown(REEF, asked(resolution=4))
    for part, index in zip(found, rows, strict=True):
        np.testing.assert_array_equal(pool.images[index], coarse(REEF.images[part.example], 4))
    assert shown(REEF, asked(resolution=16))[0].images is REEF.images


def test_a_channel_shift_is_of_test_images_in_deviations_of_the_source():
    pool, rows, found = shown(REEF, asked(channel_shift=1.5))
    deviation = REEF.images[~REEF.fixed_test].reshape(-1, 3).std(0)
    np.testing.assert_allclose(REEF.deviation, deviation, rtol=1e-9)
    expected = REEF.images[found.test.example] + 1.5 * deviation * [-1, 1, -1]
    assert np.abs(pool.images[rows.test] - np.clip(expected, 0, 255)).max() <= 0.5001
    np.testing.assert_array_equal(rows.train, found.train.example)
    np.testing.assert_array_equal(rows.val, found.val.example)


def test_duplicates_keep_the_beginning_and_the_frequencies():
    for seed in SEEDS:
        for share in (0.1, 0.5, 0.95):
            train = view(REEF, asked(duplicates=share), seed).train.example
            kept = 200 - round(share * 200)
            np.testing.assert_array_equal(train[:kept], plain(seed).train[:kept])
            assert len(np.unique(train)) == kept
            np.testing.assert_array_equal(counted(train), counted(plain(seed).train))
            times = np.bincount(train)[train[:kept]]
            for species in range(COUNT):
                own = times[REEF.labels[train[:kept]] == species]
                assert own.max() - own.min() <= 1
    with pytest.raises(DataError, match=r"duplicates=0.96 would do"):
        view(REEF, asked(duplicates=0.97), 0)
    view(REEF, asked(duplicates=0.96), 0)


def test_leaked_test_images_replace_their_own_species_and_are_nested():
    for seed in SEEDS:
        before = np.empty(0, np.int32)
        for share in (0.1, 0.5, 1.0):
            found = view(REEF, asked(leakage=share), seed)
            leaked = np.intersect1d(found.train.example, found.test.example)
            assert len(leaked) == round(share * 160)
            assert np.isin(before, leaked).all()
            assert len(np.unique(found.train.example)) == 200
            np.testing.assert_array_equal(counted(found.train.example), counted(plain(seed).train))
            np.testing.assert_array_equal(found.test.example, plain(seed).test)
            before = leaked
    with pytest.raises(DataError, match=r"leakage=0.5 would do"):
        view(REEF, asked(leakage=0.6, train_size=80), 0)
    view(REEF, asked(leakage=0.5, train_size=80), 0)


def test_a_share_of_no_image_is_refused():
    for name in ("label_noise", "duplicates", "leakage"):
        with pytest.raises(DataError, match=rf"{name}=0.002 of \d+ images is none"):
            view(REEF, asked(**{name: 0.002}), 0)
    with pytest.raises(DataError, match=r"cue_share=0\.002 of 200"):
        view(REEF, asked(cue="border", cue_share=0.002), 0)


def test_corruptions_compose_and_stay_exact():
    for seed in SEEDS:
        pool, rows, found = shown(REEF, EVERY, seed)
        train = found.train
        truth = REEF.labels[train.example]
        alone = view(REEF, asked(imbalance="exponential", imbalance_ratio=5.0), seed).train.example
        np.testing.assert_array_equal(counted(train.example), counted(alone))
        assert len(np.unique(train.example)) == 150
        assert np.isin(found.test.example, train.example).sum() == 48
        assert (train.label != truth).sum() == 40
        assert train.cued.sum() == 140
        np.testing.assert_array_equal(pool.labels[rows.train], train.label)
        np.testing.assert_array_equal(pool.labels[rows.test], REEF.labels[found.test.example])
        place = int(np.flatnonzero(train.cued & (train.partner >= 0))[0])
        own, other = (REEF.images[[x[place]]] for x in (train.example, train.partner))
        twin = np.rint(0.7 * own + 0.3 * other).astype(np.uint8)
        expected = coarse(framed(twin, colours(COUNT)[truth[[place]]]), 8)
        np.testing.assert_array_equal(pool.images[rows.train[place]], expected[0])


def test_equal_asks_make_equal_arrays_and_seeds_differ():
    first, again = (Pool(REEF, [(EVERY, 0), (BASE, 1), (EVERY, 1)]) for _ in range(2))
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_array_equal(first.rows[EVERY, 1].train, again.rows[EVERY, 1].train)
    alone = Pool(REEF, [(EVERY, 1)])
    for shared, own in zip(first.rows[EVERY, 1], alone.rows[EVERY, 1], strict=True):
        np.testing.assert_array_equal(first.images[shared], alone.images[own])
        np.testing.assert_array_equal(first.labels[shared], alone.labels[own])
    assert set(first.rows[EVERY, 0].train) != set(first.rows[EVERY, 1].train)
    made = first.images[len(REEF.images) :]
    labelled = np.column_stack([made.reshape(len(made), -1), first.labels[len(REEF.images) :]])
    assert len(np.unique(labelled, axis=0)) == len(made)


def test_the_digest_follows_every_field_of_the_data_and_nothing_else():
    changed = {
        "train_size": 201,
        "val_size": 65,
        "image_size": 17,
        "imbalance": "step",
        "imbalance_species": REEF.species[0],
        "label_noise_kind": "pair",
        "cue": "background",
        "normalise": "no",
        "resolution": 9,
    }
    values = {f.name: changed.get(f.name, 0.125) for f in dataclasses.fields(Data)}
    values["imbalance_ratio"] = 3.0
    digests = [view_digest("s", dataclasses.replace(EVERY, **{k: v}), 0) for k, v in values.items()]
    digests += [view_digest("s", EVERY, 0), view_digest("s", EVERY, 1), view_digest("t", EVERY, 0)]
    assert len(set(digests)) == len(values) + 3
    config = override(Config(), {"hyper.lr": 0.5, "model.depth": 3})
    assert view_digest("s", config.data, 0) == view_digest("s", Config().data, 0)


def test_inputs_are_scaled_by_the_pixels_that_are_trained_on_or_left_raw():
    configs = [
        override(Config(), {**TINY, "data.image_size": 16, "data.train_size": 64, **changes})
        for changes in ({"data.cue": "border"}, {"data.normalise": "no"})
    ]
    runs = [cells([Arm("a")], config, {}, (0,))[0] for config in configs]
    (both,) = pack(runs, COUNT, 2)
    pool = Pool(REEF, [(cell.config.data, cell.seed) for cell in runs])
    fed = slots(pool, both)
    scaled = normalised(jnp.asarray(pool.images)[fed.train[0]], fed.mean[0], fed.deviation[0])
    np.testing.assert_allclose(np.mean(scaled, axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(np.std(scaled, axis=(0, 1, 2)), 1, rtol=1e-5)
    raw = normalised(jnp.asarray(pool.images)[fed.test[1]], fed.mean[1], fed.deviation[1])
    np.testing.assert_allclose(raw, pool.images[np.asarray(fed.test[1])], rtol=1e-6)


def test_a_folder_of_photographs_is_corrupted_as_reef_is(tmp_path):
    rng = np.random.default_rng(0)
    for k, name in enumerate(("cod", "eel", "ray")):
        (tmp_path / name).mkdir()
        for i in range(12):
            pixels = rng.integers(0, 100, (20, 30, 3)) + (150, 140, 20)[k]
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{i}.png")
    photos = read_folder(str(tmp_path), 16)
    at = {"train_size": 15, "val_size": 3, "twins": 1.0, "label_noise": 0.4}
    _, _, found = shown(photos, asked(**at, label_noise_kind="similar", cue="background"))
    wrong = found.train.label != photos.labels[found.train.example]
    assert wrong.sum() == 6
    assert set(found.train.label[wrong]) <= {0, 1}
    assert set(photos.labels[found.test.example[found.test.partner >= 0]]) == {0, 1}


def test_photographs_are_corrupted_without_dividing_a_trajectory(photographs):
    photos = read_f4k(str(photographs), 16)
    rare = asked(
        train_size=400,
        val_size=100,
        imbalance="species",
        imbalance_species=photos.species[1],
        imbalance_ratio=20.0,
        twins=0.5,
        label_noise=0.3,
        label_noise_kind="similar",
        cue="background",
        resolution=8,
    )
    for seed in SEEDS:
        pool, rows, found = shown(photos, rare, seed)
        usual = split(photos, 400, 100, seed)
        np.testing.assert_array_equal(found.test.example, usual.test)
        count = np.bincount(photos.labels[found.train.example], minlength=23)
        expected = np.bincount(photos.labels).astype(float)
        expected[1] /= 20
        expected *= 400 / expected.sum()
        assert np.abs(count - np.maximum(expected, 1)).max() < 3
        groups = [set(photos.groups[part.example].tolist()) for part in found]
        assert len(set.union(*groups)) == sum(map(len, groups))
        assert (pool.labels[rows.train] != photos.labels[found.train.example]).sum() == 120
    with pytest.raises(DataError, match=r"train_size=\d+ would do there"):
        view(photos, dataclasses.replace(rare, imbalance="exponential"), 0)


def test_render_leaves_an_image_without_a_look_alone():
    some = np.arange(300)
    np.testing.assert_array_equal(render(REEF, Look(), some, some), REEF.images[:300])


STUDY = Study(
    name="causes",
    base=override(Config(), {**TINY, "data.image_size": 16, "hyper.lr": 0.05}),
    arms=(
        Arm("clean", {"hyper.lr": Tuned("clean")}),
        Arm("noisy", {"data.label_noise": 0.5}),
        Arm("cue", {"data.cue": "border", "data.channel_shift": 1.0}),
    ),
    plan=Plan(
        None,
        (
            Claim(
                "0.1",
                "noise",
                "directional",
                Contrast(Reading("test_accuracy"), "noisy", "clean", -1, 0.02),
            ),
        ),
        (),
    ),
    scales={"laptop": Scale((0, 1), Tuning(("clean",), (0.05,), (1000,)))},
)
DATA = "reef:classes=3,train=96,test=24"


@pytest.mark.slow
def test_corrupted_arms_share_one_program_and_leave_their_labels(tmp_path, monkeypatch):
    compiled = []
    original = Program.lower

    def counting(self, piece, *args):
        compiled.append(piece.__name__)
        return original(self, piece, *args)

    monkeypatch.setattr(Program, "lower", counting)
    folder = tmp_path / "out"
    assert run_study(STUDY, "--data", DATA, "--out", str(folder)) == 0
    assert len(compiled) == len(set(compiled)) == 4
    dataset = open_source(DATA, 16)
    hashes = set()
    for arm in ("clean", "noisy", "cue"):
        (cell,) = (folder / "cells").glob(f"{arm}-*/seed=0001")
        hashes.add(json.loads((cell / "config.json").read_bytes())["data_hash"])
        stored = pq.read_table(cell / "predictions.parquet").to_pandas()
        np.testing.assert_array_equal(stored["example"], split(dataset, 16, 8, 1).test)
        np.testing.assert_array_equal(stored["label"], dataset.labels[stored["example"]])
        assert (cell / "labels.parquet").exists() == (arm == "noisy")
        if arm == "noisy":
            labels = pq.read_table(cell / "labels.parquet").to_pandas()
            assert (labels["label"] != labels["clean"]).sum() == 8
            np.testing.assert_array_equal(labels["clean"], dataset.labels[labels["example"]])
            flipped = labels[labels["label"] != labels["clean"]]
            images = dataset.images[flipped["example"]]
            guess = fishjax.load(folder, arm, 1).predict(images).argmax(1)
        metrics = pq.read_table(cell / "metrics.parquet").to_pandas()
        for told in ("given", "clean"):
            read = metrics[metrics["metric"] == f"flipped_as_{told}_share"]
            assert read["epoch"].tolist() == [0, 2, 4]
            if arm == "noisy":
                hits = guess == flipped["label" if told == "given" else "clean"]
                assert read["value"].iloc[-1] == pytest.approx(hits.mean())
            else:
                assert read["value"].isna().all()
    assert len(hashes) == 3
    names = {file.name for file in (folder / "samples").iterdir()}
    clear = {"species", "train-label_noise=0.5", "train-cue=border", "test-channel_shift=1.0"}
    assert names == {f"{name}.png" for name in clear}


def cells_of(file, size):
    """The images of a contact sheet, `[species, column, size, size, 3]`."""
    sheet = np.asarray(Image.open(file))
    zoom = sheet.shape[1] // (8 * size)
    small = sheet[::zoom, ::zoom].reshape(COUNT, size, 8, size, 3)
    return small.swapaxes(1, 2)


def test_sheets_show_what_runs_are_shown(tmp_path):
    cued = asked(cue="border", resolution=8, imbalance="step")
    noisy = asked(label_noise=0.5, label_noise_kind="pair")
    shifted = asked(channel_shift=2.0)
    asks = [(cued, 9), (cued, 1), (noisy, 1), (shifted, 1), (BASE, 0)]
    write_samples(REEF, asks, tmp_path)
    assert {file.stem for file in tmp_path.iterdir()} == {
        "species",
        "train-cue=border-resolution=8",
        "test-resolution=8",
        "train-label_noise=0.5-label_noise_kind=pair",
        "test-channel_shift=2.0",
    }
    clean = cells_of(tmp_path / "species.png", 16)
    np.testing.assert_array_equal(clean[3], REEF.images[REEF.labels == 3][:8])
    for name, ask, side in (
        ("train-cue=border-resolution=8", (cued, 1), "train"),
        ("train-label_noise=0.5-label_noise_kind=pair", (noisy, 1), "train"),
        ("test-channel_shift=2.0", (shifted, 1), "test"),
    ):
        pool = Pool(REEF, [ask])
        rows = getattr(pool.rows[ask], side)
        shown = pool.images[rows][pool.labels[rows] == 2][:8]
        drawn = cells_of(tmp_path / f"{name}.png", 16)[2]
        np.testing.assert_array_equal(drawn[: len(shown)], shown)


def test_a_pool_keeps_clean_labels_only_where_one_was_flipped():
    assert Pool(REEF, [(asked(cue="border"), 0), (BASE, 1)]).clean is None
    noisy = asked(label_noise=0.2, cue="background", cue_share=0.5)
    pool = Pool(REEF, [(noisy, 0), (BASE, 1)])
    assert pool.clean is not None
    train = pool.views[(noisy, 0)].train
    rows = pool.rows[(noisy, 0)].train
    np.testing.assert_array_equal(pool.clean[rows], REEF.labels[train.example])
    assert (pool.clean[rows] != pool.labels[rows]).sum() == 40
    np.testing.assert_array_equal(pool.clean[: len(REEF.labels)], REEF.labels)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "data.imbalance=species data.imbalance_species=cod",
            "unknown species 'cod'; did you mean",
        ),
        ("data.resolution=1", "at least 2"),
        ("data.leakage=0.9", "would do"),
        ("data.imbalance=step data.train_size=80", "train_size=[0-9]+ would do"),
    ],
)
def test_what_the_source_cannot_give_is_refused_before_anything_compiles(
    setting, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(Program, "lower", None)
    out = tmp_path / "out"
    command = ("--data", DATA, "--out", str(out), "--set", *setting.split())
    assert run_study(STUDY, *command) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not out.exists()
