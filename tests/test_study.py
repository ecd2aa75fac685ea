"""A study from the command line to its tables: resumed, sharded, misused, loaded back."""

import dataclasses
import json
import math
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

import fishjax
from fishjax import workplace
from fishjax.data.source import open_source
from fishjax.engine import choice
from fishjax.engine.program import Program
from fishjax.evidence.plan import Claim, Contrast, Plan, Reading, Scenario, Target
from fishjax.fields import UsageError
from fishjax.files import sealed, unsealed, write_json
from fishjax.results import collect
from fishjax.settings import override
from fishjax.store import SweepFolder
from fishjax.study import Scale, Search, Study
from fishjax.sweep import Arm, Tuning, parse_seeds, parse_shard
from tests.commands import derived, run_study
from tests.conftest import CACHE
from tests.tiny_study import ACCURACY, DATA, STUDY

ROOT = pathlib.Path(__file__).parent.parent


def run(*options: str, figures: bool = False) -> int:
    return run_study(STUDY, "--data", DATA, *options, figures=figures)


@pytest.fixture(scope="module")
def lowered():
    """The programs that `finished` was computed by, as often as they were compiled."""
    return []


@pytest.fixture(scope="module")
def finished(tmp_path_factory, lowered):
    folder = tmp_path_factory.mktemp("study") / "out"
    original = Program.lower

    def counting(self, piece, *args):
        lowered.append((self.setup, piece.__name__))
        return original(self, piece, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Program, "lower", counting)
        assert run("--out", str(folder), figures=True) == 0
    return folder


def test_a_study_leaves_the_files_of_the_design(finished):
    for name in ("sweep.json", "env.json", "summary.json", "results.parquet"):
        assert (finished / name).is_file()
    for pattern in ("samples/*.png", "tables/*.md", "tables/*.tex", "tables/*.csv"):
        assert list(finished.glob(pattern)), pattern
    assert {file.suffix for file in (finished / "figures").iterdir()} == {".svg", ".pdf"}
    cells = list((finished / "cells").glob("plain-*/seed=0001"))
    assert len(cells) == 1
    names = {"config.json", "metrics.jsonl", "metrics.parquet", "predictions.parquet", "params"}
    assert {path.name for path in cells[0].iterdir()} == {*names, "DONE.json"}
    assert not list(finished.rglob("*.tmp"))


def test_the_summary_has_the_fixed_keys_and_counts_the_diverged(finished):
    summary = json.loads((finished / "summary.json").read_bytes())
    fixed = {"schema", "study", "data", "seeds", "arms", "scenarios", "claims", "timing"}
    assert fixed <= set(summary)
    assert summary["seeds"] == [0, 1]
    wild = next(arm for arm in summary["arms"] if arm["name"] == "wild")
    assert (wild["n"], wild["n_diverged"]) == (2, 2)
    assert wild["metrics"]["test_accuracy"]["mean"] == pytest.approx(1 / 3)
    assert {"compile_s", "run_s", "total_s", "run_steps", "run_steps_per_s"} <= set(
        summary["timing"]
    )
    assert summary["timing"]["run_steps"] == (2 + 6) * 4 * 2
    assert summary["claims"][0]["verdict"] == "too few seeds"
    assert set(summary["tuning"]["chosen"]) == {"plain"}


def test_a_second_start_runs_nothing_and_says_the_same(finished, capfd):
    before = derived(finished)
    assert run("--out", str(finished)) == 0
    assert "0 run-steps of tuning, 0 run-steps of arms" in " ".join(capfd.readouterr().err.split())
    assert derived(finished) == before


def test_a_second_start_reads_tuning_and_arms_once(finished, monkeypatch):
    read = []

    def counting(sweep, folders, classes):
        read.append(len(folders))
        return collect(sweep, folders, classes)

    monkeypatch.setattr(workplace, "collect", counting)
    assert run("--out", str(finished)) == 0
    assert read == [2, 6]


def test_a_study_without_a_tuned_arm_runs(tmp_path):
    arms = (
        Arm("plain", {"hyper.lr": 0.02}),
        Arm("other", {"hyper.lr": 0.05, "hyper.clip": math.inf}),
    )
    claim = Claim("0.1", "rate", "directional", Contrast(ACCURACY, "other", "plain", 1, 0.02))
    fixed = Study(
        name="fixed",
        base=override(STUDY.base, {"optim.epochs": 2, "hyper.clip": 1.0}),
        arms=arms,
        plan=Plan(None, (claim,), ()),
        scales={"laptop": Scale((0,), Tuning((), (), ()))},
    )
    folder = tmp_path / "out"
    assert run_study(fixed, "--data", DATA, "--out", str(folder)) == 0
    summary = json.loads((folder / "summary.json").read_bytes())
    assert [arm["name"] for arm in summary["arms"]] == ["plain", "other"]
    assert summary["tuning"]["chosen"] == {}
    assert summary["arms"][1]["overrides"] == {"hyper.lr": 0.05, "hyper.clip": "inf"}


def test_an_arm_of_images_in_another_size_is_refused(tmp_path, capsys):
    """The pool holds one size, and a network with a global pool would train on any."""
    arms = (*STUDY.arms, Arm("large", {"hyper.lr": 0.02, "data.image_size": 32}))
    other = dataclasses.replace(STUDY, arms=arms)
    assert run_study(other, "--data", DATA, "--out", str(tmp_path / "out")) == 2
    assert "arm 'large' asks for images of 32 pixels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_cells_that_other_code_trained_are_told(finished, capfd):
    before = derived(finished)
    done = next((finished / "cells").glob("other-*/seed=0000/DONE.json"))
    content = done.read_bytes()
    other = {"code": "fedcba9876", "jax": "0.1", "jaxlib": "0.1"}
    write_json(done, sealed({**unsealed(content), "trainer": other}))
    assert run("--out", str(finished)) == 0
    told = json.loads((finished / "summary.json").read_bytes())["trained_by"]
    assert [each["cells"] for each in told] == [7, 1]
    shown = " ".join(capfd.readouterr().out.split())
    assert "Its cells are from 2 versions of code or compiler: 7 by code" in shown
    assert "1 by code fedcba98 with jaxlib 0.1." in shown
    assert "fedcba98" in (finished / "tables" / "claims.md").read_text()
    done.write_bytes(content)
    assert run("--out", str(finished)) == 0
    assert derived(finished) == before


def test_a_damaged_cell_is_computed_again(finished):
    before = derived(finished)
    file = next((finished / "cells").glob("other-*/seed=0000/metrics.parquet"))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert run("--out", str(finished)) == 0
    assert derived(finished) == before
    assert file.read_bytes() == content


def stopped(folder: pathlib.Path, *moment: str) -> tuple[int, int]:
    """The exit code of a start to which a signal comes at that moment, and the cells there are."""
    command = [sys.executable, "-m", "tests.interrupted", *moment]
    env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(CACHE), "JAX_NUM_CPU_DEVICES": "2"}
    options = ["--data", DATA, "--out", str(folder)]
    done = subprocess.run(
        [*command, *options],
        cwd=ROOT,
        env=env,
        capture_output=True,
        timeout=300,
    )
    return done.returncode, len(list(folder.rglob("DONE.json")))


@pytest.mark.parametrize(
    "started", [["-m", "tests.tiny_study"], ["tests/tiny_study.py"]], ids=["module", "file"]
)
def test_help_names_the_command_that_was_typed(started):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *started, "--help"]
    said = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert said.stdout.startswith(f"usage: python {' '.join(started)} ["), said.stderr


@pytest.mark.slow
def test_a_study_that_is_stopped_again_and_again_ends_in_the_same_tables(finished, tmp_path):
    folder = tmp_path / "out"
    assert stopped(folder, "SIGKILL", "commit", "2") == (-signal.SIGKILL, 1)
    assert stopped(folder, "SIGTERM", "commit", "1") == (75, 2)
    assert stopped(folder, "SIGINT", "log", "3") == (75, 2)
    assert stopped(folder, "SIGTERM", "log", "12") == (75, 8), "a trained pack is committed first"
    assert run("--out", str(folder)) == 0
    assert derived(folder) == derived(finished)


def test_shards_end_in_the_same_tables(finished, tmp_path):
    folder = tmp_path / "out"
    codes = [run("--out", str(folder), "--shard", f"{i}/2") for i in (1, 0, 1, 0)]
    assert codes[-1] == 0
    assert set(codes) <= {0, 75}
    assert derived(folder) == derived(finished)


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_file_is_no_folder_to_write_to(options, tmp_path, capsys):
    file = tmp_path / "out"
    file.write_text("mine")
    assert run("--out", str(file), *options) == 2
    assert f"{file} is not a folder; name another --out" in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_more_seeds_keep_the_finished_cells(finished, tmp_path):
    folder = tmp_path / "out"
    assert run("--out", str(folder), "--seeds", "1:2") == 0
    stamps = {file: file.stat().st_mtime_ns for file in folder.rglob("DONE.json")}
    assert run("--out", str(folder), "--seeds", "0:2") == 0
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in stamps.items())
    grown, whole = (
        {name: file.read_bytes() for file in (each / "tables").iterdir() if (name := file.name)}
        for each in (folder, finished)
    )
    assert {name for name in whole if grown[name] != whole[name]} == {"claims.md", "claims.tex"}
    assert b"Seeds were added after what came of 1 of them" in grown["claims.md"]


def test_that_fewer_seeds_were_looked_at_is_remembered(finished, tmp_path, capsys):
    """Whatever becomes of their summary; a folder that was only resumed has no such look."""
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    assert json.loads((folder / "summary.json").read_bytes())["looks"] == []
    (folder / "looks.jsonl").write_text("[1]\n[0,")
    for _ in range(2):
        (folder / "summary.json").unlink()
        assert run("--out", str(folder)) == 0
        assert "Seeds were added after" in capsys.readouterr().out
        assert json.loads((folder / "summary.json").read_bytes())["looks"] == [[1]]


def test_of_two_networks_of_an_arm_and_seed_the_one_committed_last_comes_back(finished, tmp_path):
    """A lost tuning cell, trained again elsewhere, may have chosen another rate."""
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    (cell,) = (folder / "cells").glob("wild-*/seed=0001")
    for name, digest in (("before", "00000000"), ("after", "ffffffff")):
        other = cell.parent.with_name(f"wild-{digest}") / cell.name
        shutil.copytree(cell, other)
        about = json.loads((other / "config.json").read_bytes())
        write_json(other / "config.json", {**about, "species": [name, *about["species"]]})
        SweepFolder(folder).cell(f"wild-{digest}/seed=0001").commit({}, {"status": "done"})
    os.utime(folder / "cells" / "wild-ffffffff" / cell.name / "DONE.json", (0, 0))
    assert fishjax.load(folder, "wild", 1).species[0] == "before"


def test_a_network_comes_back_and_predicts_what_was_stored(finished):
    trained = fishjax.load(finished, "plain", 1)
    cell = next((finished / "cells").glob("plain-*/seed=0001"))
    stored = pq.read_table(cell / "predictions.parquet").to_pandas()
    images = open_source(DATA, 16).images[stored["example"]]
    logits = stored[[f"logit_{k}" for k in range(3)]].to_numpy()
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(trained.predict(images), expected, rtol=1e-4, atol=1e-6)
    assert len(trained.species) == 3
    with pytest.raises(ValueError, match="takes uint8"):
        trained.predict(images / 255.0)
    with pytest.raises(UsageError, match="did you mean 'plain'"):
        fishjax.load(finished, "plane", 1)
    with pytest.raises(UsageError, match="no finished seed 7"):
        fishjax.load(finished, "plain", 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "model.dept=3"], "did you mean 'model.depth'"),
        (["--set", "model.depth"], "takes key=value"),
        (["--set", "hyper.momentum=2"], "out of bounds"),
        (["--set", "hyper.lr=0.1"], "has no effect"),
        (
            ["--set", "watch.every=4"],
            "reads test_accuracy at epoch 2, and arm 'plain' measures it at 0, 4",
        ),
        (["--scale", "laptob"], "did you mean 'laptop'"),
        (["--seeds", "8:0"], "is empty"),
        (["--seeds", "0:0"], "is empty"),
        (["--seeds", "2,1"], "must rise"),
        (["--seeds", "1000:1008"], "kept for tuning"),
        (["--seeds", "a"], "takes 0:8"),
        (["--seeds", ""], "takes 0:8"),
        (["--shard", "2/2"], "takes i/n"),
        (["--data", "reeef"], "did you mean|nearest|reef"),
        (["--data", ""], "unknown data ''"),
        (["--set", "hyper.leaky_slope=0.2"], "has no effect: it needs model.activation=leaky_relu"),
        (["--data", "folder:no/such/place"], "no/such/place"),
        (["--set", "data.train_size=5000"], "data.train_size"),
        (["--set", "hyper.lr=1", "--set", "hyper.lr=2"], "hyper.lr is given twice, as 1 and 2"),
        (["--seeds", "4294967296"], "below 2\\^32"),
        (["--seeds", "0:10000000000000000000"], "are more than 1,000,000"),
    ],
)
def test_bad_requests_exit_with_2_name_the_thing_and_write_nothing(
    options, message, tmp_path, capsys
):
    assert run("--out", str(tmp_path / "out"), *options) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_another_study_is_left_alone(finished, capsys):
    before = derived(finished)
    assert run("--out", str(finished), "--set", "model.depth=1") == 2
    assert "another study: its base.model.depth is 2, not 1" in capsys.readouterr().err
    assert derived(finished) == before


def test_a_start_that_is_refused_beside_another_adds_no_seeds(finished, tmp_path, capsys):
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    before = (folder / "sweep.json").read_bytes(), (folder / "env.json").read_bytes()
    with SweepFolder(folder).alone(0, 1, (0, 1)):
        assert run("--out", str(folder), "--seeds", "0:9") == 2
    assert "another process runs this" in capsys.readouterr().err
    assert before == ((folder / "sweep.json").read_bytes(), (folder / "env.json").read_bytes())


def test_every_setting_counts_and_every_seed_is_announced(finished, tmp_path, capfd):
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    pinned = json.loads((folder / "sweep.json").read_bytes())["seeds"]
    assert run("--out", str(folder), "--seeds", "7", "--dry-run") == 0
    assert f"x {len({*pinned, 7})} seeds" in capfd.readouterr().err
    both = ("--set", "model.depth=1", "--set", "optim.batch_size=8")
    assert run("--out", str(folder), *both) == 2
    assert "its base.model.depth is 2, not 1" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        (Tuning(("plain",), (0.1,), (0, 1)), "rates are tuned on seeds from 1000 on"),
        (Tuning(("plain",), (), (1000,)), "tunes plain at no rate or on no seed"),
        (Tuning(("plain",), (0.1,), (1100,)), "tunes and searches on seed 1100"),
    ],
)
def test_rates_are_tuned_on_seeds_of_their_own(tuning, message):
    search = Search(knobs=(), seeds=(1100, 1101))
    scales = {"laptop": Scale(seeds=(0, 1), tuning=tuning)}
    with pytest.raises(UsageError, match=message):
        Study("mine", STUDY.base, STUDY.arms, Plan(None, ()), scales, search)


def test_a_plan_changed_afterwards_is_reported_with_both_versions(finished, tmp_path, capsys):
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    (claim,) = STUDY.plan.claims
    other = dataclasses.replace(claim, outcome=dataclasses.replace(claim.outcome, delta=0.5))
    plan = dataclasses.replace(STUDY.plan, claims=(other,))
    changed = dataclasses.replace(STUDY, plan=plan)
    assert run_study(changed, "--data", DATA, "--out", str(folder)) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "The plan was changed after it was pinned" in printed
    assert "both versions are given of claim 0.1" in printed
    summary = json.loads((folder / "summary.json").read_bytes())
    assert [c["delta"] for c in summary["plan_changed"]["claims"]] == [0.02]
    assert [c["delta"] for c in summary["claims"]] == [0.5]
    assert "as pinned" in (folder / "tables" / "claims.md").read_text()
    assert run("--out", str(folder)) == 0
    assert derived(folder) == derived(finished)


def test_species_with_too_few_test_images_are_left_out_of_auc(tmp_path, capsys):
    """Five test images a species are too few for an interval, and nothing is left to average."""
    bare = dataclasses.replace(STUDY, arms=STUDY.arms[:1], plan=Plan(STUDY.plan.scenario, ()))
    data = "reef:classes=3,train=96,test=15"
    assert run_study(bare, "--data", data, "--out", str(tmp_path / "out")) == 0
    assert "Left out of AUC, for too few test images" in " ".join(capsys.readouterr().out.split())
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert list(summary["auc_without"].values()) == [5, 5, 5]
    assert summary["arms"][0]["metrics"]["test_auc"]["mean"] is None
    assert summary["arms"][0]["metrics"]["val_auc"]["mean"] is not None


def test_a_species_that_the_plan_mistypes_is_refused_before_anything_runs(tmp_path, capsys):
    target = Target("auc", "0.55", Reading("test_auc_of", species="#4"), "plain", low=0.5)
    typo = dataclasses.replace(STUDY, plan=Plan(Scenario("S0", "rare", (target,)), ()))
    assert run_study(typo, "--data", DATA, "--out", str(tmp_path / "out")) == 2
    assert "unknown species in the plan of tiny: '#4'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_the_cost_and_writes_nothing(tmp_path, capfd):
    assert run("--out", str(tmp_path / "out"), "--dry-run") == 0
    assert "48 run-steps of arms" in " ".join(capfd.readouterr().err.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("finished")
def test_no_program_is_compiled_twice_for_one_signature(lowered):
    assert len(lowered) == len(set(lowered)) == 4


def test_text_forms_of_seeds_and_shards():
    assert parse_seeds("0:3") == (0, 1, 2)
    assert parse_seeds("5") == (5,)
    assert parse_seeds("0,2,7") == (0, 2, 7)
    assert parse_shard("1/4") == (1, 4)


def test_a_folder_is_refused_before_anything_is_measured_or_compiled(tmp_path, monkeypatch, capsys):
    def never(*_: object) -> None:
        raise AssertionError("measured for a folder that is refused")

    monkeypatch.setattr(choice, "measured", never)
    (tmp_path / "letter.txt").write_text("dear fish")
    assert run("--out", str(tmp_path)) == 2
    assert "holds something else" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run("--out", str(tmp_path / "file" / "out")) == 2
