"""The minority-class study: its arms, and at smoke scale on both sources."""

import json

import numpy as np

from experiments.minority_class import ARMS, STUDY
from fishjax.data.corruptions import view
from fishjax.data.source import open_source
from fishjax.settings import override
from tests.commands import run_study

IDS = ("S4", "4.1", "4.2", "4.3")


def test_the_minority_has_one_image_and_then_about_sixteen():
    dataset = open_source(STUDY.data, 16)
    seen = {}
    for arm in ARMS:
        if arm.name in ("weighted", "weighted, few", "weighted, some", "balanced"):
            changes = {key: value for key, value in arm.changes.items() if key != "hyper.lr"}
            data = override(STUDY.base, changes).data
            train = view(dataset, data, 1000).train
            seen[arm.name] = np.bincount(train.label, minlength=8)
    assert [seen[name][1] for name in ("weighted", "weighted, few", "weighted, some")] == [1, 4, 16]
    assert len(set(seen["balanced"])) == 1


def test_the_test_images_of_a_species_are_enough_for_its_auc():
    dataset = open_source(STUDY.data, 16)
    assert min(np.bincount(dataset.labels[dataset.fixed_test])) >= 400


def test_the_study_runs_at_smoke_scale_on_reef(tmp_path, capfd):
    assert run_study(STUDY, "--scale", "smoke", "--out", str(tmp_path / "out")) == 0
    printed = capfd.readouterr().out
    assert all(id in printed for id in IDS)
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert "test=3200" in summary["data"]["spec"]
    assert {claim["verdict"] for claim in summary["claims"]} == {"too few seeds", "by construction"}


def test_the_study_runs_at_smoke_scale_on_photographs(photographs, tmp_path, capfd):
    options = ("--scale", "smoke", "--data", f"f4k:{photographs}", "--out", str(tmp_path / "out"))
    assert run_study(STUDY, *options) == 0
    printed = capfd.readouterr().out
    assert all(id in printed for id in IDS)
