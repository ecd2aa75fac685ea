"""The capacity study: its factorial, and at smoke scale on both sources."""

import json

import pytest

from experiments.capacity import CHANGES, CLAIMS, CORNERS, STUDY
from fishjax.evidence.contrast import arms_of
from tests.commands import run_study

IDS = ("S5", "5.1", "5.2", "5.3", "5.4")
ERRORS = {
    "too many parameters": lambda changes: "model.widths" in changes,
    "no dropout": lambda changes: "hyper.dropout" not in changes,
    "bad initialisation": lambda changes: "hyper.init_gain" in changes,
}


@pytest.mark.parametrize("part", ERRORS)
def test_a_main_effect_compares_the_corners_with_an_error_and_those_without(part):
    (outcome,) = (outcome for claim in CLAIMS if claim.part == part for outcome in claim.outcomes)
    having, lacking = arms_of(outcome.arm), arms_of(outcome.control)
    assert sorted((*having, *lacking)) == sorted(CORNERS)
    assert all(ERRORS[part](CHANGES[arm]) for arm in having)
    assert not any(ERRORS[part](CHANGES[arm]) for arm in lacking)


def test_the_corners_are_all_eight():
    errors = {tuple(has(changes) for has in ERRORS.values()) for changes in CORNERS.values()}
    assert len(errors) == len(CORNERS) == 8


def test_the_study_runs_at_smoke_scale_on_reef(tmp_path, capfd):
    assert run_study(STUDY, "--scale", "smoke", "--out", str(tmp_path / "out")) == 0
    printed = capfd.readouterr().out
    assert all(id in printed for id in IDS)
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert {claim["verdict"] for claim in summary["claims"]} == {"too few seeds", "by construction"}


def test_the_study_runs_at_smoke_scale_on_photographs(photographs, tmp_path, capfd):
    options = ("--scale", "smoke", "--data", f"f4k:{photographs}", "--out", str(tmp_path / "out"))
    assert run_study(STUDY, *options) == 0
    printed = capfd.readouterr().out
    assert all(id in printed for id in IDS)
