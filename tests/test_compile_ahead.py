"""Compilation beside the run: once for a piece and signature, never again with the cache warm."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from fishjax.engine import compiler, native
from fishjax.engine.compiler import Programs
from fishjax.engine.folders import cache_folder
from fishjax.engine.program import PIECES, XLA, Program
from fishjax.sweep import Arm
from tests.commands import run_study
from tests.runs import make_feed, make_slots, tiny
from tests.tiny_study import DATA, STUDY

ROOT = pathlib.Path(__file__).parent.parent
STARTS = """
import json, os, sys
from jax import monitoring
counts = {}
monitoring.register_event_listener(
    lambda event, **_: counts.__setitem__(event, counts.get(event, 0) + 1)
)
from tests.tiny_study import DATA, STUDY
from fishjax.command import main
try:
    main(STUDY, ["--data", DATA, "--out", sys.argv[1]])
except SystemExit as end:
    print(json.dumps({"code": end.code, **counts}))
"""


def program_and_pack():
    setup, hyper = tiny(model__depth=1, model__dense=())
    return setup, *make_slots([hyper] * 2, [0, 1], make_feed(setup))


def test_what_is_compiled_ahead_is_compiled_once_and_computes_the_same(monkeypatch):
    setup, shared, slots = program_and_pack()
    lowered, original = [], Program.lower

    def counting(self, piece, *args):
        lowered.append((piece.__name__, threading.current_thread() is threading.main_thread()))
        return original(self, piece, *args)

    monkeypatch.setattr(Program, "lower", counting)
    programs = Programs("map", XLA)
    programs.ahead(setup, shared, slots)
    programs.ahead(setup, shared, slots)
    ahead = programs.of(setup, 2)
    state = ahead.begin(shared, slots)
    state, _ = ahead.assess(shared, slots, state)
    state, _ = ahead.advance(shared, slots, state)
    ahead.finish(shared, slots, state)
    assert sorted(lowered) == sorted((piece.__name__, False) for piece in PIECES.values())
    assert programs.compile_s > 0
    assert 0 < programs.waited_s <= programs.compile_s + 1
    waited = programs.waited_s
    again = ahead.begin(shared, slots)
    assert programs.waited_s - waited < 0.1
    assert len(lowered) == 4
    alone = Program(setup, "map").begin(shared, slots)
    jax.tree.map(np.testing.assert_array_equal, again, alone)


def test_a_piece_that_cannot_be_compiled_says_so_where_it_is_called(monkeypatch):
    setup, shared, slots = program_and_pack()

    def refusing(self, piece, *args):
        raise ValueError("no such kernel")

    monkeypatch.setattr(Program, "lower", refusing)
    programs = Programs("map", XLA)
    programs.ahead(setup, shared, slots)
    with pytest.raises(ValueError, match="no such kernel"):
        programs.of(setup, 2).begin(shared, slots)
    assert programs.compile_s == 0


def test_what_has_not_begun_is_given_up(monkeypatch):
    setup, shared, slots = program_and_pack()
    begun, gate = [], threading.Event()

    def waiting(self, name, *args):
        begun.append(name)
        gate.wait(10)

    monkeypatch.setattr(Program, "_compile", waiting)
    monkeypatch.setattr(compiler, "cores", lambda: 1)
    programs = Programs("map", XLA)
    programs.ahead(setup, shared, slots)
    while not begun:
        time.sleep(0.01)
    programs.stop()
    gate.set()
    programs._threads.shutdown(wait=True)
    assert begun == ["begin"]


@pytest.mark.slow
def test_the_next_signature_is_compiled_while_the_pack_before_it_trains(tmp_path, monkeypatch):
    """All arms of the study are one signature; a wider net is another."""
    wide = Arm("wide", {"model.widths": (5, 6)})
    study = dataclasses.replace(STUDY, arms=(*STUDY.arms, wide))
    lowered, advanced = [], []
    lower, advance = Program.lower, Program.advance

    def counting(self, piece, *args):
        lowered.append((self.setup.model.widths, piece.__name__, len(advanced)))
        return lower(self, piece, *args)

    def noting(self, shared, slots, state):
        advanced.append(self.setup.model.widths)
        return advance(self, shared, slots, state)

    monkeypatch.setattr(Program, "lower", counting)
    monkeypatch.setattr(Program, "advance", noting)
    assert run_study(study, "--data", DATA, "--out", str(tmp_path / "out")) == 0
    assert len({each[:2] for each in lowered}) == len(lowered) == 8
    first_chunk = {widths: advanced.index(widths) for widths in set(advanced)}
    last = max(first_chunk, key=first_chunk.__getitem__)
    assert all(before <= first_chunk[last] for widths, _, before in lowered if widths == last)
    timing = json.loads((tmp_path / "out" / "summary.json").read_bytes())["timing"]
    assert 0 < timing["compile_s"] <= timing["total_s"]
    assert timing["compiling_s"] > 0


@pytest.mark.slow
def test_a_second_process_with_the_cache_warm_compiles_nothing(tmp_path):
    """What the machine's kernels are, and which are fastest, is known already."""
    known = native.load() and cache_folder("native").parent
    for kept in ("native", "measured"):
        if (known / kept).exists():
            shutil.copytree(known / kept, tmp_path / "cache" / "fishjax" / kept)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    counts = []
    for name in ("first", "second"):
        command = [sys.executable, "-c", STARTS, str(tmp_path / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
        counts.append(json.loads(done.stdout.splitlines()[-1]))
    event = "/jax/compilation_cache/{}".format
    first, second = counts
    assert first["code"] == second["code"] == 0
    assert first[event("cache_misses")] >= len(PIECES)
    assert event("cache_misses") not in second
    assert second[event("cache_hits")] == second[event("compile_requests_use_cache")]


@pytest.mark.parametrize(("shard", "code"), [("1/2", 75), ("0/1", 0)])
def test_a_process_that_ends_gives_up_what_it_only_began_to_compile(
    tmp_path, monkeypatch, shard, code
):
    given_up = []
    monkeypatch.setattr(Programs, "stop", lambda programs: given_up.append(programs))
    options = ("--data", DATA, "--out", str(tmp_path / "out"), "--shard", shard)
    assert run_study(STUDY, *options) == code
    assert given_up
