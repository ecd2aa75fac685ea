"""Lines of a study: the loss barrier between the final networks of two arms, kept and resumed."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from fishjax import lines
from fishjax.barrier import barrier
from fishjax.config import Config
from fishjax.data.corruptions import view
from fishjax.data.source import open_source
from fishjax.evidence.plan import Claim, Contrast, Plan, Reading
from fishjax.fields import UsageError
from fishjax.files import sealed, unsealed, write_json
from fishjax.settings import override
from fishjax.study import Scale, Study
from fishjax.sweep import Arm, Tuning
from fishjax.trained import load
from tests.commands import derived, run_study
from tests.runs import TINY

DATA = "reef:classes=3,train=96,test=24"
HOT = {"hyper.lr": 0.1}
STUDY = Study(
    name="lined",
    base=override(Config(), {**TINY, "model.dense": (), "optim.epochs": 2, "data.image_size": 16}),
    arms=(Arm("plain", HOT), Arm("branch", {**HOT, "optim.order": 1}), Arm("deep", {})),
    plan=Plan(
        None,
        (
            Claim(
                "0.1",
                "an order leaves the basin",
                "directional",
                Contrast(Reading("barrier"), "branch", 0.0, 1, 0.1),
            ),
        ),
        (),
    ),
    scales={"smoke": Scale((0, 1), Tuning((), (), ()))},
    lines=(("branch", "plain"),),
)


def run(folder, study=STUDY):
    return run_study(study, "--scale", "smoke", "--data", DATA, "--out", str(folder))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lined") / "out"
    assert run(folder) == 0
    return folder


def test_the_metric_is_the_barrier_on_the_seeds_own_training_subset(finished):
    rows = pq.read_table(finished / "results.parquet").to_pandas()
    rows = rows[rows["metric"] == "barrier"]
    assert rows[["arm", "seed", "epoch"]].to_numpy().tolist() == [
        ["branch", 0, 2],
        ["branch", 1, 2],
    ]
    source, data = open_source(DATA, 16), STUDY.base.data
    for seed, value in zip((0, 1), rows["value"], strict=True):
        shown = view(source, data, seed).train.example
        end, start = (load(finished, arm, seed) for arm in ("branch", "plain"))
        expected = barrier(end, start, source.images[shown], source.labels[shown])
        assert value == pytest.approx(expected.height, abs=1e-6)
        assert abs(value) > 1e-4


def test_the_summary_counts_it_where_there_is_a_line(finished):
    summary = json.loads((finished / "summary.json").read_bytes())
    found = {arm["name"]: arm["metrics"]["barrier"]["n"] for arm in summary["arms"]}
    assert found == {"plain": 0, "branch": 2, "deep": 0}
    assert summary["claims"][0]["effect"] is not None


def test_what_is_kept_is_read_back_and_what_is_damaged_is_made_again(finished, monkeypatch):
    before, made = derived(finished), []

    def counting(*ends):
        made.append(ends)
        return barrier(*ends)

    monkeypatch.setattr(lines, "barrier", counting)
    assert run(finished) == 0
    assert made == []
    first, second = sorted((finished / "lines").glob("branch-*--plain-*/seed=*.json"))
    first.write_text(first.read_text().replace('"height": ', '"height": 1'))
    second.unlink()
    assert run(finished) == 0
    assert len(made) == 2
    assert derived(finished) == before
    kept = unsealed(first.read_bytes())
    write_json(first, sealed({**kept, "height": 9.0, "networks": ["trained", "anew"]}))
    assert run(finished) == 0
    assert len(made) == 3
    assert derived(finished) == before


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((("branch", "plan"),), "did you mean 'plain'"),
        ((("branch", "plain"), ("branch", "deep")), "two lines to one arm"),
        ((("branch", "branch"),), "from an arm to itself"),
    ],
)
def test_lines_that_say_nothing_are_refused(pairs, message):
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(STUDY, lines=pairs)


def test_other_lines_are_another_study(finished, capfd):
    other = dataclasses.replace(STUDY, lines=(*STUDY.lines, ("deep", "plain")))
    assert run(finished, other) == 2
    assert "another study: its lines" in capfd.readouterr().err
    assert run(finished) == 0


def test_a_barrier_of_an_arm_without_a_line_is_refused(tmp_path, capfd):
    other = dataclasses.replace(STUDY, lines=(("deep", "plain"),))
    assert run(tmp_path / "out", other) == 2
    assert "it needs a line of the study to that arm" in capfd.readouterr().err


def test_networks_of_two_shapes_are_refused_before_anything_is_written(tmp_path, capfd):
    arms = (*STUDY.arms[:2], Arm("deep", {"model.depth": 3}))
    study = dataclasses.replace(STUDY, arms=arms, lines=(("deep", "plain"),))
    assert run(tmp_path / "out", study) == 2
    assert "one section model" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_line_ends_where_its_own_arm_does(tmp_path):
    """At another epoch it would be read as that arm's last, where nothing else was measured."""
    longer = Arm("branch", {**STUDY.arms[1].changes, "optim.epochs": 4})
    study = dataclasses.replace(STUDY, arms=(STUDY.arms[0], longer, STUDY.arms[2]))
    folder = tmp_path / "out"
    assert run(folder, study) == 0
    rows = pq.read_table(folder / "results.parquet").to_pandas()
    assert set(rows[rows["metric"] == "barrier"]["epoch"]) == {4}
    summary = json.loads((folder / "summary.json").read_bytes())
    (branch,) = (arm for arm in summary["arms"] if arm["name"] == "branch")
    assert [branch["metrics"][name]["n"] for name in ("barrier", "test_accuracy")] == [2, 2]
    assert summary["claims"][0]["effect"] is not None


def test_what_is_not_finite_is_kept_as_nothing():
    found = lines._plain(lines.Barrier(np.nan, np.zeros(2), np.array([np.inf, 1.0]), np.ones(2)))
    assert found["height"] is None
    assert found["loss"] == [None, 1.0]
