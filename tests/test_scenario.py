"""Readings picked from results, scenarios held against their bounds, and the whole summary."""

import dataclasses
import json
import math

import numpy as np
import pytest
import xarray as xr

from fishjax.evidence import paired
from fishjax.evidence.declared import Declaration
from fishjax.evidence.effect import describe
from fishjax.evidence.pairs import pairs
from fishjax.evidence.plan import Claim, Contrast, Placebo, Plan, Reading, Scenario, Target
from fishjax.evidence.readings import diverged, read
from fishjax.evidence.scenario import margins, reproduce
from fishjax.evidence.summary import summarise
from fishjax.fields import UsageError

SEEDS = 8
COORDS = {
    "arm": ["relu", "leaky", "wide"],
    "seed": list(range(SEEDS)),
    "epoch": [0.0, 1.0, 5.0, 10.0],
    "layer": ["conv1", "conv2"],
    "species": ["cod", "eel", "ray"],
    "share": [0.0, 0.1, 0.5],
}
SIZES = {dim: len(values) for dim, values in COORDS.items()}
EVALUATED = np.array([True, False, True, True])


def numbered(*dims):
    """A variable of which every entry differs: digit k of a value is its index along dim k."""
    index = np.indices([SIZES[dim] for dim in dims])
    return xr.Variable(dims, sum(grid / 10.0 ** (k + 1) for k, grid in enumerate(index)))


@pytest.fixture
def results():
    scores = numbered("arm", "seed", "epoch")
    evaluated = xr.Variable("epoch", EVALUATED)
    made = {
        "test_accuracy": scores.where(evaluated),
        "train_loss": 1 + scores,
        "test_auc": scores.where(evaluated),
        "test_auc_of": numbered("arm", "seed", "epoch", "species").where(evaluated),
        "dead_share": numbered("arm", "seed", "epoch", "layer").where(evaluated),
        "blocked_gradient": numbered("arm", "seed", "epoch", "share").where(evaluated),
        "revival": numbered("arm", "seed"),
        "by_step": xr.Variable(("arm", "seed", "step"), np.zeros((3, SEEDS, 2))),
        "diverged": xr.Variable(("arm", "seed"), np.zeros((3, SEEDS), bool)),
        "diverged_step": xr.Variable(("arm", "seed"), np.full((3, SEEDS), -1)),
    }
    return xr.Dataset(made, COORDS, attrs={"classes": 5})


def lose(results, arm, seed):
    results["diverged"].loc[{"arm": arm, "seed": seed}] = True
    return results


BASE = 0.1 + np.arange(SEEDS) / 100


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (Reading("test_accuracy"), BASE + 0.003),
        (Reading("test_accuracy", epoch=5), BASE + 0.002),
        (Reading("train_loss", epoch=1), 1 + BASE + 0.001),
        (Reading("test_accuracy", since=0), np.full(SEEDS, 0.003)),
        (Reading("test_accuracy", epoch=10, since=5), np.full(SEEDS, 0.001)),
        (Reading("test_accuracy", epoch=60), np.full(SEEDS, np.nan)),
        (Reading("test_accuracy", since=60), np.full(SEEDS, np.nan)),
        (Reading("dead_share"), BASE + 0.003 + 0.00005),
        (Reading("dead_share", layer="conv2"), BASE + 0.003 + 0.0001),
        (Reading("test_auc_of", species="ray"), BASE + 0.003 + 0.0002),
        (Reading("test_auc_of"), BASE + 0.003 + 0.0001),
        (Reading("test_auc_of", statistic="least"), BASE + 0.003),
        (Reading("test_auc_of", without="#1", statistic="least"), BASE + 0.003 + 0.0001),
        (Reading("blocked_gradient", share=0.5, epoch=0), BASE + 0.0002),
        (Reading("revival"), BASE),
    ],
    ids=lambda value: value.label if isinstance(value, Reading) else "",
)
def test_a_reading_picks_its_entry(results, reading, expected):
    np.testing.assert_allclose(read(results, reading, "leaky"), expected, atol=1e-12)


def test_labels_say_what_is_read():
    assert Reading("test_accuracy", since=50).label == "test_accuracy, gain since epoch 50"
    full = Reading("flow", epoch=5, layer="conv1", share=0.5, species="eel")
    assert full.label == "flow, at epoch 5, layer conv1, share 0.5, species eel"


def test_a_layer_that_an_arm_lacks_is_left_out_of_its_mean(results):
    results["dead_share"].loc[{"arm": "leaky", "layer": "conv2"}] = np.nan
    np.testing.assert_allclose(read(results, Reading("dead_share"), "leaky"), BASE + 0.003)
    assert np.isnan(read(results, Reading("dead_share", layer="conv2"), "leaky")).all()


def test_the_last_evaluation_is_the_arms_own(results):
    for values in results.data_vars.values():
        if {"arm", "epoch"} <= set(values.dims):
            values.loc[{"arm": "leaky", "epoch": slice(10.0, None)}] = np.nan
    np.testing.assert_allclose(read(results, Reading("test_accuracy"), "leaky"), BASE + 0.002)


@pytest.mark.parametrize(
    ("reading", "arm", "words"),
    [
        (Reading("test_acuracy"), "relu", "metric 'test_acuracy'.*'test_accuracy'"),
        (Reading("test_accuracy"), "leeky", "arm 'leeky'.*'leaky'"),
        (Reading("dead_share", layer="conv3"), "relu", "layer 'conv3' of dead_share.*'conv2'"),
        (Reading("test_auc_of", species="cot"), "relu", "species 'cot'.*'cod'"),
        (Reading("blocked_gradient", share=0.4), "relu", "share 0.4.*nearest is 0.5"),
        (Reading("test_accuracy", epoch=2), "relu", "epoch 2 of.*nearest is 1"),
        (Reading("test_accuracy", since=6), "relu", "epoch 6 of.*nearest is 5"),
        (Reading("test_accuracy", layer="conv1"), "relu", "test_accuracy has no layer"),
        (Reading("revival", epoch=5), "relu", "once a run"),
        (Reading("by_step"), "relu", "cannot choose along step"),
    ],
)
def test_what_the_results_do_not_have_is_named(results, reading, arm, words):
    with pytest.raises(UsageError, match=words):
        read(results, reading, arm)


@pytest.mark.parametrize(
    ("reading", "value"),
    [
        (Reading("test_accuracy"), 0.2),
        (Reading("test_accuracy", epoch=5), 0.2),
        (Reading("test_accuracy", since=5), 0.0),
        (Reading("test_auc"), 0.5),
        (Reading("test_auc_of", species="eel"), 0.5),
        (Reading("train_loss"), math.inf),
        (Reading("dead_share", layer="conv1"), 0.133),
    ],
)
def test_a_diverged_run_reads_chance_infinite_loss_or_its_frozen_state(results, reading, value):
    before = read(results, reading, "leaky")
    after = read(lose(results, "leaky", 3), reading, "leaky")
    assert after[3] == pytest.approx(value)
    np.testing.assert_array_equal(np.delete(after, 3), np.delete(before, 3))


def test_a_diverged_run_is_at_chance_though_nothing_was_measured(results):
    results["test_auc"].loc[{"arm": "leaky", "seed": 3}] = np.nan
    assert read(lose(results, "leaky", 3), Reading("test_auc"), "leaky")[3] == 0.5


def test_a_run_without_a_record_did_not_diverge(results):
    results["diverged"] = results["diverged"].astype(object)
    results["diverged"].loc[{"arm": "leaky", "seed": 3}] = np.nan
    assert not diverged(results, "leaky").any()


def test_pairs_average_arms_within_a_seed_and_tell_either_side_diverged(results):
    both = Contrast(Reading("revival"), ("leaky", "wide"), "relu", 1, 0.02)
    found = pairs(lose(lose(results, "wide", 1), "relu", 4), both)
    np.testing.assert_allclose(found.differences, 0.15)
    assert np.flatnonzero(found.diverged).tolist() == [1, 4]
    one = pairs(results, Contrast(Reading("revival"), "leaky", 0.05, 1, 0.02))
    np.testing.assert_allclose(one.differences, BASE - 0.05)


def test_two_infinite_readings_differ_by_nothing_and_a_gap_is_named(results):
    results["revival"][:, 2] = -math.inf
    results["revival"][1, 6] = np.nan
    found = pairs(results, Contrast(Reading("revival"), "leaky", "relu", 1, 0.02))
    assert found.differences[2] == 0
    assert found.missing == (6,)


def test_describe_uses_only_finite_values_and_bounds_from_six_on():
    values = np.array([1.0, 2.0, 4.0, np.nan, np.inf, 3.0, 5.0])
    assert describe(values) == {"n": 5, "mean": 3.0, "sd": pytest.approx(2.5**0.5), "ci": None}
    six = np.array([1.0, 2.0, 4.0, 3.0, 5.0, 9.0])
    assert describe(six)["ci"] == list(paired.sign_flip_interval(six, 0.05))
    assert describe(np.array([np.nan])) == {"n": 0, "mean": None, "sd": None, "ci": None}
    assert describe(np.array([2.0])) == {"n": 1, "mean": 2.0, "sd": None, "ci": None}


def target(low=-math.inf, high=math.inf, metric="revival", control="relu"):
    return Target("gap", "62 %", Reading(metric), "leaky", control, low, high)


@pytest.mark.parametrize(
    ("low", "high", "reproduced"),
    [
        (0.05, 0.15, True),
        (0.1, 0.15, True),
        (0.05, 0.1, True),
        (-math.inf, 0.2, True),
        (0.11, 0.2, False),
        (-math.inf, 0.09, False),
    ],
)
def test_a_scenario_is_reproduced_when_its_means_are_within_bounds(results, low, high, reproduced):
    found = reproduce(Scenario("S1", "text", (target(low, high),)), results)
    assert found["reproduced"] is reproduced
    assert found["measured"]["gap"]["mean"] == pytest.approx(0.1)
    assert found["target"]["gap"]["seed_figure"] == "62 %"
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("low", "high", "advice"),
    [(0.05, 0.15, ""), (0.11, 0.2, "raise it"), (-math.inf, 0.09, "lower it")],
)
def test_a_missed_target_says_which_knob_to_turn(results, low, high, advice):
    turned = dataclasses.replace(target(low, high), below="raise it", above="lower it")
    found = reproduce(Scenario("S1", "text", (turned,)), results)
    assert found["measured"]["gap"]["advice"] == advice
    results["revival"][:] = np.nan
    unmeasured = reproduce(Scenario("S1", "text", (turned,)), results)
    assert unmeasured["measured"]["gap"]["advice"] == ""


def test_a_mean_on_its_bound_holds_whatever_its_last_bit(results):
    on_bound = target(high=0.105, control=0.03)
    found = reproduce(Scenario("S1", "text", (on_bound,)), results)
    assert found["measured"]["gap"]["mean"] > 0.105
    assert found["reproduced"] is True


def test_one_target_missed_is_a_scenario_missed(results):
    other = Target("level", "high", Reading("revival"), "leaky", low=0.2)
    found = reproduce(Scenario("S1", "text", (target(0.05, 0.15), other)), results)
    assert [found["measured"][name]["within"] for name in ("gap", "level")] == [True, False]
    assert found["measured"]["level"]["mean"] == pytest.approx(BASE.mean())
    assert found["reproduced"] is False


def test_a_mean_over_less_than_all_seeds_reproduces_nothing(results):
    results["revival"][1, 6] = np.nan
    found = reproduce(Scenario("S1", "text", (target(0.05, 0.15),)), results)
    gap = found["measured"]["gap"]
    assert (gap["n"], gap["of"], found["reproduced"]) == (7, 8, False)


def test_a_mean_on_its_bound_is_no_further_within_than_one_inside(results):
    """To a millionth, so that the search does not take it before one that is well inside."""
    results["revival"][:] = np.float32(0.1)
    scenario = Scenario("S1", "text", (target(high=0.1, control=0.0),))
    found = reproduce(scenario, results)
    assert found["measured"]["gap"]["mean"] > 0.1
    assert found["reproduced"]
    assert margins(scenario, found["measured"]) == [0.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: target(0.2, 0.1),
        lambda: Scenario("S1", "text", ()),
        lambda: Scenario("S1", "text", (target(), target())),
    ],
)
def test_a_scenario_without_sense_is_refused(make):
    with pytest.raises(UsageError):
        make()


PLAN = Plan(
    Scenario("S3", "text", (target(0.05, 0.15),)),
    (
        Claim(
            "3.3",
            "text",
            "directional",
            Contrast(Reading("test_accuracy"), "leaky", "relu", 1, 0.02),
        ),
    ),
    (Placebo("order", "text", Contrast(Reading("test_auc"), "wide", "leaky", 1, 0.3)),),
)
DECLARED = Declaration(PLAN, {"revision": None, "modified": False})
ABOUT = {
    "study": "dying_relu",
    "data": {"spec": "reef", "hash": "00"},
    "scale": "laptop",
    "overrides": {"leaky": {"model.activation": "leaky_relu"}},
    "timing": {"total_s": 1.0},
}


def test_the_summary_holds_its_fixed_keys(results):
    summary = summarise(lose(results, "wide", 0), DECLARED, ABOUT)
    assert (summary["schema"], summary["study"], summary["scale"]) == (1, "dying_relu", "laptop")
    assert summary["seeds"] == list(range(SEEDS))
    assert "overrides" not in summary
    assert summary["data"] == ABOUT["data"]
    assert summary["timing"] == ABOUT["timing"]
    assert [arm["name"] for arm in summary["arms"]] == ["relu", "leaky", "wide"]
    assert [arm["n_diverged"] for arm in summary["arms"]] == [0, 0, 1]
    assert [arm["overrides"] for arm in summary["arms"]] == [{}, ABOUT["overrides"]["leaky"], {}]
    assert [claim["id"] for claim in summary["claims"]] == ["3.3"]
    assert [scenario["reproduced"] for scenario in summary["scenarios"]] == [True]
    assert [placebo["id"] for placebo in summary["placebos"]] == ["order"]


def test_the_summary_has_every_metric_with_one_number_a_run(results):
    leaky = summarise(results, DECLARED, ABOUT)["arms"][1]
    assert list(leaky["metrics"]) == [
        "dead_share",
        "test_accuracy",
        "test_auc",
        "train_loss",
    ]
    accuracy = BASE + 0.003
    found = leaky["metrics"]["test_accuracy"]
    assert found["mean"] == pytest.approx(accuracy.mean())
    assert found["sd"] == pytest.approx(accuracy.std(ddof=1))
    assert found["ci"] == pytest.approx(list(paired.sign_flip_interval(accuracy, 0.05)))


def test_the_summary_is_json_whatever_was_measured_and_always_the_same(results):
    results["train_loss"][0] = np.nan
    results["train_loss"][1] = np.inf
    results["dead_share"][:] = np.nan
    texts = {
        json.dumps(summarise(study, DECLARED, ABOUT), allow_nan=False)
        for study in (results, results[sorted(results, reverse=True)])
    }
    assert len(texts) == 1


def test_a_summary_of_two_seeds_has_no_intervals_and_no_verdict(results):
    summary = summarise(results.isel(seed=slice(2)), DECLARED, ABOUT)
    assert [claim["verdict"] for claim in summary["claims"]] == ["too few seeds"]
    assert all(m["ci"] is None for arm in summary["arms"] for m in arm["metrics"].values())
    json.dumps(summary, allow_nan=False)
