"""One tiny study whose arms hold many parts at once, from the command line to its numbers."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from fishjax.config import Config
from fishjax.engine import native
from fishjax.evidence.plan import Claim, Contrast, Plan, Reading
from fishjax.settings import override
from fishjax.study import Scale, Study
from fishjax.sweep import Arm, Tuning
from tests.commands import run_study
from tests.runs import TINY

DATA = "reef:classes=3,train=96,test=24"
EVERYTHING = {
    "model.depth": 3,
    "model.widths": (4, 8),
    "model.block": "residual",
    "model.downsample": "stride",
    "model.head": "flatten",
    "model.norm": "group",
    "model.groups": 2,
    "optim.kind": "adam",
    "schedule.kind": "one_cycle",
    "loss.kind": "focal",
    "augment.flip": 0.5,
    "augment.shift": 0.1,
    "augment.cutout": 0.25,
    "augment.colour": 0.2,
    "augment.mixup": 0.4,
    "watch.also": ("batch_stats", "cosine"),
    "watch.also_every": 2,
}
STUDY = Study(
    name="everything",
    base=override(Config(), {**TINY, "data.image_size": 16, "hyper.lr": 0.01}),
    arms=(Arm("all", EVERYTHING), Arm("noisy", {**EVERYTHING, "data.label_noise": 0.25})),
    plan=Plan(
        None,
        (
            Claim(
                "0.1",
                "noise",
                "directional",
                Contrast(Reading("test_accuracy"), "noisy", "all", -1, 0.02),
            ),
        ),
        (),
    ),
    scales={"smoke": Scale((0, 1), Tuning((), (), ()))},
)
UNDEFINED = {"revival", "flipped_as_given_share", "flipped_as_clean_share"}
"""Not a number where no unit died, or no label is flipped."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("everything") / "out"
    engine = "native" if {"block", "onednn"} <= set(native.load().loaded) else "xla"
    options = ("--scale", "smoke", "--data", DATA, "--engine", engine, "--out", str(folder))
    assert run_study(STUDY, *options, figures=True) == 0
    return folder


def test_every_run_is_committed_whole_and_not_diverged(finished):
    cells = sorted((finished / "cells").glob("*/seed=*"))
    assert len(cells) == 4
    for cell in cells:
        done = json.loads((cell / "DONE.json").read_bytes())
        assert done["status"] == "done"


def test_no_number_is_missing_that_should_be_there(finished):
    seen = set()
    for file in (finished / "cells").glob("*/seed=*/metrics.parquet"):
        rows = pq.read_table(file).to_pandas()
        holes = rows[~np.isfinite(rows["value"])]
        assert set(holes["metric"]) <= UNDEFINED, sorted(set(holes["metric"]))
        seen |= set(rows["metric"])
    expected = {"train_loss", "test_auc", "flow", "dead_share", "update_cosine"}
    assert expected | {"batch_stats_loss_gap", "blocking_slope"} | UNDEFINED <= seen
    results = pq.read_table(finished / "results.parquet").to_pandas()
    assert np.isfinite(results["value"]).all()


def test_numbers_that_are_undefined_say_of_how_many_seeds_they_are(finished):
    summary = json.loads((finished / "summary.json").read_bytes())
    metrics = {arm["name"]: arm["metrics"] for arm in summary["arms"]}
    assert metrics["all"]["flipped_as_given_share"]["n"] == 0
    assert metrics["all"]["flipped_as_given_share"]["mean"] is None
    assert metrics["noisy"]["flipped_as_given_share"]["n"] == 2
    rows = pq.read_table(finished / "results.parquet").to_pandas()
    last = rows[rows["epoch"] == TINY["optim.epochs"]]
    for arm, found in metrics.items():
        assert found["test_accuracy"]["n"] == 2
        revival = last[(last["metric"] == "revival") & (last["arm"] == arm)]
        assert found["revival"]["n"] == revival["seed"].nunique()
