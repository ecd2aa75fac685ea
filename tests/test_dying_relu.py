"""The study itself: at smoke scale on both sources, and stopped in the middle."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from experiments import dying_relu
from tests.commands import derived, run_study
from tests.conftest import CACHE

ROOT = pathlib.Path(__file__).parent.parent


def command(folder: pathlib.Path) -> list[str]:
    settings = ["data.train_size=160", "data.val_size=16", "data.image_size=16", "optim.epochs=60"]
    return [
        *(sys.executable, "-m", "experiments.dying_relu", "--scale", "smoke"),
        *("--seeds", "0", "--data", "reef:train=256,test=32"),
        *("--out", str(folder), "--set", *settings),
    ]


def start(folder: pathlib.Path) -> subprocess.Popen:
    env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(CACHE)}
    return subprocess.Popen(
        command(folder), cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(folder: pathlib.Path) -> None:
    with start(folder) as process:
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def done(folder: pathlib.Path) -> int:
    return len(list(folder.rglob("DONE.json")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "out"
    finish(folder)
    return folder


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_study_that_is_stopped_in_the_middle_ends_in_the_same_tables(whole, tmp_path, how):
    broken = tmp_path / "broken"
    with start(broken) as process:
        deadline = time.monotonic() + 240
        while done(broken) < 4 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(how)
        process.communicate(timeout=120)
    assert done(broken) < 16, "it was over before it could be stopped"
    assert process.returncode == (-9 if how == signal.SIGKILL else 75)
    finish(broken)
    assert derived(broken) == derived(whole)


def test_the_study_runs_at_smoke_scale_on_photographs(photographs, tmp_path, capfd):
    options = ("--scale", "smoke", "--data", f"f4k:{photographs}", "--out", str(tmp_path / "out"))
    assert run_study(dying_relu.STUDY, *options) == 0
    printed = capfd.readouterr().out
    for id in ("S3", "3.1", "3.2", "3.3", "3.4"):
        assert id in printed
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert {claim["verdict"] for claim in summary["claims"]} == {"too few seeds", "by construction"}


def test_the_study_runs_at_smoke_scale_on_reef(tmp_path, capfd):
    options = ("--scale", "smoke", "--data", "reef", "--out", str(tmp_path / "out"))
    assert run_study(dying_relu.STUDY, *options) == 0
    assert str(tmp_path / "out") in capfd.readouterr().out.replace("\n", "")
