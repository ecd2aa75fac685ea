"""Packs that fit: the memory line, the width that is pinned and obeyed, half a pack on failure."""

import dataclasses
import json
import math
import os

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

from fishjax.config import Config
from fishjax.engine import choice, devices, groups, memory, widths
from fishjax.engine.packs import pack
from fishjax.engine.program import Program
from fishjax.engine.widths import Line, bound, even, half, lines, most, planned, read, widened
from fishjax.settings import override
from fishjax.sweep import Arm, Cell, cells
from tests.commands import derived, run_study
from tests.runs import TINY, make_feed, make_slots, tiny
from tests.tiny_study import DATA, STUDY

CALM = dataclasses.replace(STUDY, name="calm")


def program_and_pack(mapping):
    setup, hyper = tiny(model__depth=1, model__dense=())
    return (Program(setup, mapping), *make_slots([hyper], [0], make_feed(setup)))


@pytest.fixture(scope="module", params=["map", pytest.param("vmap", marks=pytest.mark.slow)])
def measured(request):
    """A program, the pool and a pack of one, and the lines of its pieces."""
    program, shared, slots = program_and_pack(request.param)
    read_lines = lines(program, shared, slots, jax.local_device_count())
    return (program, shared, slots), read_lines


def test_two_readings_foretell_a_third_and_the_bound_holds_them_all(measured):
    (program, shared, slots), expected = measured
    wide = widened(slots, 8 * jax.local_device_count())
    third = read(program, shared, wide)
    for line, bytes_read in zip(expected, third, strict=True):
        assert line.at(8) == pytest.approx(bytes_read, rel=0.1)
        assert line.slope > 0
    assert bound(program, shared, wide) > max(third)


def test_a_line_through_readings_that_fall_is_level():
    assert Line.through((2, 4), (10, 14)) == Line(6.0, 2.0)
    assert Line.through((2, 4), (14, 10)) == Line(14.0, 0.0)


@pytest.mark.parametrize(
    ("devices", "width"), [(1, 16), (2, 16), (3, 15), (4, 16), (5, 15), (6, 18), (7, 14), (64, 64)]
)
def test_the_width_uses_all_devices(devices, width):
    assert even(16, devices) == width


@pytest.mark.parametrize(
    ("width", "devices", "narrower"),
    [(16, 2, 8), (15, 3, 9), (3, 3, 2), (2, 2, 1), (1, 1, 0), (16, 16, 8), (5, 1, 3)],
)
def test_half_a_pack_keeps_all_devices_busy_where_it_can(width, devices, narrower):
    assert half(width, devices) == narrower


def test_where_memory_is_ample_or_unknown_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(widths, "read", pytest.fail)
    devices = jax.local_device_count()
    for free in (None, 1 << 40):
        assert planned([program_and_pack("map")], devices, free) == even(16, devices)


def test_where_memory_is_short_the_width_is_the_widest_that_fits(measured, monkeypatch):
    need, read_lines = measured
    monkeypatch.setattr(widths, "lines", lambda *_: read_lines)
    devices = jax.local_device_count()
    free = int(most(read_lines, 5) / widths.SHARE) + 1
    assert planned([need], devices, free) == 5 * devices
    assert planned([need], devices, 1) == devices


def test_packs_come_dearest_setup_first_and_keep_the_order_of_cells():
    arms = [Arm("small"), Arm("large", {"model.widths": (8, 8)}), Arm("also small")]
    packs = pack(cells(arms, override(Config(), TINY), {}, (0, 1)), 3, 3)
    assert [[(c.arm, c.seed) for c in each.cells] for each in packs] == [
        [("large", 0), ("large", 1)],
        [("small", 0), ("also small", 0), ("small", 1)],
        [("also small", 1)],
    ]


@pytest.fixture
def write(tmp_path):
    """Writes a file of a made-up machine, whose root is `tmp_path`."""

    def into(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    return into


def test_free_memory_is_the_least_of_machine_and_groups(tmp_path, write):
    assert memory.free_of_host(tmp_path) is None
    write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    assert memory.free_of_host(tmp_path) == 8_000 * 1024
    write("proc/self/cgroup", "0::/job/step\n")
    write("sys/fs/cgroup/job/step/memory.max", "max\n")
    write("sys/fs/cgroup/job/memory.max", "5000000\n")
    write("sys/fs/cgroup/job/memory.current", "2000000\n")
    write("sys/fs/cgroup/job/memory.stat", "anon 5\ninactive_file 500000\n")
    assert memory.free_of_host(tmp_path) == 3_500_000
    write("proc/self/cgroup", "4:cpu:/other\n3:cpuacct,memory:/box\n0::/\n")
    write("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "1000000\n")
    write("sys/fs/cgroup/memory/box/memory.usage_in_bytes", "400000\n")
    assert memory.free_of_host(tmp_path) == 600_000
    write("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "9223372036854771712\n")
    assert memory.free_of_host(tmp_path) == 8_000 * 1024
    assert (memory.free_per_device() or 0) > 0


def test_processors_are_those_that_every_group_grants(tmp_path, write):
    assert groups.processors(tmp_path) == math.inf
    write("proc/self/cgroup", "0::/job/step\n")
    write("sys/fs/cgroup/job/step/cpu.max", "max 100000\n")
    assert groups.processors(tmp_path) == math.inf
    write("sys/fs/cgroup/job/cpu.max", "250000 100000\n")
    assert groups.processors(tmp_path) == 2.5
    write("proc/self/cgroup", "4:cpu,cpuacct:/box\n0::/job\n")
    write("sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "-1\n")
    write("sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000\n")
    assert groups.processors(tmp_path) == 2.5
    write("sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "50000\n")
    assert groups.processors(tmp_path) == 0.5


def test_no_more_processors_are_used_than_are_granted(monkeypatch):
    for granted, used in ((math.inf, len(os.sched_getaffinity(0))), (1.5, 1), (0.5, 1)):
        monkeypatch.setattr(groups, "processors", lambda root, granted=granted: granted)
        assert devices.cores() == used


@pytest.mark.parametrize("count", range(1, 7))
def test_a_pack_that_is_not_full_is_dealt_to_all_devices(count):
    cells = tuple(Cell("a", Config(), seed) for seed in range(count))
    (only,) = pack(cells, 3, 6)
    devices_of = [slot // 3 for slot in only.slots]
    assert len(set(only.slots)) == count
    assert abs(devices_of.count(0) - devices_of.count(1)) <= 1


def run(folder, *options):
    return run_study(CALM, "--data", DATA, "--out", str(folder), *options)


def numbers(folder):
    """Every committed table and checkpointed network's prediction, by its path."""
    found = {}
    for file in sorted((folder / "cells").rglob("*.parquet")):
        found[file.relative_to(folder)] = pq.read_table(file).to_pandas()
    return found


def outcomes(folder):
    return [json.loads(f.read_bytes()) for f in sorted(folder.rglob("DONE.json"))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planner") / "out"
    assert run(folder) == 0
    return folder


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(MemoryError(), marks=pytest.mark.slow),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
    ],
    ids=["host", "device"],
)
def test_memory_that_runs_out_halves_the_pack_and_changes_no_number(
    finished, tmp_path, monkeypatch, capfd, error
):
    advance, seen = Program.advance, []

    def failing(self, shared, slots, state):
        seen.append(len(slots.active))
        if len(slots.active) > 8 and seen.count(len(slots.active)) == 2:
            raise error
        return advance(self, shared, slots, state)

    monkeypatch.setattr(Program, "advance", failing)
    folder = tmp_path / "out"
    assert run(folder) == 0
    assert capfd.readouterr().err.count("packs of 16 runs do not fit in memory") == 1
    assert set(seen) == {16, 8}
    assert {done["pack_width"] for done in outcomes(folder)} == {8}
    assert {done["pack_width"] for done in outcomes(finished)} == {16}
    assert json.loads((folder / "sweep.json").read_bytes())["engine"]["width"] == 16
    whole, halved = numbers(finished), numbers(folder)
    assert whole.keys() == halved.keys()
    for name, table in whole.items():
        assert table.equals(halved[name]), name
    assert derived(folder) == derived(finished)
    timing = json.loads((folder / "summary.json").read_bytes())["timing"]
    assert timing["run_steps"] == (2 + 6) * 4 * 2


def test_memory_that_runs_out_twice_and_other_errors_are_not_swallowed(tmp_path, monkeypatch):
    for error in (MemoryError("again"), jax.errors.JaxRuntimeError("INTERNAL: other")):

        def failing(self, *args, error=error):
            raise error

        monkeypatch.setattr(Program, "advance", failing)
        with pytest.raises(type(error), match=str(error)):
            run(tmp_path / "out")
    assert not outcomes(tmp_path)


@pytest.mark.slow
def test_a_resume_obeys_the_pinned_width_whatever_it_would_choose(finished, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    monkeypatch.setattr(choice, "planned", lambda *_: 6)
    assert run(folder, "--shard", "0/2") in (0, 75)
    monkeypatch.setattr(choice, "planned", lambda *_: pytest.fail("it was pinned"))
    for shard in ("1/2", "0/2", "1/2"):
        run(folder, "--shard", shard)
    assert json.loads((folder / "sweep.json").read_bytes())["engine"]["width"] == 6
    assert {done["pack_width"] for done in outcomes(folder)} == {6}
    assert derived(folder) == derived(finished)


def test_of_two_first_starts_the_later_obeys_the_earlier(finished, tmp_path, monkeypatch):
    folder = tmp_path / "out"

    def beaten(*_):
        if not (folder / "sweep.json").exists():
            (folder / "sweep.json").write_bytes((finished / "sweep.json").read_bytes())
        return 2

    monkeypatch.setattr(choice, "planned", beaten)
    assert run(folder) == 0
    assert {done["pack_width"] for done in outcomes(folder)} == {16}
    np.testing.assert_equal(derived(folder), derived(finished))
