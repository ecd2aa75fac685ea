"""The study itself, at smoke scale on both sources."""

import json
import pathlib

import pytest

from experiments import dying_relu
from tests.commands import run_study

pytestmark = pytest.mark.slow


def verdicts(folder: pathlib.Path) -> set[str]:
    summary = json.loads((folder / "summary.json").read_bytes())
    return {claim["verdict"] for claim in summary["claims"]}


def test_the_study_runs_at_smoke_scale_on_photographs(photographs, tmp_path, capfd):
    options = ("--scale", "smoke", "--data", f"f4k:{photographs}", "--out", str(tmp_path / "out"))
    assert run_study(dying_relu.STUDY, *options, figures=True) == 0
    printed = capfd.readouterr().out
    for id in ("S3", "3.1", "3.2", "3.3", "3.4"):
        assert id in printed
    assert verdicts(tmp_path / "out") == {"too few seeds"}, "nothing was fitted to photographs"


def test_the_study_runs_at_smoke_scale_on_reef(tmp_path, capfd):
    options = ("--scale", "smoke", "--data", "reef", "--out", str(tmp_path / "out"))
    assert run_study(dying_relu.STUDY, *options, figures=True) == 0
    assert str(tmp_path / "out") in capfd.readouterr().out.replace("\n", "")
    assert verdicts(tmp_path / "out") == {"too few seeds", "by construction"}
