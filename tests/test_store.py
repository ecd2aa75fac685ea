"""Cells are whole or absent; a plan is pinned once; damage is noticed."""

import contextlib
import errno
import fcntl
import itertools
import json
import os
import stat
from contextlib import nullcontext

import pyarrow as pa
import pytest

from fishjax import cellfolder
from fishjax.fields import UsageError
from fishjax.files import write_atomically
from fishjax.store import DECLARED, PLAN, SweepFolder

PLANNED = {"study": "one", "scale": "smoke", "data": {"spec": "a"}, "seeds": [0, 1]}
PLANNED |= {"arms": {}}
A, B = (0, 1), (0, 1, 2)


@pytest.fixture
def sweep(tmp_path):
    return SweepFolder(tmp_path / "out")


def committed(sweep):
    cell = sweep.cell("arm-00000000/seed=0000")
    cell.start({"arm": "arm", "seed": 0})
    cell.log({"epoch": 0, "loss": None})
    cell.params.mkdir()
    (cell.params / "weights").write_bytes(b"w" * 100)
    cell.commit({"metrics": pa.table({"value": [1.0, 2.0]})}, {"status": "done"})
    return cell


def test_a_cell_exists_once_it_is_committed(sweep):
    cell = sweep.cell("arm-00000000/seed=0000")
    assert cell.outcome() is None
    cell.start({"arm": "arm", "seed": 0})
    assert cell.outcome() is None
    assert committed(sweep).outcome()["status"] == "done"
    assert cell.table("metrics")["value"].to_pylist() == [1.0, 2.0]
    assert sweep.started() == [({"arm": "arm", "seed": 0}, cell)]


@pytest.mark.parametrize("content", [b"[1]", b'{"x": 1}', b'"a"', b"{", b""])
def test_a_cell_that_does_not_say_whose_it_is_is_passed_over(sweep, content):
    cell = committed(sweep)
    (cell.path / "config.json").write_bytes(content)
    assert cell.about() is None
    assert sweep.started() == []


FILES = ["config.json", "metrics.jsonl", "metrics.parquet", "params/weights"]


@pytest.mark.parametrize("name", [*FILES, "DONE.json"])
def test_a_shortened_changed_or_missing_file_undoes_the_commit(sweep, name):
    file = committed(sweep).path / name
    content = file.read_bytes()
    cell = sweep.cell("arm-00000000/seed=0000")
    for damaged in (content[:-2], b"", b"\x00" + content[1:]):
        file.write_bytes(damaged)
        assert cell.outcome() is None
    file.unlink()
    assert cell.outcome() is None
    file.write_bytes(content)
    assert cell.outcome() is not None


@pytest.mark.parametrize("wrong", ["the cell a file", "its mark a folder"])
def test_what_is_in_a_cells_place_is_named_and_not_written_over(sweep, wrong):
    cell = sweep.cell("arm-00000000/seed=0000")
    if wrong == "the cell a file":
        cell.path.parent.mkdir(parents=True)
        cell.path.write_text("")
    else:
        (cell.path / "DONE.json").mkdir(parents=True)
    with pytest.raises(UsageError, match="seed=0000 cannot be read"):
        cell.outcome()


@pytest.mark.parametrize(
    "content",
    [b"[]", b"null", b"{}", b'{"files": {}}', b'{"status": "done"}', b"\xff"],
)
def test_a_strange_commit_mark_is_no_commit(sweep, content):
    cell = committed(sweep)
    (cell.path / "DONE.json").write_bytes(content)
    assert cell.outcome() is None


def test_what_others_leave_in_a_folder_is_no_part_of_the_cell(sweep):
    """An editor's swap file, say, which is gone when the editor is."""
    cell = sweep.cell("arm-00000000/seed=0000")
    cell.path.mkdir(parents=True)
    foreign = cell.path / ".metrics.jsonl.swp"
    foreign.write_text("vim")
    assert committed(sweep).outcome() is not None
    foreign.unlink()
    assert cell.outcome() is not None


def test_a_cell_that_cannot_be_read_just_now_is_not_taken_for_missing(sweep, monkeypatch):
    cell = committed(sweep)

    def stale(_):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(cellfolder, "sha256", stale)
    with pytest.raises(UsageError, match=r"seed=0000 cannot be read: .*Stale"):
        cell.outcome()


def test_starting_again_drops_what_an_unfinished_start_left(sweep):
    cell = sweep.cell("a/seed=0000")
    cell.start({})
    cell.log({"epoch": 0})
    with open(cell.path / "metrics.jsonl", "ab") as file:
        file.write(b'{"epoch": 1, "lo')
    cell.start({})
    cell.log({"epoch": 0})
    lines = (cell.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"epoch": 0}]


def test_the_first_start_pins_the_plan_and_seeds_may_grow(sweep):
    assert sweep.pin(PLANNED, growing="seeds") == PLANNED
    assert sweep.pin(PLANNED, growing="seeds") == PLANNED
    assert sweep.pin({**PLANNED, "seeds": [1, 2]}, growing="seeds")["seeds"] == [0, 1, 2]
    assert sweep.plan()["seeds"] == [0, 1, 2]


@pytest.mark.parametrize("changed", [{"study": "two"}, {"data": {"spec": "b"}}, {"more": 1}])
def test_another_study_is_refused_by_what_differs(sweep, changed):
    sweep.pin(PLANNED, growing="seeds")
    with pytest.raises(UsageError, match=f"another study: its {next(iter(changed))}"):
        sweep.pin({**PLANNED, **changed}, growing="seeds")
    assert sweep.plan() == PLANNED


def test_what_was_declared_stays_as_the_first_start_had_it(sweep):
    sweep.pin({**PLANNED, DECLARED: {"plan": 1}}, growing="seeds")
    for later in ({DECLARED: {"plan": 2}}, {}):
        pinned = sweep.pin({**PLANNED, **later, "seeds": [2]}, growing="seeds")
        assert pinned[DECLARED] == {"plan": 1}
    assert sweep.plan() == {**PLANNED, DECLARED: {"plan": 1}, "seeds": [0, 1, 2]}


def test_a_folder_of_something_else_is_refused_untouched(sweep):
    sweep.path.mkdir()
    (sweep.path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="holds something else"):
        sweep.pin(PLANNED, growing="seeds")
    assert [file.name for file in sweep.path.iterdir()] == ["thesis.tex"]


def test_a_start_that_is_being_written_beside_is_no_stranger(sweep):
    sweep.path.mkdir()
    (sweep.path / ".writing-abc").write_text("{")
    assert sweep.pin(PLANNED, growing="seeds") == PLANNED


def test_a_share_is_worked_at_by_one_process(sweep):
    """In the same process a file opened anew is locked as another process's would be."""
    sweep.pin(PLANNED, growing="seeds")
    with sweep.alone(0, 2, (0, 1)):
        with sweep.alone(1, 2, (0, 1)):
            pass
        with (
            pytest.raises(UsageError, match="another process runs this"),
            sweep.alone(0, 2, (0, 1)),
        ):
            pass
    with sweep.alone(0, 2, (0, 1)):
        assert sweep.pin(PLANNED, growing="seeds") == PLANNED


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0, 1, A), (1, 2, A)),
        ((1, 2, A), (0, 1, A)),
        ((0, 2, A), (1, 4, A)),
        ((0, 2, A), (1, 2, B)),
    ],
)
def test_shares_of_two_divisions_are_not_worked_at_together(sweep, first, second):
    """They hold the same cells."""
    sweep.pin(PLANNED, growing="seeds")
    with sweep.alone(*first):
        with pytest.raises(UsageError, match="another process runs this"), sweep.alone(*second):
            pass
        with pytest.raises(UsageError, match="another process runs this"), sweep.alone(*second):
            pass
    with sweep.alone(*second):
        pass


def test_a_folder_of_something_else_is_not_locked(sweep):
    sweep.path.mkdir()
    (sweep.path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="holds something else"), sweep.alone(0, 1, (0, 1)):
        pass
    assert [file.name for file in sweep.path.iterdir()] == ["thesis.tex"]


def test_a_file_system_without_locks_is_not_guarded(sweep, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    sweep.pin(PLANNED, growing="seeds")
    with sweep.alone(0, 1, (0, 1)), sweep.alone(0, 1, (0, 1)):
        pass


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write to"):
        SweepFolder(tmp_path / "file" / "out").pin(PLANNED, growing="seeds")


@pytest.mark.parametrize("content", [b"", b"{", b'["list"]', b'{"seeds": [0, 1]}', b"\xff"])
def test_a_damaged_plan_is_named(sweep, content):
    sweep.path.mkdir()
    (sweep.path / PLAN).write_bytes(content)
    with pytest.raises(UsageError, match=PLAN):
        sweep.pin(PLANNED, growing="seeds")


def flipped(content):
    """`content` with each of its bits the other way, one at a time."""
    for place, bit in itertools.product(range(len(content)), range(8)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        yield bytes(damaged)


def test_a_bit_that_flips_in_a_commit_mark_is_seen_or_says_nothing_else(sweep):
    cell = committed(sweep)
    before, mark = cell.outcome(), cell.path / "DONE.json"
    for damaged in flipped(mark.read_bytes()):
        mark.write_bytes(damaged)
        assert cell.outcome() in (None, before), damaged


def test_a_bit_that_flips_in_a_plan_is_seen_or_says_nothing_else(sweep):
    plan = sweep.pin(PLANNED, growing="seeds")
    for damaged in flipped((sweep.path / PLAN).read_bytes()):
        (sweep.path / PLAN).write_bytes(damaged)
        with contextlib.suppress(UsageError):
            assert sweep.plan() == plan, damaged


def test_no_study_is_named(tmp_path):
    with pytest.raises(UsageError, match="holds no study"):
        SweepFolder(tmp_path).plan()


def test_timing_adds_up_over_starts_and_a_torn_line_is_left_out(sweep):
    sweep.path.mkdir()
    sweep.log_timing({"run_s": 1.5, "run_steps": 10})
    with open(sweep.path / "timing.jsonl", "ab") as file:
        file.write(b'[1]\n{"run_s": "x"}\n{"run_s": NaN}\n{"run_s": 1e905}\n\xff{}\n{"run_s": 3')
    sweep.log_timing({"run_s": 2.0, "run_steps": 5})
    assert sweep.timing() == {"run_s": 3.5, "run_steps": 15}


def test_a_lock_that_cannot_be_opened_is_named(sweep):
    (sweep.path / ".lock-0-of-1").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"cannot write to .*\.lock-0-of-1"), sweep.alone(0, 1, A):
        pass


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_folder_that_cannot_be_synced_is_no_obstacle_but_a_broken_disk_is(
    tmp_path, monkeypatch, number
):
    def fails_on_folders(descriptor, sync=os.fsync):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fails_on_folders)
    expected = pytest.raises(OSError, match="error") if number == errno.EIO else nullcontext()
    with expected:
        write_atomically(tmp_path / "x.json", b"new")
    assert (tmp_path / "x.json").read_bytes() == b"new"


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path, monkeypatch):
    target = tmp_path / "x.json"
    write_atomically(target, b"old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
