"""Weighted arms against hand-computed numbers; what a plan names; what it refuses."""

import numpy as np
import pytest
import xarray as xr

from fishjax.evidence.contrast import Contrast, Reading, Requirement, Weighted, interaction, slope
from fishjax.evidence.pairs import pairs
from fishjax.evidence.plan import Claim, Plan
from fishjax.fields import UsageError

SCORE = Reading("score")
CELLS = {
    "000": [0.5, 0.6],
    "100": [0.4, 0.6],
    "010": [0.9, 0.7],
    "110": [0.3, 0.1],
    "001": [0.5, 0.5],
    "101": [0.4, 0.5],
    "011": [0.8, 0.6],
    "111": [0.2, 0.0],
}
"""A 2 x 2 x 2 factorial at two seeds."""


@pytest.fixture
def results():
    values = np.array(list(CELLS.values()))
    made = {"score": (("arm", "seed"), values), "diverged": (("arm", "seed"), values < 0)}
    return xr.Dataset(made, {"arm": list(CELLS), "seed": [0, 1]}, attrs={"classes": 2})


def differences(results, arm, control=0.0):
    return pairs(results, Contrast(SCORE, arm, control, 1, 0.02)).differences


def level(factor, value):
    return tuple(arm for arm in CELLS if arm[factor] == value)


@pytest.mark.parametrize(
    ("factor", "effect"),
    [(0, [1.3 - 2.7, 1.2 - 2.4]), (1, [2.2 - 1.8, 1.4 - 2.2]), (2, [1.9 - 2.1, 1.6 - 2.0])],
)
def test_a_main_effect_is_a_difference_of_means(results, factor, effect):
    found = differences(results, level(factor, "1"), level(factor, "0"))
    np.testing.assert_allclose(found, np.array(effect) / 4, atol=1e-12)


def test_an_interaction_is_a_difference_of_differences(results):
    both = interaction("110", "010", "100", "000")
    np.testing.assert_allclose(differences(results, both), [-0.6 + 0.1, -0.6 - 0.0])
    assert both.words == "(110 − 010) − (100 − 000)"


def test_a_slope_is_least_squares(results):
    arms, values = ("000", "100", "010", "110"), (1.0, 2.0, 3.0, 5.0)
    y = np.array([CELLS[arm] for arm in arms])
    np.testing.assert_allclose(
        differences(results, slope(arms, values)), np.polyfit(values, y, 1)[0]
    )


def test_an_arm_in_the_middle_of_a_slope_has_no_weight(results):
    line = slope(("000", "010", "110"), (0.0, 1.0, 2.0))
    assert dict(line.weights) == {"000": -0.5, "110": 0.5}
    np.testing.assert_allclose(differences(results, line), [-0.1, -0.25])


def test_a_weighted_control_is_subtracted(results):
    half = Weighted("half", (("000", 0.5),))
    np.testing.assert_allclose(differences(results, "100", half), [0.15, 0.3])


def test_a_diverged_arm_counts_wherever_it_is_weighted(results):
    results["diverged"].loc[{"arm": "000", "seed": 1}] = True
    found = pairs(results, Contrast(SCORE, interaction("110", "010", "100", "000"), 0.0, 1, 0.02))
    assert found.diverged.tolist() == [False, True]


def test_a_plan_names_what_its_parts_name():
    both = interaction("a", "b", "c", "d")
    late = Reading("auc_of", epoch=7, species="cod", minus=Reading("auc_of", since=3, without="#2"))
    claim = Claim(
        "1",
        "text",
        "directional",
        Contrast(SCORE, both, 0.0, 1, 0.02),
        also=(Requirement(Contrast(SCORE, "e", "f", 1, 0.02), "stays"),),
        premise=(Requirement(Contrast(late, "g", 0.5, 1, 0.02), "exceeds"),),
    )
    plan = Plan(None, (claim,))
    assert plan.arms == set("abcdefg")
    assert [len([*contrast.reading.parts]) for contrast in plan.contrasts] == [1, 1, 2]


def contrast(**changes):
    return Contrast(
        **{"reading": SCORE, "arm": "a", "control": "b", "direction": 1, "delta": 0.1, **changes}
    )


def claim(**changes):
    return Claim(**{"id": "1", "text": "", "kind": "directional", "outcome": contrast(), **changes})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Weighted("none", ()), "there is one"),
        (lambda: Weighted("twice", (("a", 1.0), ("a", -1.0))), "has one weight"),
        (lambda: interaction("a", "b", "a", "c"), "has one weight"),
        (lambda: Weighted("zero", (("a", 0.0),)), "not 0"),
        (lambda: Weighted("endless", (("a", float("inf")),)), "finite"),
        (lambda: slope(("a", "b"), (1.0,)), "slope"),
        (lambda: slope(("a", "b"), (1.0, 1.0)), "slope"),
        (lambda: contrast(control=float("nan")), "control is finite"),
        (lambda: Requirement(contrast(), "falls"), "'falls' was expected"),
        (lambda: claim(outcome=(contrast(),)), "one contrast"),
        (lambda: claim(kind="existential"), "tuple of contrasts"),
        (lambda: claim(kind="existential", outcome=()), "tuple of contrasts"),
        (
            lambda: claim(kind="existential", outcome=(contrast(),) * 2, mechanism=(contrast(),)),
            "aligned",
        ),
        (
            lambda: claim(kind="existential", outcome=(contrast(),), mechanism=contrast()),
            "aligned",
        ),
        (lambda: claim(mechanism=(contrast(),)), "aligned"),
    ],
)
def test_a_comparison_without_sense_is_refused(make, words):
    with pytest.raises(UsageError, match=words):
        make()
