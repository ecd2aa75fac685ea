"""The capacity study: its factorial."""

import pytest

from experiments.capacity import CLAIMS
from experiments.capacity_arms import CHANGES, CORNERS
from fishjax.evidence.contrast import arms_of

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
