"""A declared plan goes to JSON and back, and another one is reported with both versions."""

import dataclasses
import json

import numpy as np
import pytest
from studies import made_up_results

from fishjax.evidence.declared import Declaration, as_json
from fishjax.evidence.plan import (
    Claim,
    Contrast,
    Crossing,
    Placebo,
    Plan,
    Reading,
    Requirement,
    Scenario,
    Target,
    interaction,
)
from fishjax.evidence.summary import summarise
from fishjax.fields import UsageError

ACCURACY = Contrast(Reading("val_accuracy"), "leaky", "relu", 1, 0.02)
TIME = Reading("epoch", when=Crossing("val_accuracy", 0.5), scale="log2")
FULL = Plan(
    Scenario("S0", "it learns", (Target("loss", "low", Reading("train_loss"), "relu", high=2.0),)),
    (
        Claim(
            "1",
            "text",
            "directional",
            dataclasses.replace(ACCURACY, reading=TIME),
            mechanism=Requirement(ACCURACY, "stays"),
            also=(Requirement(ACCURACY, "exceeds"),),
            premise=(Requirement(ACCURACY),),
            part="a",
        ),
        Claim("2", "text", "existential", (ACCURACY, ACCURACY), (ACCURACY, Requirement(ACCURACY))),
        Claim(
            "3",
            "text",
            "no_effect",
            dataclasses.replace(
                ACCURACY, arm=interaction("relu", "leaky", "wide", "deep"), control=0.0
            ),
        ),
    ),
    (Placebo("order", "text", dataclasses.replace(ACCURACY, arm=("leaky", "wide"))),),
)
FIRST, LATER = {"revision": "abc", "modified": False}, {"revision": "def", "modified": True}
PLAN = Plan(
    None, (Claim("1", "text", "directional", ACCURACY), Claim("2", "t", "no_effect", ACCURACY))
)
ABOUT = {"study": "tiny", "overrides": {}}


def through_json(declaration):
    return Declaration.from_json(json.loads(json.dumps(declaration.as_json(), allow_nan=False)))


def test_a_plan_comes_back_from_json_as_it_was():
    back = through_json(Declaration(FULL, FIRST))
    assert back == Declaration(FULL, FIRST)
    assert back.differs(FULL) == []


def test_a_field_at_its_default_is_not_written():
    assert as_json(Reading("flow", layer="c")) == {"is": "Reading", "metric": "flow", "layer": "c"}


def test_what_differs_is_named_part_by_part():
    first, second, third = FULL.claims
    assert FULL.scenario
    other = Plan(
        dataclasses.replace(FULL.scenario, text="it does not"),
        (dataclasses.replace(first, note="new"), third, Claim("4", "t", "directional", ACCURACY)),
        (dataclasses.replace(FULL.placebos[0], id="another"),),
    )
    assert Declaration(FULL, FIRST).differs(other) == [
        "scenario S0",
        "claim 1 (a)",
        "claim 2",
        "placebo order",
        "claim 4",
        "placebo another",
    ]
    assert second.id == "2"


@pytest.mark.parametrize(
    "told",
    [
        {},
        [],
        {"plan": {"is": "Vow"}, "code": {}},
        {"plan": {"is": "Plan", "oath": 1}, "code": {}},
        {"plan": {"is": "Crossing", "metric": "m", "level": 1, "direction": 2}, "code": {}},
    ],
)
def test_a_plan_that_cannot_be_read_is_named(told):
    with pytest.raises(UsageError, match="pinned by the first start cannot be read"):
        Declaration.from_json(told)


@pytest.fixture
def results():
    return made_up_results(seeds=8).assign_attrs(classes=4)


def test_the_same_plan_is_no_change(results):
    summary = summarise(
        results, Declaration(PLAN, LATER), ABOUT, through_json(Declaration(PLAN, FIRST))
    )
    assert summary["plan_changed"] is None
    assert summary == summarise(results, Declaration(PLAN, LATER), ABOUT)


def test_a_changed_plan_is_judged_in_both_versions(results):
    """A wider margin and one claim less: other intervals, other verdicts, both kept."""
    results["val_accuracy"][1] = results["val_accuracy"][0] + 0.01 + 1e-4 * np.arange(8)[:, None]
    wide = dataclasses.replace(PLAN.claims[0], outcome=dataclasses.replace(ACCURACY, delta=0.005))
    present = Declaration(Plan(None, (wide,)), LATER)
    summary = summarise(results, present, ABOUT, through_json(Declaration(PLAN, FIRST)))
    changed = summary["plan_changed"]
    assert changed["differs"] == ["claim 1", "claim 2"]
    assert (changed["pinned"], changed["present"], changed["error"]) == (FIRST, LATER, "")
    assert [(c["id"], c["verdict"], c["m"]) for c in changed["claims"]] == [
        ("1", "refuted", 2),
        ("2", "supported", 2),
    ]
    assert [(c["verdict"], c["m"]) for c in summary["claims"]] == [("supported", 1)]
    json.dumps(summary, allow_nan=False)


def test_a_pinned_plan_that_cannot_be_judged_says_why(results):
    """As where a metric was mistyped at first: the study is not lost for it."""
    typo = dataclasses.replace(ACCURACY, reading=Reading("val_acuracy"))
    pinned = Declaration(Plan(None, (Claim("1", "text", "directional", typo),)), FIRST)
    changed = summarise(results, Declaration(PLAN, LATER), ABOUT, pinned)["plan_changed"]
    assert changed["claims"] == []
    assert "val_acuracy" in changed["error"]
