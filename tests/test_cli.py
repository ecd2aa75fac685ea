"""`fishjax status` and `fishjax table` on a study, on a search, and on what is neither."""

import json

import pytest
from studies import made_up_summary

from fishjax.cellfolder import CellFolder
from fishjax.cli import main
from fishjax.fields import UsageError
from fishjax.store import SweepFolder

PLAN = {
    "study": "two",
    "scale": "laptop",
    "data": {"spec": "reef"},
    "arms": {"relu": {}, "leaky": {}},
    "seeds": [0, 1],
}
SEARCH = {
    "study": "two",
    "scenario": "S0",
    "data": {"spec": "reef", "hash": "0"},
    "seeds": [1100],
    "tuning_seeds": [1000],
    "rates": [0.1],
    "settings_tried": 1,
    "tried_earlier": 0,
    "knobs": [{"key": "hyper.init_gain", "values": [2.0], "arms": ["relu"]}],
    "target": {},
    "tried": [
        {
            "setting": {"hyper.init_gain": 2.0},
            "rates": {"relu": 0.1},
            "measured": {},
            "reproduced": True,
        }
    ],
}


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(each) for each in arguments])
    return stop.value.code


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out"


def pinned(folder, plan):
    sweep = SweepFolder(folder)
    sweep.pin(plan, growing="seeds")
    for seed, status in ((0, "done"), (1, "diverged"), (2, None)):
        cell = sweep.cell(f"relu-00/seed={seed:04d}")
        cell.start({"arm": "relu", "seed": seed})
        if status:
            cell.commit({}, {"status": status})


def test_status_counts_the_runs_of_the_arms(folder, capsys):
    pinned(folder, PLAN)
    assert run("status", folder) == 0
    first, arm, last = capsys.readouterr().out.splitlines()
    assert first == "two at scale laptop on reef"
    assert arm.split(maxsplit=1) == ["relu", "1 diverged, 1 done, 1 unfinished"]
    assert last == "2 of 4 runs of the arms are finished"


def test_a_run_that_was_trained_again_at_another_rate_is_one_run(folder, capsys):
    pinned(folder, PLAN)
    again = SweepFolder(folder).cell("relu-ff/seed=0000")
    again.start({"arm": "relu", "seed": 0})
    again.commit({}, {"status": "done"})
    assert run("status", folder) == 0
    assert capsys.readouterr().out.endswith("\n2 of 4 runs of the arms are finished\n")


def test_status_counts_a_cell_that_cannot_be_read(folder, capsys, monkeypatch):
    pinned(folder, PLAN)

    def outcome(cell, read=CellFolder.outcome):
        if cell.path.name == "seed=0000":
            raise UsageError("stale file handle")
        return read(cell)

    monkeypatch.setattr(CellFolder, "outcome", outcome)
    assert run("status", folder) == 0
    _, arm, last = capsys.readouterr().out.splitlines()
    assert "1 unreadable" in arm
    assert last == "1 of 4 runs of the arms are finished"


def test_status_of_a_search_counts_its_runs(folder, capsys):
    pinned(folder, {**PLAN, "arms": {}, "search": {}})
    assert run("status", folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "search for the knobs of two at scale laptop on reef"
    assert lines[-1] == "2 runs are finished"


def test_tables_of_a_study_and_of_a_search(folder, capsys):
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(made_up_summary()))
    assert run("table", folder) == 0
    assert "| relu |" in capsys.readouterr().out
    (folder / "summary.json").rename(folder / "elsewhere.json")
    (folder / "search.json").write_text(json.dumps(SEARCH))
    assert run("table", folder) == 0
    assert "hyper.init" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no summary.json"),
        ("{", "summary.json cannot be read"),
        ("[]", "summary.json is damaged"),
        ("{}", "summary.json is damaged"),
    ],
)
def test_a_folder_without_a_whole_summary_is_refused(folder, capsys, content, message):
    folder.mkdir()
    if content is not None:
        (folder / "summary.json").write_text(content)
    assert run("table", folder) == 2
    assert message in capsys.readouterr().err
