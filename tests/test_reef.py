"""The generated data set: a pure function of its knobs, whose every knob does what it says."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fishjax.data.fish import OCCLUDERS, SCENES, VIEW
from fishjax.data.reef import SIZES, VERSION, Reef, make_reef, parse_reef
from fishjax.data.species import PARAMETERS, TRAITS, species_names, species_traits
from fishjax.fields import UsageError

SMALL = Reef(train=96, test=48)
GOLDEN = pathlib.Path(__file__).parent / "golden" / f"reef_v{VERSION}.json"


def small(**knobs):
    return make_reef(dataclasses.replace(SMALL, **knobs), 24)


def pool(data):
    return data.images[~data.fixed_test]


def held_out(data):
    return data.images[data.fixed_test]


def traits(seed=0, classes=8, twins=0):
    return species_traits(classes, twins, np.random.default_rng(seed))


def shared(codes):
    """How many traits each pair of species has in common; -1 for a species with itself."""
    same = (codes[:, None] == codes).sum(2)
    return np.where(np.eye(len(codes), dtype=bool), -1, same)


def signature(size):
    """Means of 4x4 blocks, in grey levels, of the first pictures: `[example, row, column, 3]`."""
    images = make_reef(Reef(train=8, test=8), size).images[:8].astype(float)
    return images.reshape(8, 4, size // 4, 4, size // 4, 3).mean((2, 4))


# A picture is a pure function of seed, stream, index and knobs.


def test_same_seed_same_bytes_and_another_seed_differs():
    assert small().digest() == small().digest()
    other = small(seed=1)
    assert (other.images != small().images).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("size", [16, 24])
def test_a_short_pool_is_the_beginning_of_a_long_one(size):
    long = make_reef(Reef(train=1200, test=600), size)
    short = make_reef(Reef(train=100, test=50), size)
    np.testing.assert_array_equal(pool(short), pool(long)[:100])
    np.testing.assert_array_equal(held_out(short), held_out(long)[:50])
    np.testing.assert_array_equal(short.labels[:100], long.labels[:100])


@pytest.mark.parametrize("knob", [{"train": 40}, {"background": 1.0}, {"frames": 3}])
def test_what_only_touches_training_leaves_the_test_split_as_it_was(knob):
    changed, before = small(**knob), small()
    np.testing.assert_array_equal(held_out(changed), held_out(before))
    np.testing.assert_array_equal(
        changed.labels[changed.fixed_test], before.labels[before.fixed_test]
    )


def test_no_picture_of_the_pool_is_in_the_test_split():
    data = make_reef(Reef(nuisance=0, train=64, test=64), 24)
    both = np.concatenate([pool(data), held_out(data)]).reshape(128, -1)
    assert len(np.unique(both, axis=0)) == 128


def test_a_change_of_pixels_is_a_change_of_version():
    stored = json.loads(GOLDEN.read_text())
    for size, blocks in stored.items():
        np.testing.assert_allclose(signature(int(size)), blocks, atol=1.0)


# Labels, groups, names and factors.


def test_both_splits_are_balanced_and_so_is_every_prefix_of_the_pool():
    data = small()
    for labels in (data.labels[~data.fixed_test], data.labels[data.fixed_test]):
        for end in range(1, len(labels) + 1):
            assert np.ptp(np.bincount(labels[:end], minlength=8)) <= 1


def test_groups_are_individuals_and_do_not_straddle_the_splits():
    data = small(frames=4)
    groups = data.groups[~data.fixed_test]
    assert (np.bincount(groups) == 4).all()
    assert not set(groups) & set(data.groups[data.fixed_test])
    first, second = data.factors["individual"][:2]
    np.testing.assert_array_equal(first, second)
    assert data.labels[0] == data.labels[3] != data.labels[4]
    assert (data.images[0] != data.images[1]).mean() > 0.3


def test_names_are_binomials_and_all_different():
    names = species_names(64)
    assert len(set(names)) == 64
    assert all(len(name.split()) == 2 for name in names)
    assert small().species == names[:8]


def test_factors_tell_each_example_and_leave_nothing_out():
    data = small()
    assert set(data.factors) == {*TRAITS, *VIEW, "individual", "flip", "occluders", "scene"}
    assert all(len(values) == len(data.labels) for values in data.factors.values())
    assert data.factors["individual"].shape == (144, len(PARAMETERS))
    assert set(data.factors["flip"]) == {-1, 1}
    assert set(data.factors["occluders"]) <= set(range(OCCLUDERS + 1))
    assert set(data.factors["scene"]) == set(range(len(SCENES)))
    for trait, (_, values) in TRAITS.items():
        codes = data.factors[trait]
        assert 0 <= codes.min() <= codes.max() < len(values)
        assert all(len(set(codes[data.labels == k])) == 1 for k in range(8))


def test_traits_set_every_parameter_once_in_its_order_and_range():
    assert [name for names, _ in TRAITS.values() for name in names] == list(PARAMETERS)
    limits = np.array(list(PARAMETERS.values()))[:, 1:]
    for names, values in TRAITS.values():
        low, high = limits[[list(PARAMETERS).index(name) for name in names]].T
        for numbers in values.values():
            assert (low <= numbers).all()
            assert (numbers <= high).all()


# Species.


@pytest.mark.parametrize("seed", range(3))
def test_species_are_far_apart_and_no_trait_gives_one_away(seed):
    codes = traits(seed)
    assert shared(codes).max() <= len(TRAITS) - 5
    assert all(len(set(code)) <= 4 for code in codes.T)
    assert shared(traits(seed, classes=64)).max() <= len(TRAITS) - 2


def test_fewer_species_are_the_first_of_more():
    np.testing.assert_array_equal(traits(classes=5), traits(classes=64)[:5])


@pytest.mark.parametrize(("classes", "twins"), [(2, 1), (8, 1), (8, 4), (64, 32)])
def test_twins_differ_in_one_trait_and_nothing_else_does(classes, twins):
    codes = traits(classes=classes, twins=twins)
    alike = {(int(a), int(b)) for a, b in np.argwhere(shared(codes) >= len(TRAITS) - 1) if a < b}
    assert alike == {(2 * pair, 2 * pair + 1) for pair in range(twins)}
    np.testing.assert_array_equal(codes[::2][:twins], traits(classes=classes)[::2][:twins])


@pytest.mark.parametrize("seed", range(5))
def test_a_twin_comes_no_nearer_to_other_species(seed):
    without, codes = traits(seed), traits(seed, twins=4)
    others = np.arange(8)[:, None] // 2 != np.arange(8) // 2
    assert shared(codes)[others].max() <= shared(without).max()


# Knobs.


def test_without_distance_the_species_are_identical():
    data = small(distance=0, spread=0, nuisance=0)
    same = np.equal.outer(data.factors["scene"], data.factors["scene"])
    fish = data.images[:, 9:13, 9:13].reshape(144, -1)
    assert same.any()
    assert (fish == fish[0]).all()
    assert not (small(spread=0, nuisance=0).images[:8, 11, 11] == fish[0, :3]).all()


def test_species_stand_further_apart_with_distance():
    def apart(distance):
        heart = small(distance=distance, spread=0, nuisance=0).images[:8, 9:14, 9:14]
        return heart.astype(float).std(axis=0).mean()

    ladder = [apart(distance) for distance in (0, 0.5, 1, 2)]
    assert ladder[0] == 0
    assert (np.diff(ladder) > 2).all()


def test_individuals_vary_with_spread():
    def within(spread):
        data = small(spread=spread, nuisance=0)
        heart = data.images[data.labels == 0][:, 9:14, 9:14].astype(float)
        return heart.std(axis=0).mean()

    ladder = [within(spread) for spread in (0, 0.5, 1, 2)]
    assert ladder[0] == 0
    assert (np.diff(ladder) > 2).all()


def test_without_nuisance_every_view_is_neutral():
    factors = small(nuisance=0).factors
    for name, (neutral, _, _) in VIEW.items():
        assert (factors[name] == neutral).all()
    assert (factors["flip"] == 1).all()
    assert not factors["occluders"].any()


def test_views_of_an_individual_vary_with_nuisance():
    def between_frames(nuisance):
        images = pool(small(frames=12, nuisance=nuisance)).astype(float)
        return images.reshape(8, 12, -1).std(axis=1).mean()

    ladder = [between_frames(nuisance) for nuisance in (0, 0.5, 1, 2)]
    assert ladder[0] == 0
    assert (np.diff(ladder) > 2).all()


def test_the_scene_follows_the_species_as_far_as_the_background_knob_says():
    def at_home(background):
        data = make_reef(Reef(background=background, train=800, test=400), 16)
        scene = data.factors["scene"]
        home = small(background=1).factors["scene"][:8]
        there = scene == home[data.labels]
        return there[~data.fixed_test].mean(), there[data.fixed_test].mean()

    chance = 1 / len(SCENES)
    for background in (0, 0.5, 1):
        trained, tested = at_home(background)
        assert abs(trained - (background + (1 - background) * chance)) < 0.06
        assert abs(tested - chance) < 0.06


def test_background_moves_scenes_and_nothing_else():
    free, tied = small().factors, small(background=1).factors
    assert (free["scene"] != tied["scene"]).any()
    for name in set(free) - {"scene"}:
        np.testing.assert_array_equal(free[name], tied[name])


@pytest.mark.parametrize("size", [16, 33, 128])
def test_pictures_are_not_blank_at_any_size(size):
    images = make_reef(Reef(train=24, test=8), size).images
    assert images.shape == (32, size, size, 3)
    assert (images.reshape(32, -1).std(axis=1) > 12).all()
    assert 60 < images.mean() < 160


def test_a_fish_keeps_its_form_at_every_size():
    """Means of blocks at 24 and at 96 pixels differ by little but anti-aliasing and grain."""
    assert np.abs(signature(24) - signature(96)).mean() < 4


# Difficulty.


def linear_probe(strength):
    """Regularised regression on 256 images; the rotation to their 255 directions is lossless."""
    return make_pipeline(PCA(255), LogisticRegression(C=strength, max_iter=2000))


def test_shallow_classifiers_do_not_solve_it():
    """256 training images of 8 species, 24 pixels, 512 test images; chance is 0.125.

    Measured: mean colour 0.260, nearest neighbour 0.367, linear probe 0.574 at its best strength
    *on the test images*. On the other three blocks of 256 in the pool that best is 0.578, 0.607 and
    0.582; with reef's seeds 1, 2 and 3 it is 0.455, 0.555 and 0.506. A CNN of 8, 16, 16 and 32
    channels reaches 0.853 (four blocks and starts, SGD with momentum 0.9, rate 0.02, 60 epochs).
    """
    data = make_reef(Reef(train=256), 24)
    pixels = data.images.reshape(len(data.images), -1) / 255
    colour = data.images.mean(axis=(1, 2)) / 255

    def accuracy(classifier, seen):
        fitted = classifier.fit(seen[~data.fixed_test], data.labels[~data.fixed_test])
        return fitted.score(seen[data.fixed_test], data.labels[data.fixed_test])

    on_colour = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    assert 0.125 < accuracy(on_colour, colour) < 0.45
    assert 0.125 < accuracy(KNeighborsClassifier(1), pixels) < 0.60
    best = max(accuracy(linear_probe(c), pixels) for c in (0.01, 0.1, 1, 10, 100))
    assert 0.125 < best < 0.60


# The text of the knobs.


def test_the_canonical_text_is_read_again():
    knobs = parse_reef("classes=12, twins=1,distance=0.5")
    assert knobs == Reef(classes=12, twins=1, distance=0.5)
    assert knobs.spec.startswith(f"reef:v{VERSION}:classes=12,distance=0.5,")
    assert parse_reef(knobs.spec.removeprefix("reef:")) == knobs
    assert parse_reef("") == Reef()
    assert parse_reef("distance=1").spec == Reef().spec == make_reef(Reef(), 16).spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clases=12", "unknown knob 'clases' of reef; did you mean 'classes'"),
        ("classes", "takes knob=value"),
        ("classes=many", "reef:classes takes a whole number, not 'many'"),
        ("classes=1", "reef:classes=1 is out of bounds: at least 2, at most 64"),
        ("classes=65", "out of bounds"),
        ("distance=nan", "out of bounds"),
        ("background=1.5", "out of bounds"),
        ("frames=0", "out of bounds"),
        ("seed=-1", "out of bounds"),
        ("twins=5", "reef:twins=5 needs 10 species, but reef:classes=8"),
        ("train=7", "at least 8"),
        ("frames=3,train=20", "at least 24"),
        ("test=7", "at least 8"),
        ("classes=8,classes=9", "given twice"),
        ("v1:classes=8", f"this one is 'v{VERSION}'"),
    ],
)
def test_bad_knobs_are_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_reef(text)


@pytest.mark.parametrize("size", [SIZES[0] - 1, SIZES[1] + 1])
def test_sizes_beyond_the_bounds_are_refused(size):
    with pytest.raises(UsageError, match=f"data.image_size={size}"):
        make_reef(SMALL, size)
