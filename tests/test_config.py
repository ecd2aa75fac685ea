"""Fields, overrides, and what a configuration lowers to."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fishjax.config import Config, fields
from fishjax.fields import UsageError
from fishjax.settings import digest, from_dict, override, to_dict
from fishjax.setup import lower

CHANGED = {
    "model.depth": 5,
    "model.widths": (4, 8),
    "model.block": "residual",
    "model.pool_every": 2,
    "model.downsample": "stride",
    "model.head": "flatten",
    "model.dense": (16,),
    "model.activation": "elu",
    "model.norm": "batch",
    "model.norm_at": (1,),
    "model.norm_place": "after",
    "model.groups": 2,
    "model.own": "package.module:net",
    "optim.kind": "adam",
    "optim.decay": "decoupled",
    "optim.sampling": "balanced",
    "model.init": "normal",
    "optim.batch_size": 16,
    "optim.order": 1,
    "optim.order_from": 5,
    "optim.frozen": 2,
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
    "schedule.factor": 0.1,
    "schedule.growth": 2.0,
    "schedule.again": 0.5,
    "schedule.anneal": 10.0,
    "schedule.shuffled": 1,
    "schedule.rise": 0.5,
    "schedule.momentum_low": 0.8,
    "loss.kind": "focal",
    "loss.focal_gamma": 1.0,
    "loss.class_weight": "inverse",
    "loss.class_weight_power": 0.5,
    "loss.class_weight_shift": 1,
    "loss.class_weight_swap": 1,
    "loss.effective_beta": 0.9,
    "loss.logit_adjustment": 1.0,
    "data.imbalance": "step",
    "data.imbalance_ratio": 20.0,
    "data.imbalance_species": "b",
    "data.label_noise": 0.2,
    "data.label_noise_kind": "pair",
    "data.cue": "border",
    "data.cue_share": 0.5,
    "data.twins": 0.5,
    "data.duplicates": 0.1,
    "data.leakage": 0.1,
    "data.channel_shift": 1.0,
    "data.resolution": 8,
    "data.normalise": "no",
    "augment.flip": 0.5,
    "augment.shift": 0.1,
    "augment.cutout": 0.25,
    "augment.colour": 0.2,
    "augment.mixup": 0.4,
    "watch.also": ("noise", "curvature"),
    "watch.also_every": 10,
    "hyper.lr": 0.2,
    "hyper.momentum": 0.5,
    "hyper.beta2": 0.9,
    "hyper.epsilon": 1e-3,
    "hyper.norm_momentum": 0.5,
    "hyper.weight_decay": 0.1,
    "hyper.clip": 1.0,
    "hyper.dropout": 0.5,
    "hyper.init_gain": 2.0,
    "hyper.bias_shift": -1.0,
    "hyper.leaky_slope": 0.3,
    "hyper.label_smoothing": 0.1,
}


NEEDED = {
    "model.block": {"model.depth": 5},
    "hyper.dropout": {"model.dense": (8,)},
    "hyper.leaky_slope": {"model.activation": "leaky_relu"},
    "loss.focal_gamma": {"loss.kind": "focal"},
}
"""What a field needs beside it to have an effect, or to be allowed."""
ARRAYS = {name for name in fields() if name.startswith("data.")}
"""Traced fields that act on the arrays a program is fed, not on its numbers."""


def test_relu_and_leaky_relu_share_a_program():
    leaky = override(Config(), {"model.activation": "leaky_relu"})
    assert lower(leaky, 8)[0] == lower(Config(), 8)[0]
    assert lower(leaky, 8)[1] != lower(Config(), 8)[1]


def test_the_table_below_covers_every_field_with_a_choice():
    assert set(CHANGED) == set(fields())


@pytest.mark.parametrize("name", CHANGED)
def test_a_field_changes_the_program_exactly_when_it_says_static(name):
    base = override(Config(), NEEDED.get(name, {}))
    before, after = base, override(base, {name: CHANGED[name]})
    (setup, hyper), (new_setup, new_hyper) = lower(before, 8), lower(after, 8)
    static = fields()[name].metadata["kind"] == "static"
    assert (setup != new_setup) == (static or name.startswith("augment."))
    if not static and name not in ARRAYS:
        assert hyper != new_hyper


def test_a_slope_without_leaky_relu_is_not_used():
    assert lower(override(Config(), {"hyper.leaky_slope": 0.3}), 8) == lower(Config(), 8)


@pytest.mark.parametrize("name", CHANGED)
def test_every_field_survives_json_and_text(name):
    base = override(Config(), NEEDED.get(name, {}))
    config = override(base, {name: CHANGED[name]})
    assert from_dict(to_dict(config)) == config
    value = CHANGED[name]
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    assert override(base, {name: text}) == config
    assert digest(config) != digest(base)


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
        ({"hyper.lr": 1e-50}, "out of bounds in float32: above 0"),
        ({"hyper.lr": 1e39}, "out of bounds in float32"),
        ({"hyper.beta2": 0.99999999}, "out of bounds in float32: .*below 1"),
        ({"optim.epochs": 10**12}, "at most 1000000"),
        ({"model.widths": (8.7,)}, "whole numbers"),
        ({"model.depth": 2.5}, "whole number"),
        ({"model.depth": 99}, "at most 32"),
        ({"model.widths": ""}, "at least one"),
        ({"model.widths": "8,x"}, "separated by commas"),
        ({"model.init": "hee"}, "did you mean 'he'"),
        ({"model.norm": "batch", "model.norm_at": "5"}, "norm_at names layer 5"),
        ({"model.norm": "batch", "optim.batch_size": 1}, "a single image"),
        ({"model.norm": "instance", "model.norm_at": "4"}, "no pixels"),
        ({"model.norm": "instance", "model.depth": 6}, "a single pixel is left"),
        (
            {"model.norm": "layer", "model.norm_at": "2", "model.depth": 2, "model.dense": "1"},
            "model.norm=layer at layer 2, which has a single value",
        ),
        (
            {"model.norm": "layer", "model.norm_at": "5", "model.depth": 6, "model.widths": (1,)},
            "model.norm=layer at layer 5, which has a single value",
        ),
        (
            {"model.norm": "group", "model.depth": 6, "model.widths": (8,), "model.groups": 8},
            "model.norm=group at convolution 4, where a single pixel is left",
        ),
        ({"schedule.kind": "sgdr", "schedule.period": 1e-12}, "at least 0.01"),
        ({"model.norm": "group", "model.norm_at": "4"}, "layer 4 is dense"),
        ({"model.norm": "group", "model.groups": 3}, "does not divide the 8"),
        ({"model.depth": 8, "model.pool_every": 1}, "leaves nothing of 24 pixels"),
        ({"model.block": "residual"}, "5 would do"),
        ({"hyper.dropout": 0.2}, "model.dense has none"),
        ({"schedule.warmup": 60}, "the whole run of 60"),
        ({"schedule.warmup": 20, "schedule.anneal": 50}, "do not fit into the run of 60"),
        ({"schedule.anneal": 61}, "do not fit into the run of 60"),
        ({"optim.order_from": 60}, "optim.order would never hold"),
        ({"optim.frozen": 5}, "4 leaves the logits"),
        ({"model.own": "a:b", "optim.frozen": 1}, "a network of fishjax"),
        ({"model.own": "a:b", "watch.also": "recomputed"}, "cannot be recomputed"),
        ({"schedule.kind": "sgdr", "schedule.period": 80}, "longer than the run of 60"),
        ({"schedule.kind": "sgdr", "schedule.growth": 16}, "cycle of 160 epochs from epoch 10 on"),
        ({"loss.kind": "focal", "loss.logit_adjustment": 1}, "choose one"),
        ({"optim.sampling": "balanced", "loss.logit_adjustment": 1}, "choose one"),
        ({"optim.sampling": "balanced", "loss.class_weight": "sqrt"}, "choose one"),
        ({"augment.shift": 0.02}, "it acts from 0.0209 on; a pixel is 0.0417"),
        ({"augment.cutout": 0.02}, "it acts from 0.0209 on; a pixel is 0.0417"),
        (
            {"augment.shift": 0.03125, "data.image_size": 16},
            "it acts from 0.0313 on; a pixel is 0.0625",
        ),
        ({"augment.colour": 0.1, "data.normalise": "no"}, "acts on normalised inputs"),
        ({"augment.cutout": 0.25, "data.normalise": "no"}, "acts on normalised inputs"),
        ({"data.imbalance": "species"}, "needs data.imbalance_species"),
        ({"data.resolution": 1}, "at least 2"),
        ({"data.resolution": 32}, "more than data.image_size=24"),
        ({"watch.also": "noize"}, "did you mean 'noise'"),
        ({"watch.also_every": 3}, "not a multiple"),
        ({"optim.batch_size": 512}, "no step would be taken"),
        ({"optim.epochs": 7}, "not a multiple"),
    ],
)
def test_bad_settings_are_refused_by_name(changes, message):
    with pytest.raises(UsageError, match=message):
        override(Config(), changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"augment.shift": 0.0209},
        {"augment.cutout": 0.0313, "data.image_size": 16},
        {"augment.flip": 0.5, "augment.shift": 0.1, "data.normalise": "no"},
        {"schedule.kind": "sgdr", "schedule.growth": 2},
    ],
)
def test_what_is_just_enough_is_taken(changes):
    override(Config(), changes)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=8), min_size=1, max_size=3))
def test_anything_else_is_a_usage_error_too(changes):
    if not set(changes) <= set(fields()):
        with pytest.raises(UsageError):
            override(Config(), changes)


def test_an_infinite_clip_survives_json():
    assert to_dict(Config())["hyper"]["clip"] == "inf"
    assert math.isinf(from_dict(to_dict(Config())).hyper.clip)
