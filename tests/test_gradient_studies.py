"""The studies of vanishing gradients and of batch norm's place, at smoke scale on both sources."""

import json

import pytest

from experiments import batchnorm_placement, vanishing_gradient
from tests.commands import run_study

IDS = {
    vanishing_gradient: ["1.1", "1.1", "1.2", "1.2", "1.3"],
    batchnorm_placement: ["1.4", "1.4", "1.4", "1.4", "1.5", "1.5", "1.6"],
}


@pytest.mark.parametrize("study", IDS, ids=lambda study: study.STUDY.name)
@pytest.mark.parametrize("source", ["reef", "photographs"])
def test_the_study_runs_at_smoke_scale(study, source, photographs, tmp_path, capfd):
    data = "reef" if source == "reef" else f"f4k:{photographs}"
    options = ("--scale", "smoke", "--data", data, "--out", str(tmp_path / "out"))
    assert run_study(study.STUDY, *options) == 0
    assert "S1" in capfd.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert [claim["id"] for claim in summary["claims"]] == IDS[study]
    assert {claim["verdict"] for claim in summary["claims"]} <= {"too few seeds", "by construction"}
    assert all(
        figure["mean"] is not None for figure in summary["scenarios"][0]["measured"].values()
    )
