"""DeLong's interval against a double loop, a bootstrap, coverage, and what cannot be said."""

import math

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from sklearn.metrics import roc_auc_score

from fishjax.evidence.auc import (
    FEWEST,
    ON_TEST,
    by_species,
    delong,
    leave_out,
    placements,
    too_rare,
)
from fishjax.evidence.contrast import Reading
from fishjax.evidence.readings import read


def draw(rng, positives, negatives, distance=1.0, ties=False):
    score = np.concatenate([rng.normal(distance, 1.0, positives), rng.normal(size=negatives)])
    score = np.round(score) if ties else score
    return score, np.arange(len(score)) < positives


@pytest.mark.parametrize("ties", [False, True])
def test_placements_equal_the_double_loop(ties):
    score, positive = draw(np.random.default_rng(0), 23, 31, ties=ties)
    x, y = score[positive], score[~positive]
    wins = np.array([[(a > b) + 0.5 * (a == b) for b in y] for a in x])
    below, above = placements(x, y)
    np.testing.assert_allclose(below, wins.mean(1), atol=1e-12)
    np.testing.assert_allclose(above, wins.mean(0), atol=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_the_interval_equals_its_definition_written_out(ties):
    score, positive = draw(np.random.default_rng(1), 40, 25, ties=ties)
    x, y = score[positive], score[~positive]
    psi = np.array([[(a > b) + 0.5 * (a == b) for b in y] for a in x])
    auc = psi.mean()
    s10 = ((psi.mean(1) - auc) ** 2).sum() / (len(x) - 1)
    s01 = ((psi.mean(0) - auc) ** 2).sum() / (len(y) - 1)
    a, b = s10 / len(x), s01 / len(y)
    freedom = (a + b) ** 2 / (a**2 / (len(x) - 1) + b**2 / (len(y) - 1))
    half = stats.t.ppf(0.975, freedom) * np.sqrt(a + b) / (auc * (1 - auc))
    logit = np.log(auc / (1 - auc))
    got = delong(score, positive)
    assert got.auc == pytest.approx(roc_auc_score(positive, score), abs=1e-12)
    ends = 1 / (1 + np.exp(-(logit + np.array([-half, half]))))
    assert [got.low, got.high] == pytest.approx(list(ends), abs=1e-12)


def test_an_interval_that_ends_at_one_half_is_the_brunner_munzel_test_at_its_level():
    """SciPy's test has the same variance and degrees of freedom, without the logit."""
    score, positive = draw(np.random.default_rng(5), 14, 33)
    x, y = score[positive], score[~positive]
    level = 1 - stats.brunnermunzel(y, x).pvalue
    got = delong(score, positive, level)
    logit = np.log(got.auc / (1 - got.auc))
    half = logit - np.log(got.low / (1 - got.low))
    assert half * got.auc * (1 - got.auc) == pytest.approx(got.auc - 0.5, abs=1e-9)


def test_the_interval_is_near_the_bootstraps():
    rng = np.random.default_rng(2)
    score, positive = draw(rng, 150, 300)
    x, y = score[positive], score[~positive]
    means = []
    for _ in range(2000):
        a, b = rng.choice(x, len(x)), rng.choice(y, len(y))
        means.append(placements(a, b)[0].mean())
    got = delong(score, positive)
    assert [got.low, got.high] == pytest.approx(list(np.quantile(means, [0.025, 0.975])), abs=0.006)


@pytest.mark.parametrize(("positives", "distance"), [(12, 0.2), (20, 2.0), (60, 1.0)])
def test_the_interval_covers_the_truth_as_often_as_it_says(positives, distance):
    rng = np.random.default_rng(3)
    truth = stats.norm.cdf(distance / np.sqrt(2))
    intervals = [delong(*draw(rng, positives, 100, distance)) for _ in range(1500)]
    covered = np.mean([i.low <= truth <= i.high for i in intervals])
    assert 0.93 <= covered <= 0.975


def test_a_perfect_auc_has_an_interval_that_narrows_with_the_images():
    ends = []
    for count in (2, 20, 200):
        got = delong(np.arange(2.0 * count), np.arange(2 * count) >= count)
        assert got.auc == got.high == 1.0
        ends.append(got.low)
    assert ends == sorted(ends)
    assert 0.2 < ends[0] < 0.7
    mirrored = delong(-np.arange(4.0), np.arange(4) >= 2)
    assert mirrored.low == 0.0
    assert mirrored.high == pytest.approx(1.0 - ends[0])


def test_a_single_positive_still_has_an_interval():
    got = delong(np.arange(11.0), np.arange(11) == 7)
    assert got.auc == pytest.approx(0.7)
    assert 0.0 < got.low < 0.7 < got.high < 1.0


def test_an_absent_species_and_a_nan_have_none():
    absent = delong(np.arange(4.0), np.zeros(4, bool))
    lost = delong(np.array([0.0, np.nan, 1.0]), np.array([True, False, True]))
    assert np.isnan([*absent, *lost]).all()


def test_every_species_has_a_row():
    rng = np.random.default_rng(4)
    logits, labels = rng.normal(size=(50, 3)), rng.integers(0, 2, 50)
    frame = pd.DataFrame({"label": labels} | {f"logit_{k}": logits[:, k] for k in range(3)})
    table = by_species(frame, ["a", "b", "c"])
    assert table["species"].tolist() == ["a", "b", "c"]
    assert table["images"].tolist() == [(labels == k).sum() for k in range(3)]
    for k in (0, 1):
        assert table["auc"][k] == pytest.approx(roc_auc_score(labels == k, logits[:, k]))
    assert table.loc[2, ["auc", "low", "high"]].isna().all()


def test_scores_that_are_all_equal_have_an_interval_around_a_half():
    found = delong(np.zeros(30), np.arange(30) < 10)
    assert found.auc == 0.5
    assert 0.2 < found.low < 0.5 < found.high < 0.8


def predictions(*counts):
    """Made-up logits of so many test images of each species."""
    labels = np.repeat(np.arange(len(counts)), counts)
    logits = np.random.default_rng(6).normal(size=(len(labels), len(counts)))
    return pd.DataFrame({"label": labels} | {f"logit_{k}": x for k, x in enumerate(logits.T)})


def test_a_species_with_too_few_images_has_no_auc_and_is_named_with_the_fewest():
    runs = [predictions(FEWEST, FEWEST - 2, 40), predictions(FEWEST + 3, FEWEST - 1, 40)]
    tables = pd.concat([by_species(run, ["cod", "eel", "ray"]) for run in runs])
    assert tables["auc"].isna().tolist() == [False, True, False] * 2
    assert too_rare(tables) == {"eel": FEWEST - 2}


@pytest.mark.parametrize(("images", "narrow"), [(FEWEST, True), (FEWEST - 1, False)])
def test_fewest_is_where_the_interval_is_half_of_what_it_could_be(images, narrow):
    rng, distance = np.random.default_rng(7), math.sqrt(2) * stats.norm.ppf(0.55)
    ends = [delong(*draw(rng, images, 200, distance)) for _ in range(400)]
    assert (np.mean([end.high - end.low for end in ends]) <= 0.5) == narrow


def test_species_left_out_are_not_measured_and_not_averaged():
    auc = np.array([[[0.9, 0.5, 0.7]], [[0.8, np.nan, 0.6]]])
    made = {"test_auc_of": (("arm", "seed", "species"), auc)}
    results = xr.Dataset(made, {"species": ["cod", "eel", "ray"]}, attrs={"classes": 3})
    results["test_auc"] = results["test_auc_of"].mean("species")
    kept = leave_out(results, ["cod"])
    np.testing.assert_allclose(kept["test_auc"].values, [[0.6], [0.6]])
    assert kept["test_auc_of"].isnull().values[..., 0].all()
    assert kept.attrs == results.attrs
    assert leave_out(results, []) is results


def test_species_are_left_out_of_probes_on_test_images_too_and_of_diverged_runs():
    made = {
        f"{name}_of": (("arm", "seed", "epoch", "species"), np.full((2, 1, 1, 3), 0.9))
        for name in ON_TEST
    }
    lost = {"diverged": (("arm", "seed"), np.array([[False], [True]]))}
    coords = {"arm": ["a", "b"], "seed": [0], "epoch": [1.0], "species": ["cod", "eel", "ray"]}
    kept = leave_out(xr.Dataset({**made, **lost}, coords, attrs={"classes": 3}), ["cod"])
    for name in made:
        for arm, chance in (("a", 0.9), ("b", 0.5)):
            assert np.isnan(read(kept, Reading(name, species="cod"), arm)).all()
            assert read(kept, Reading(name, species="eel"), arm) == [chance]
