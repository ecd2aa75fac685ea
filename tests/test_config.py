"""Fields, overrides, and what a configuration lowers to."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fishjax.config import Config, fields, lower
from fishjax.fields import UsageError
from fishjax.settings import digest, from_dict, override, to_dict

CHANGED = {
    "model.depth": 5,
    "model.widths": (4, 8),
    "model.pool_every": 2,
    "model.dense": (16,),
    "model.activation": "leaky_relu",
    "model.norm": "batch",
    "model.norm_at": (1,),
    "model.init": "normal",
    "optim.batch_size": 16,
    "optim.order": 1,
    "optim.epochs": 10,
    "data.train_size": 128,
    "data.val_size": 64,
    "data.image_size": 16,
    "watch.every": 10,
    "watch.flow": "off",
    "watch.units": "step",
    "schedule.kind": "cosine",
    "schedule.period": 4.0,
    "schedule.warmup": 1.0,
    "schedule.floor": 0.1,
    "hyper.lr": 0.2,
    "hyper.momentum": 0.5,
    "hyper.weight_decay": 0.1,
    "hyper.clip": 1.0,
    "hyper.dropout": 0.5,
    "hyper.init_gain": 2.0,
    "hyper.bias_shift": -1.0,
    "hyper.leaky_slope": 0.3,
    "hyper.label_smoothing": 0.1,
}


def test_the_table_below_covers_every_field_with_a_choice():
    fixed = {"optim.kind", "loss.kind"}
    assert set(CHANGED) | fixed == set(fields())


@pytest.mark.parametrize("name", CHANGED)
def test_a_field_changes_the_program_exactly_when_it_says_static(name):
    before, after = Config(), override(Config(), {name: CHANGED[name]})
    (setup, hyper), (new_setup, new_hyper) = lower(before, 8), lower(after, 8)
    static = fields()[name].metadata["kind"] == "static"
    assert (setup != new_setup) == static
    if not static and name != "hyper.leaky_slope":
        assert hyper != new_hyper


def test_a_slope_without_leaky_relu_is_not_used():
    assert lower(override(Config(), {"hyper.leaky_slope": 0.3}), 8) == lower(Config(), 8)


@pytest.mark.parametrize("name", CHANGED)
def test_every_field_survives_json_and_text(name):
    config = override(Config(), {name: CHANGED[name]})
    assert from_dict(to_dict(config)) == config
    value = CHANGED[name]
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    assert override(Config(), {name: text}) == config
    assert digest(config) != digest(Config())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.dept": 1}, "did you mean 'model.depth'"),
        ({"hyper.learning_rate": 1}, "unknown key"),
        ({"hyper": 1}, "unknown key"),
        ({"hyper.lr": "fast"}, "hyper.lr takes a number"),
        ({"hyper.lr": -1}, "out of bounds"),
        ({"hyper.lr": 0}, "above 0"),
        ({"hyper.lr": "nan"}, "out of bounds"),
        ({"hyper.momentum": 1}, "below 1"),
        ({"hyper.lr": "inf"}, "finite"),
        ({"hyper.bias_shift": "-inf"}, "finite"),
        ({"hyper.clip": "-inf"}, "out of bounds"),
        ({"model.widths": (8.7,)}, "whole numbers"),
        ({"model.depth": 2.5}, "whole number"),
        ({"model.depth": 99}, "at most 32"),
        ({"model.widths": ""}, "at least one"),
        ({"model.widths": "8,x"}, "separated by commas"),
        ({"model.init": "hee"}, "did you mean 'he'"),
        ({"model.norm": "batch", "model.norm_at": "4"}, "norm_at names convolution 4"),
        ({"optim.batch_size": 512}, "no step would be taken"),
        ({"optim.epochs": 7}, "not a multiple"),
    ],
)
def test_bad_settings_are_refused_by_name(changes, message):
    with pytest.raises(UsageError, match=message):
        override(Config(), changes)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=8), min_size=1, max_size=3))
def test_anything_else_is_a_usage_error_too(changes):
    if not set(changes) <= set(fields()):
        with pytest.raises(UsageError):
            override(Config(), changes)


def test_an_infinite_clip_survives_json():
    assert to_dict(Config())["hyper"]["clip"] == "inf"
    assert math.isinf(from_dict(to_dict(Config())).hyper.clip)
