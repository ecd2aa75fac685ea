"""Packs are committed beside training: none waits, none is lost, no error is."""

import threading

import pytest

from fishjax.engine import choice
from fishjax.engine.keeper import Keeper
from fishjax.engine.runner import Runner
from fishjax.exits import Stopped
from fishjax.session import Session
from fishjax.study import Request
from tests.commands import run_study
from tests.tiny_study import DATA, STUDY

LAST = {0, 3}
"""The packs of two cells that no other of their stage follows: one that tunes, three of arms."""


@pytest.fixture(autouse=True)
def packs_of_two(monkeypatch):
    monkeypatch.setattr(choice, "planned", lambda *_: 2)


def test_a_pack_is_committed_while_the_next_one_trains(tmp_path, monkeypatch):
    trains, met = [threading.Event() for _ in range(5)], []
    begun, commits = iter(trains), iter(range(4))
    train, commit = Runner._train, Keeper._commit

    def training(self, *args):
        next(begun).set()
        return train(self, *args)

    def committing(self, trained):
        number = next(commits)
        met.append(number in LAST or trains[number + 1].wait(30))
        return commit(self, trained)

    monkeypatch.setattr(Runner, "_train", training)
    monkeypatch.setattr(Keeper, "_commit", committing)
    assert run_study(STUDY, "--data", DATA, "--out", str(tmp_path / "out")) == 0
    assert met == [True] * 4


@pytest.mark.parametrize("further", [0, 1, 2], ids=["between packs", "within one", "after all"])
def test_what_was_trained_to_its_end_is_kept_when_it_is_stopped(tmp_path, further):
    """Within the second pack one chunk is told of two; after the third nothing is left to tell."""
    job = Session(STUDY, Request(scale="laptop", data=DATA, out=tmp_path / "out"))
    job.pin()
    packs = job.place.missing(job.expected_stage())
    runner, told = job.place.runner(job.stages()), []
    ends = (packs[0].setup.chunks, packs[0].setup.chunks + 1, 3 * packs[0].setup.chunks + 1)

    def tick(steps):
        told.append(steps)
        if len(told) == ends[further]:
            raise Stopped

    with pytest.raises(Stopped):
        job.place.run(job.expected_stage(), runner, tick)
    assert len(list(tmp_path.rglob("DONE.json"))) == (2, 2, 6)[further]
    assert runner.usage.run_steps == sum(told)


@pytest.mark.parametrize("error", [OSError("no space left"), MemoryError("no space left")])
def test_a_pack_that_cannot_be_committed_ends_the_study(tmp_path, monkeypatch, error, capfd):
    """The second, while the third trains, which is kept; no pack is taken for too wide."""
    commits, commit = iter(range(4)), Keeper._commit

    def full(self, trained):
        if next(commits) == 1:
            raise error
        commit(self, trained)

    monkeypatch.setattr(Keeper, "_commit", full)
    with pytest.raises(type(error), match="no space left"):
        run_study(STUDY, "--data", DATA, "--out", str(tmp_path / "out"))
    assert len(list(tmp_path.rglob("DONE.json"))) == 4
    assert "do not fit" not in capfd.readouterr().err
