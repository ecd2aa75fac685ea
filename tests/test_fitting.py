"""The search for knobs: every combination counted, shared cells run once, misuse refused."""

import dataclasses
import json
import math

import numpy as np
import pytest

from fishjax import workplace
from fishjax.evidence.plan import Plan, Reading, Scenario, Target
from fishjax.fields import UsageError
from fishjax.results import collect
from fishjax.settings import plain as as_plain
from fishjax.study import Knob, Search
from fishjax.sweep import Arm, Tuned
from tests.commands import run_study
from tests.tiny_study import DATA
from tests.tiny_study import STUDY as PLAIN

TARGETS = (
    Target("accuracy", "any", Reading("test_accuracy"), "plain"),
    Target("weights", "small", Reading("weight_norm"), "worn", "plain", high=-0.05),
)
SEARCH = Search(
    knobs=(
        Knob("hyper.weight_decay", (0.0, 0.3), ("worn",)),
        Knob("hyper.clip", (1.0, math.inf), ("worn",)),
    ),
    seeds=(1100, 1101),
    earlier=3,
)
STUDY = dataclasses.replace(
    PLAIN,
    arms=(
        Arm("plain", {"hyper.lr": Tuned("plain")}),
        Arm("worn", {"hyper.lr": Tuned("worn")}),
    ),
    plan=Plan(Scenario("S0", "it wears", TARGETS), ()),
    scales={
        "laptop": dataclasses.replace(
            PLAIN.scales["laptop"],
            tuning=dataclasses.replace(
                PLAIN.scales["laptop"].tuning, arms=("plain", "worn"), rates=(0.01, 0.05)
            ),
        )
    },
    search=SEARCH,
)


def fit(study, *options: str) -> int:
    return run_study(study, "--fit", "--data", DATA, *options)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit") / "out"
    assert fit(STUDY, "--out", str(folder)) == 0
    return folder, json.loads((folder / "search.json").read_bytes())


def test_every_setting_is_tried_and_counted_and_shared_cells_are_run_once(found):
    folder, search = found
    assert search["settings_tried"] == len(search["tried"]) == 4
    assert search["tried_earlier"] == 3
    assert [tried["setting"] for tried in search["tried"]] == as_plain(STUDY.search.settings())
    rates, tuning_seeds, seeds, settings = 2, 1, 2, 4
    plain, worn = rates * tuning_seeds + seeds, settings * (rates * tuning_seeds + seeds)
    assert search["runs"] == plain + worn == len(list(folder.rglob("DONE.json")))
    assert search["timing"]["total_s"] > search["timing"]["run_s"] > 0


def test_a_second_start_reads_every_setting_once(found, monkeypatch):
    read = []

    def counting(sweep, folders, classes):
        read.append(len(folders))
        return collect(sweep, folders, classes)

    monkeypatch.setattr(workplace, "collect", counting)
    assert fit(STUDY, "--out", str(found[0])) == 0
    assert read == 8 * [4]


def test_the_setting_that_meets_every_target_by_the_most_deviations_is_taken(found):
    _, search = found
    met = [tried for tried in search["tried"] if tried["reproduced"]]
    assert not search["tried"][0]["reproduced"], "no decay, no smaller weights"
    figures = [tried["measured"]["weights"] for tried in met]
    margins = [(-0.05 - figure["mean"]) / figure["sd"] for figure in figures]
    assert [tried["margins"][0] for tried in met] == pytest.approx(margins)
    assert search["taken"] == met[np.argmax(margins)]["setting"]
    assert search["taken"]["hyper.weight_decay"] == 0.3


def test_the_table_shows_each_setting(found):
    folder, search = found
    table = (folder / "tables" / "search.md").read_text()
    assert table.count("\n|") == 2 + search["settings_tried"]


def test_the_same_search_again_runs_nothing(found, capfd):
    folder, search = found
    assert fit(STUDY, "--out", str(folder), "--json") == 0
    out, err = capfd.readouterr()
    assert "0 run-steps of tuning, 0 run-steps of settings" in " ".join(err.split())
    assert {**json.loads(out), "timing": 0} == {**search, "timing": 0}


@pytest.mark.parametrize(
    ("study", "options", "message"),
    [
        (PLAIN, (), "declares no knobs"),
        (STUDY, ("--seeds", "0:2"), "seeds of its own"),
        (STUDY, ("--shard", "0/2"), "not sharded"),
        (
            dataclasses.replace(STUDY, search=dataclasses.replace(SEARCH, seeds=(0, 1))),
            (),
            "seeds from 1000 on",
        ),
        (
            dataclasses.replace(STUDY, arms=(STUDY.arms[0], Arm("worn", {"hyper.lr": 0.1}))),
            (),
            "rate tuned for worn itself",
        ),
    ],
)
def test_misuse_is_refused(study, options, message, tmp_path, capfd):
    assert fit(study, "--out", str(tmp_path / "out"), *options) == 2
    assert message in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_search_of_an_unknown_arm_is_refused():
    knob = Knob("hyper.lr", (0.1,), ("wron",))
    with pytest.raises(UsageError, match="did you mean 'worn'"):
        dataclasses.replace(STUDY, search=dataclasses.replace(SEARCH, knobs=(knob,)))
