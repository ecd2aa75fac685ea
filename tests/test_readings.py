"""Readings at a crossing, on a scale, less another one, without a species, and instability."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy import special

from fishjax.evidence.contrast import Contrast, Crossing, Reading
from fishjax.evidence.pairs import pairs
from fishjax.evidence.readings import read
from fishjax.fields import UsageError

EPOCHS = [0.0, 5.0, 10.0, 15.0]
REACHED = Crossing("train_accuracy", 0.75)


@pytest.fixture
def results():
    """Seed 0 reaches 0.75 at epoch 5, seed 1 at 15, seed 2 never; `slow` is one evaluation late."""
    accuracy = [[0.3, 0.8, 0.7, 0.9], [0.3, 0.5, 0.6, 0.75], [0.3, 0.4, 0.5, 0.6]]
    late = np.roll(accuracy, 1, axis=1)
    late[:, 0] = 0.2
    run = ("arm", "seed", "epoch")
    loss = np.array([[2.0, 1.0, 0.5, 0.25]] * 3) * np.array([1, 2, 4])[:, None]
    auc = np.arange(9.0).reshape(3, 3) / 10
    made = {
        "train_accuracy": (run, np.stack([accuracy, late])),
        "train_loss": (run, np.stack([loss, 2 * loss])),
        "test_auc_of": (("arm", "seed", "species"), np.stack([auc, auc + 0.01])),
        "revival": (("arm", "seed"), np.zeros((2, 3))),
        "diverged": (("arm", "seed"), np.zeros((2, 3), bool)),
    }
    coords = {"arm": ["fast", "slow"], "seed": range(3), "epoch": EPOCHS, "species": list("xyz")}
    return xr.Dataset(made, coords, attrs={"classes": 4})


def lose(results, arm, seed):
    results["diverged"].loc[{"arm": arm, "seed": seed}] = True
    return results


def test_the_time_of_a_crossing_is_the_first_evaluation_there(results):
    time = Reading("epoch", when=REACHED)
    assert read(results, time, "fast").tolist() == [5, 15, math.inf]
    assert read(results, time, "slow").tolist() == [10, math.inf, math.inf]
    falling = Reading("epoch", when=Crossing("train_loss", 1.0, direction=-1))
    assert read(results, falling, "fast").tolist() == [5, 10, 15]


def test_a_level_is_reached_by_what_float32_keeps_of_it(results):
    results["train_accuracy"].loc[{"arm": "fast", "seed": 0, "epoch": 5.0}] = np.float32(0.9)
    assert float(np.float32(0.9)) < 0.9
    reached = Crossing("train_accuracy", 0.9)
    assert read(results, Reading("epoch", when=reached), "fast")[0] == 5


def test_a_time_is_censored_where_the_run_diverged_or_never_came_so_far(results):
    """Whatever it had reached before; of both censored nothing is known, one alone is infinite."""
    later = Contrast(Reading("epoch", when=REACHED), "slow", "fast", 1, 1.0)
    found = pairs(results, later)
    np.testing.assert_array_equal(found.differences, [5, math.inf, np.nan])
    assert found.open.tolist() == [False, False, True]
    assert found.ordinal
    assert not found.missing
    lost = pairs(lose(results, "fast", 0), later).differences
    np.testing.assert_array_equal(lost, [-math.inf, math.inf, np.nan])


def test_a_time_was_not_measured_where_its_metric_was_not(results):
    results["train_accuracy"].loc[{"arm": "fast", "seed": 1}] = np.nan
    assert np.isnan(read(results, Reading("epoch", when=REACHED), "fast")).tolist() == [0, 1, 0]


def test_a_level_is_read_at_the_crossing_and_not_measured_where_there_is_none(results):
    loss = read(results, Reading("train_loss", when=REACHED), "fast")
    np.testing.assert_array_equal(loss, [1.0, 0.5, np.nan])
    at_chance = read(lose(results, "fast", 0), Reading("train_accuracy", when=REACHED), "fast")
    np.testing.assert_array_equal(at_chance, [0.25, 0.75, np.nan])


def test_without_an_epoch_the_arms_last_evaluation_is_read_and_no_earlier_one(results):
    """An arm may be shorter than the others; a metric without a number at its end has none."""
    short = {"arm": "fast", "epoch": 15.0}
    for metric in ("train_loss", "train_accuracy"):
        results[metric].loc[short] = np.nan
    assert read(results, Reading("train_loss"), "fast").tolist() == [0.5, 1, 2]
    results["train_loss"].loc[{"arm": "fast", "epoch": 10.0}] = np.nan
    assert np.isnan(read(results, Reading("train_loss"), "fast")).all()
    assert read(results, Reading("train_loss", epoch=5.0), "fast").tolist() == [1, 2, 4]


def test_a_scale_is_taken_before_anything_is_subtracted(results):
    np.testing.assert_allclose(
        read(results, Reading("train_loss", scale="log2"), "fast"), [-2, -1, 0]
    )
    gain = Reading("train_loss", since=0, scale="log2")
    np.testing.assert_allclose(read(results, gain, "slow"), [-3, -3, -3])
    logit = Reading("train_accuracy", scale="logit")
    np.testing.assert_allclose(read(results, logit, "fast"), special.logit([0.9, 0.75, 0.6]))
    ratio = Contrast(Reading("train_loss", scale="log2"), "slow", "fast", 1, 0.3)
    np.testing.assert_allclose(pairs(results, ratio).differences, [1, 1, 1])


def test_a_diverged_run_is_at_chance_on_the_logit_scale(results):
    logit = Reading("train_accuracy", scale="logit")
    assert read(lose(results, "fast", 1), logit, "fast")[1] == pytest.approx(special.logit(0.25))
    gain = Reading("train_accuracy", since=0, scale="logit")
    assert read(results, gain, "fast")[1] == 0


def test_the_loss_of_a_diverged_run_is_infinite_and_its_gain_0(results):
    """Whatever its frozen network reads; of two of them nothing is known."""
    lost = lose(lose(results, "fast", 1), "slow", 1)
    for scale in ("plain", "log2", "guess"):
        assert read(lost, Reading("train_loss", scale=scale), "fast")[1] == math.inf
        assert read(lost, Reading("train_loss", since=0, scale=scale), "fast")[1] == 0
    higher = Contrast(Reading("train_loss", scale="log2"), "slow", "fast", 1, 0.3)
    np.testing.assert_allclose(pairs(lost, higher).differences, [1, np.nan, 1])
    found = pairs(lose(lost, "slow", 0), higher)
    np.testing.assert_allclose(found.differences, [math.inf, np.nan, 1])


def test_what_a_scale_makes_infinite_in_both_is_alike(results):
    results["train_accuracy"].loc[{"epoch": 15.0, "seed": 0}] = 1.0
    results["train_loss"].loc[{"epoch": 15.0, "seed": 0}] = 0.0
    for metric, scale in (("train_accuracy", "logit"), ("train_loss", "log2")):
        found = pairs(results, Contrast(Reading(metric, scale=scale), "slow", "fast", 1, 0.3))
        assert found.differences[0] == 0
        assert not found.open.any()


def test_another_reading_of_the_same_run_is_subtracted(results):
    gap = Reading("train_accuracy", minus=Reading("train_accuracy", epoch=5))
    np.testing.assert_allclose(read(results, gap, "fast"), [0.1, 0.25, 0.2])
    assert gap.label == "train_accuracy, minus train_accuracy, at epoch 5"
    assert [part.epoch for part in gap.parts] == [None, 5]


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (Reading("test_auc_of", without="y"), [0.1, 0.4, 0.7]),
        (Reading("test_auc_of", without="#1"), [0.15, 0.45, 0.75]),
        (Reading("test_auc_of", species="#3"), [0.2, 0.5, 0.8]),
        (Reading("test_auc_of", species="z"), [0.2, 0.5, 0.8]),
    ],
    ids=lambda value: value.label if isinstance(value, Reading) else "",
)
def test_species_by_number_and_left_out(results, reading, expected):
    np.testing.assert_allclose(read(results, reading, "fast"), expected)


def test_instability_is_the_noise_about_a_smooth_course():
    """A parabola of the log has a small constant bend; white noise is measured as it is."""
    rng, seeds, epochs = np.random.default_rng(0), 200, np.arange(60.0)
    log2 = -0.1 * epochs + 0.2 * rng.normal(size=(1, seeds, 60))
    made = {
        "loss": (("arm", "seed", "epoch"), 2.0**log2),
        "diverged": (("arm", "seed"), np.zeros((1, seeds), bool)),
    }
    results = xr.Dataset(made, {"arm": ["a"], "seed": range(seeds), "epoch": epochs})
    results.attrs["classes"] = 2
    found = read(results, Reading("loss", since=20, statistic="instability"), "a")
    assert np.mean(found**2) ** 0.5 == pytest.approx(0.2, rel=0.02)
    bends = log2[0, :, 22:] - 2 * log2[0, :, 21:-1] + log2[0, :, 20:-2]
    np.testing.assert_allclose(found, np.sqrt(np.mean(bends**2, axis=1) / 6))


def test_instability_of_a_diverged_run_is_infinite_and_of_two_points_none(results):
    wild = Reading("train_loss", statistic="instability")
    assert read(lose(results, "fast", 2), wild, "fast").tolist() == [0, 0, math.inf]
    gone = lose(results, "fast", 2)
    gone["train_loss"] = gone["train_loss"].where(gone["arm"] != "fast")
    np.testing.assert_array_equal(read(gone, wild, "fast"), [math.nan, math.nan, math.inf])
    short = Reading("train_loss", since=10, statistic="instability")
    np.testing.assert_array_equal(read(results, short, "fast"), [math.nan, math.nan, math.inf])
    assert np.isnan(read(results, short, "slow")).all()
    assert wild.label == "train_loss, instability"
    assert short.label == "train_loss, instability from epoch 10"


def test_labels_say_crossing_scale_and_what_is_left_out():
    full = Reading("flow", layer="c", when=REACHED, scale="log2", without="eel")
    assert full.label == "flow, when train_accuracy ≥ 0.75, layer c, without eel, in doublings"
    assert Reading("test_accuracy", scale="logit").label == "test_accuracy, in logits"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda _: Reading("epoch"), "read at a crossing"),
        (lambda _: Reading("flow", epoch=5, when=REACHED), "a level at no epoch"),
        (lambda _: Reading("flow", since=5, when=REACHED), "a level at no epoch"),
        (lambda _: Reading("flow", statistic="instability", when=REACHED), "a level at no epoch"),
        (lambda _: Reading("flow", scale="log10"), "scale=log10"),
        (lambda _: Reading("flow", statistic="mean"), "statistic=mean"),
        (lambda _: Reading("auc", species="x", without="y"), "no average over species"),
        (lambda _: Reading("flow", minus=Reading("flow", scale="log2")), "scales differ"),
        (lambda _: Crossing("train_loss", math.nan), "cannot cross"),
        (lambda _: Crossing("train_loss", 1.0, 0), "direction"),
        (lambda r: read(r, Reading("test_auc_of", species="#4"), "fast"), "species '#4'"),
        (lambda r: read(r, Reading("test_auc_of", species="#0"), "fast"), "species '#0'"),
        (lambda r: read(r, Reading("revival", when=REACHED), "fast"), "not at a crossing"),
        (lambda r: read(r, Reading("epoch", when=Crossing("revival", 1)), "fast"), "crosses"),
        (lambda r: read(r, Reading("revival", statistic="instability"), "fast"), "instability"),
        (lambda r: read(r, Reading("revival", without="x"), "fast"), "no species"),
    ],
)
def test_a_reading_without_sense_is_refused(make, words, results):
    with pytest.raises(UsageError, match=words):
        make(results)


def test_at_uneven_steps_an_instability_is_not_measured(results):
    uneven = results.isel(epoch=[0, 1, 3])
    assert np.isnan(read(uneven, Reading("train_loss", statistic="instability"), "fast")).all()


def test_at_an_epoch_without_a_number_at_any_seed_nothing_was_measured(results):
    """As the revival of units before one has died; an epoch that no arm has is refused."""
    results["train_loss"].loc[{"epoch": 5.0}] = np.nan
    assert np.isnan(read(results, Reading("train_loss", epoch=5), "fast")).all()
    assert np.isnan(read(results, Reading("train_loss", since=5), "fast")).all()
    with pytest.raises(UsageError, match="unknown epoch 7"):
        read(results, Reading("train_loss", epoch=7.0), "fast")
