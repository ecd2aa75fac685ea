"""A plan that reads what is not measured is refused before anything runs."""

import dataclasses

import jax
import numpy as np
import pytest

from fishjax import train
from fishjax.config import Config
from fishjax.engine.record import Record
from fishjax.evaluate import KILLED_SHARES
from fishjax.evidence.plan import Contrast, Crossing, Reading, Scenario, Target
from fishjax.fields import UsageError
from fishjax.metrics import Measured, metrics
from fishjax.nn.models import build
from fishjax.readable import check_readable
from fishjax.sections import Watch
from fishjax.settings import override
from fishjax.setup import choices, lower
from tests.commands import run_study
from tests.runs import CLASSES, TINY, as_arrays, make_feed
from tests.test_fitting import STUDY as FITTED
from tests.tiny_study import DATA, STUDY

EVERYTHING = {"watch.also": choices(Watch, "also"), "watch.every": 1}
NOTHING = {"watch.flow": "off", "watch.units": "off"}


SPECIES = ("a", "b", "c")


def foretold(config: Config, *, flips: bool) -> dict[str, Measured]:
    model = build(lower(config, CLASSES)[0])
    parts = {
        "layers": model.layers,
        "hidden": model.hidden,
        "shares": KILLED_SHARES,
        "species": SPECIES,
    }
    return metrics(config, parts, flips=flips)


def written(config: Config, *, flips: bool) -> dict[str, tuple]:
    """By metric the epochs, the dimension and the parts that stand in a run's table, off the shapes
    of its arrays alone.
    """
    setup, hyper = lower(config, CLASSES)
    feed = make_feed(setup)
    feed = feed._replace(clean=feed.labels if flips else None)
    shapes = jax.eval_shape(
        lambda h: train.train(setup, h, jax.random.key(0), feed)[1:], as_arrays(hyper)
    )
    trace, evaluation, examination = jax.tree.map(lambda s: np.zeros((1, *s.shape)), shapes)

    def at(tree, time):
        return jax.tree.map(lambda leaf: leaf[:, time], tree)

    record = Record(setup, build(setup), SPECIES)
    record.traces = [at(trace, chunk) for chunk in range(setup.chunks)]
    record.evaluations = [at(evaluation, chunk) for chunk in range(setup.chunks + 1)]
    record.examination = examination
    rows = record.metrics(0).to_pandas()
    rows = rows[rows["dim"] != "bin"]
    return {
        str(name): (sorted(set(each["epoch"])), set(each["dim"]), set(each["part"]))
        for name, each in rows.groupby("metric")
    }


@pytest.mark.parametrize(
    ("changes", "flips"),
    [
        (NOTHING, False),
        ({}, True),
        ({"data.label_noise": 0.25, **EVERYTHING}, True),
        ({"watch.also_every": 2, **EVERYTHING}, False),
    ],
    ids=["nothing", "flipped beside it", "everything at the end", "everything in between"],
)
def test_what_a_run_writes_is_what_is_foretold(changes, flips):
    config = override(Config(), {**TINY, **changes})
    said = {
        name: (list(each.epochs), {each.dim}, set(map(str, each.parts)) or {""})
        for name, each in foretold(config, flips=flips).items()
    }
    assert written(config, flips=flips) == said


@pytest.mark.parametrize(
    ("reading", "changes", "message"),
    [
        (Reading("test_acuracy"), {}, "no such metric; did you mean 'test_accuracy'"),
        (Reading("probe_flow"), {}, "which arm 'b' does not measure: it needs watch.also=flow"),
        (Reading("flow"), {"watch.flow": "off"}, "it needs watch.flow=epoch or step"),
        (Reading("flipped_as_given_share"), {}, "it needs data.label_noise"),
        (Reading("test_loss", minus=Reading("sharpness")), {}, "watch.also=curvature"),
        (Reading("epoch", when=Crossing("silent_shares", 0.5)), {}, "'silent_share'"),
        (Reading("test_loss", epoch=3), {}, "at epoch 3, and arm 'a' measures it at 0, 2, 4$"),
        (Reading("test_loss", since=3), {}, "at epoch 3"),
        (Reading("test_loss", epoch=5), {}, "at epoch 5"),
        (Reading("flow", epoch=9), {"optim.epochs": 8}, r"measures it at 1, 2, 3, \.\.\., 8"),
        (Reading("dormant_share", epoch=2), {}, "measures it at 4$"),
        (Reading("test_auc_of", species="bb"), {}, "in arm 'a'; did you mean 'b'"),
        (Reading("test_auc_of", without="#4"), {}, "unknown species in the plan of tiny: '#4'"),
        (Reading("flow", layer="conv7"), {}, "unknown layer in the plan of tiny: 'conv7' of flow"),
        (Reading("activity", layer="head"), {}, "did you mean 'dense0'"),
        (Reading("blocked_gradient", share=0.4), {}, "unknown share in the plan of tiny: 0.4"),
        (Reading("test_loss", layer="conv0"), {}, "and it is one number of the whole run"),
        (Reading("flow", species="#1"), {}, "of species '#1', and it is measured by layer"),
    ],
    ids=lambda value: value.label if isinstance(value, Reading) else "",
)
def test_what_is_not_measured_is_refused(reading, changes, message):
    alike = override(Config(), {**TINY, **changes})
    arms = {"a": override(alike, {"watch.also": ("flow",)}), "b": alike}
    measured = {arm: foretold(config, flips=False) for arm, config in arms.items()}
    with pytest.raises(UsageError, match=message):
        check_readable("tiny", [Contrast(reading, "a", "b", 1, 0.1)], measured)


def test_what_is_measured_is_let_through():
    clean = override(Config(), TINY)
    arms = {"a": override(clean, {"data.label_noise": 0.25}), "b": clean}
    measured = {arm: foretold(config, flips=True) for arm, config in arms.items()}
    for each in measured.values():
        each["barrier"] = Measured((4,))
    for reading in (
        Reading("epoch", when=Crossing("minibatch_loss", 1.0, -1)),
        Reading("test_auc_of", species="#2", minus=Reading("test_auc_of", epoch=2)),
        Reading("unflipped_as_given_share", since=2),
        Reading("flow", layer="conv1", minus=Reading("flow", layer="head")),
        Reading("blocked_gradient", share=0.5),
        Reading("barrier"),
    ):
        check_readable("tiny", [Contrast(reading, "a", "b", 1, 0.1)], measured)


def test_an_instability_takes_three_readings_at_even_steps():
    noisy = {**TINY, "watch.also": ("noise",), "watch.also_every": 4}
    plan = [Contrast(Reading("noise_scale", statistic="instability"), "a", 0.0, 1, 0.1)]
    even, uneven, few = (
        override(Config(), {**noisy, "optim.epochs": epochs}) for epochs in (8, 10, 6)
    )
    check_readable("tiny", plan, {"a": foretold(even, flips=False)})
    for config, said in ((uneven, "at 0, 4, 8, 10: .* even steps"), (few, "at 0, 4, 6: .* three")):
        with pytest.raises(UsageError, match=f"instability of noise_scale, .*{said}"):
            check_readable("tiny", plan, {"a": foretold(config, flips=False)})


def test_a_study_and_its_search_are_refused_before_anything_is_written(tmp_path, capsys):
    out, target = tmp_path / "out", Target("sharp", "any", Reading("sharpness"), "plain")
    for study, options in ((STUDY, ()), (FITTED, ("--fit",))):
        plan = dataclasses.replace(study.plan, scenario=Scenario("S0", "it is sharp", (target,)))
        sharp = dataclasses.replace(study, plan=plan)
        assert run_study(sharp, "--data", DATA, "--out", str(out), *options) == 2
        assert "it needs watch.also=curvature" in capsys.readouterr().err
        assert not out.exists()
