"""Settings that would do nothing are refused, with what they would need."""

import pytest

from fishjax.config import Config, fields
from fishjax.effects import _NEEDS, OWN_INERT, missing
from fishjax.settings import override
from tests.test_config import CHANGED
from tests.test_study import run


def test_every_name_is_a_field():
    assert set(_NEEDS) | set(OWN_INERT) <= set(fields())


@pytest.mark.parametrize("key", _NEEDS)
def test_what_has_no_effect_alone_says_what_it_needs(key):
    assert missing(override(Config(), {key: CHANGED[key]}), key)


@pytest.mark.parametrize(
    ("key", "beside"),
    [
        ("model.groups", {"model.norm": "group"}),
        ("hyper.leaky_slope", {"model.activation": "leaky_relu"}),
        ("hyper.beta2", {"optim.kind": "adam"}),
        ("optim.decay", {"hyper.weight_decay": 0.1}),
        ("schedule.floor", {"schedule.kind": "cosine"}),
        ("schedule.growth", {"schedule.kind": "sgdr"}),
        ("loss.effective_beta", {"loss.class_weight": "effective"}),
        ("data.cue_share", {"data.cue": "border"}),
    ],
)
def test_what_is_there_beside_it_gives_it_an_effect(key, beside):
    assert not missing(override(Config(), beside), key)


def test_a_network_of_ones_own_is_touched_by_no_field_of_the_model():
    own = override(Config(), {"model.own": "tests.own_nets:linen_net"})
    assert missing(own, "model.depth")
    assert missing(own, "hyper.init_gain")
    assert not missing(own, "hyper.lr")
    assert not missing(own, "model.own")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("schedule.factor=0.1", "it needs schedule.kind=step, exponential or exp_range"),
        ("loss.focal_gamma=1", "it needs loss.kind=focal"),
        ("data.imbalance_species=foo", "it needs data.imbalance=species"),
    ],
)
def test_a_setting_in_vain_is_refused_before_anything_is_written(setting, message, tmp_path, capfd):
    assert run("--out", str(tmp_path / "out"), "--set", setting) == 2
    assert message in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
