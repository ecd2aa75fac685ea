"""Every part of the README's table, beside its independent reference."""

import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra test-oracle brings PyTorch")

from experiments.parts.__main__ import PARTS, examine
from experiments.parts.part import Part
from experiments.readme import RESULTS
from fishjax.config import fields
from fishjax.present.parts import parts_table


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.title)
def test_a_part_equals_its_reference(part):
    assert part.difference() <= part.limit


def test_the_kept_table_has_these_parts_and_no_others():
    kept = json.loads((RESULTS / "parts.json").read_bytes())["parts"]
    named = ("family", "part", "reference", "limit")
    assert [tuple(row[name] for name in named) for row in kept] == [
        (part.family, part.name, part.reference, part.limit) for part in PARTS
    ]


def test_no_two_parts_share_a_title():
    assert len({part.title for part in PARTS}) == len(PARTS)


def test_every_choice_of_every_part_is_in_the_table():
    shown = {name: set() for name in fields()}
    for part in PARTS:
        for name, value in (part.settings or {}).items():
            shown[name] |= set(value) if isinstance(value, tuple) else {value}
    for name in (
        *("model.activation", "model.norm", "model.block", "model.downsample", "model.head"),
        *("model.init", "optim.kind", "optim.decay", "optim.sampling", "schedule.kind"),
        *("loss.kind", "loss.class_weight", "data.imbalance", "data.cue"),
    ):
        default = fields()[name].default
        assert set(fields()[name].metadata["choices"]) <= shown[name] | {default}, name


@pytest.mark.parametrize(
    ("ours", "theirs", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.2),
        ([0.1], [0.2], 0.1),
        ([1.0, np.nan], [1.0, np.nan], 0.0),
        ([1.0, np.nan], [1.0, 2.0], np.inf),
        ([1.0], [1.0, 2.0], np.inf),
    ],
)
def test_differences_are_relative_above_one_and_see_what_is_missing(ours, theirs, difference):
    part = Part("family", "name", "reference", lambda: (ours, theirs), 0.0)
    assert part.difference() == pytest.approx(difference)


@pytest.mark.slow
def test_the_table_says_what_a_part_costs():
    """Beside a network of one convolution."""
    small = {"model.depth": 1, "model.widths": (4,), "model.dense": (), "data.train_size": 32}
    chosen = [
        dataclasses.replace(part, beside=small) for part in PARTS if part.name in {"elu", "focal"}
    ]
    found = examine(chosen, rounds=1)
    cost = {row["part"]: row["cost"] for row in found["parts"]}
    assert cost["elu"] > 0
    assert cost["focal"] is None
    table = parts_table(found).write("md")
    assert "same program" in table
