"""Devices and the compilation cache: runs spread evenly, damaged entries replaced, no trust."""

import errno
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest
from jax._src import compilation_cache

from fishjax.engine import cache
from fishjax.engine.folders import cache_folder

ROOT = pathlib.Path(__file__).parent.parent
ADDS = """
import json, sys
from fishjax.engine import cache, devices
devices.prepare()
import jax, jax.numpy as jnp
from jax import monitoring
hits = []
monitoring.register_event_listener(lambda e, **_: hits.append(e) if "cache_hits" in e else None)
def add(factor):
    return float(jax.jit(lambda x: jnp.sum(jnp.sin(x) * factor))(jnp.arange(8.0)))
values = [add(factor) for factor in {factors}]
print(json.dumps([values, len(hits), jax.config.jax_compilation_cache_dir]))
"""
PACKS = """
import hashlib, json, re
from fishjax.engine import devices
devices.prepare()
import jax, numpy as np
from fishjax.engine.program import PIECES, Program
from tests.runs import make_feed, make_slots, tiny
setup, hyper = tiny(model__depth=1, model__dense=())
shared, slots = make_slots([hyper] * 8, list(range(8)), make_feed(setup))
slots = devices.spread(slots, 8)
shared = devices.replicate(shared, 8)
program = Program(setup, "map")
state = program.begin(shared, slots)
state, first = program.assess(shared, slots, state)
state, trace = program.advance(shared, slots, state)
seen = program.finish(shared, slots, state)
said = re.compile("all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter")
text = "".join(each.result().piece.as_text() for each in program._compiled.values())
leaves = jax.tree.leaves(jax.device_get((state, first, trace, seen)))
digest = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()
found = sorted(set(said.findall(text)))
print(json.dumps([devices.run_mesh(8).size, len(state.step.sharding.device_set), digest, found]))
"""


def python(script, *options, **variables):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, *options, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def adds(home, *factors):
    return python(ADDS.replace("{factors}", str(factors or (2,))), XDG_CACHE_HOME=str(home))


def entries(home):
    return sorted((home / "fishjax" / "xla").glob("*-cache"))


def truncated(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE = (truncated, flipped, lambda _: b"", lambda _: b"garbage" * 100)


def test_damaged_entries_cost_a_warning_once_and_no_number(tmp_path):
    """Each in another way, and none of them counts as a hit."""
    factors = range(2, 2 + len(DAMAGE))
    (values, hits, folder), said = adds(tmp_path, *factors)
    assert (hits, said) == (0, "")
    assert oct(pathlib.Path(folder).stat().st_mode)[-3:] == "700"
    made = entries(tmp_path)
    assert len([entry for entry in made if "lambda" in entry.name]) == len(DAMAGE)
    for entry, spoil in zip(made, itertools.cycle(DAMAGE)):
        entry.write_bytes(spoil(entry.read_bytes()))
    (again, hits, _), said = adds(tmp_path, *factors)
    assert (again, hits) == (values, 0)
    assert f"{len(made)} damaged or unfinished entries" in said
    (again, hits, _), said = adds(tmp_path, *factors)
    assert (again, said) == (values, "")
    assert hits > 0


def test_an_entry_of_another_program_is_not_run(tmp_path):
    ((value,), *_), _ = adds(tmp_path, 2)
    mine = set(entries(tmp_path))
    ((other,), *_), _ = adds(tmp_path, 3)
    assert other == pytest.approx(1.5 * value)
    (theirs,) = [e for e in entries(tmp_path) if e not in mine and "lambda" in e.name]
    (own,) = [e for e in mine if "lambda" in e.name]
    own.write_bytes(theirs.read_bytes())
    ((again,), *_), said = adds(tmp_path, 2)
    assert again == value
    assert "1 damaged or unfinished" in said


def test_an_entry_that_was_never_sealed_is_left_to_its_writer_for_a_while(tmp_path):
    adds(tmp_path)
    for mark in (tmp_path / "fishjax" / "xla").glob("*-seal"):
        mark.unlink()
    (_, hits, _), said = adds(tmp_path)
    assert hits > 0
    assert said == ""
    for entry in entries(tmp_path):
        os.utime(entry, (time.time() - 3600,) * 2)
    (_, hits, _), said = adds(tmp_path)
    assert hits == 0
    assert "damaged or unfinished" in said


def test_an_entry_of_long_ago_is_made_anew_and_nothing_is_said(tmp_path):
    adds(tmp_path)
    old = time.time() - 40 * 86_400
    for entry in entries(tmp_path):
        os.utime(entry, (old, old))
    (_, hits, _), said = adds(tmp_path)
    assert (hits, said) == (0, "")
    assert all(entry.stat().st_mtime > old + 1 for entry in entries(tmp_path))
    (_, hits, _), _ = adds(tmp_path)
    assert hits > 0


def test_an_entry_that_another_process_deletes_meanwhile_is_passed_over(tmp_path):
    adds(tmp_path)
    gone = tmp_path / "fishjax" / "xla" / "listed-and-gone-cache"
    gone.symlink_to(tmp_path / "nowhere")
    (_, hits, _), said = adds(tmp_path)
    assert (hits > 0, said) == (True, "")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_cache_that_others_can_write_is_not_used(tmp_path, mode):
    folder = tmp_path / "fishjax" / "xla"
    folder.mkdir(parents=True)
    folder.chmod(mode)
    (_, _, used), said = adds(tmp_path)
    assert used is None
    assert "can be written by others" in said
    assert not list(folder.iterdir())


def test_a_cache_of_someone_else_is_not_used(tmp_path, monkeypatch):
    from fishjax.engine import cache

    monkeypatch.setattr(os, "getuid", lambda: os.stat(tmp_path).st_uid + 1)
    with pytest.warns(RuntimeWarning, match="belongs to someone else"):
        cache.enable(tmp_path / "xla")
    assert not cache._in_use


def packs(devices):
    """In as many threads whatever the devices: XLA's sums depend on these, as do cores."""
    return python(PACKS, JAX_NUM_CPU_DEVICES=str(devices), NPROC="4")[0]


@pytest.fixture(scope="module")
def alone():
    return packs(1)


@pytest.mark.parametrize("devices", [4, 3])
def test_devices_do_not_talk_and_change_no_number(alone, devices):
    mesh, used, digest, said = packs(devices)
    assert mesh == used == {4: 4, 3: 2}[devices]
    assert said == alone[3] == []
    assert digest == alone[2]


def test_three_devices_are_all_used_by_the_width_that_is_pinned():
    script = """
import json, jax
from fishjax.engine import devices, widths
print(json.dumps(devices.run_mesh(widths.planned([], jax.local_device_count(), None)).size))
"""
    assert python(script, JAX_NUM_CPU_DEVICES="3")[0] == 3


def write_entry(folder, name, age, content):
    entry = folder / f"{name}-cache"
    entry.write_bytes(content)
    os.utime(entry, (time.time() - age, time.time() - age))


def test_an_entry_is_sealed_once_it_is_whole_or_nothing_compiles_any_more(tmp_path, monkeypatch):
    """One that a full disk cut off is not."""
    started = time.time() - 60
    monkeypatch.setattr(cache, "_in_use", {tmp_path: started})
    packed = compilation_cache.compress_executable(b"program")
    for name, age in (("old", 120), ("whole", 30), ("new", 0)):
        write_entry(tmp_path, name, age, packed)
    write_entry(tmp_path, "torn", 30, truncated(packed))
    write_entry(tmp_path, "empty", 30, b"")
    cache.seal()
    assert {mark.name for mark in tmp_path.glob("*-seal")} == {"whole-seal"}
    cache.seal(settled_s=0.0)
    assert {mark.name for mark in tmp_path.glob("*-seal")} == {"whole-seal", "new-seal"}


def test_a_strange_seal_and_an_entry_that_cannot_be_read_end_nothing(tmp_path):
    write_entry(tmp_path, "odd", 30, compilation_cache.compress_executable(b"program"))
    (tmp_path / "odd-seal").write_bytes(b"\xff\xfe")
    (tmp_path / "unreadable-cache").mkdir()
    (tmp_path / "unreadable-seal").write_bytes(b"")
    assert cache._drop_damaged(tmp_path) == 1
    assert not (tmp_path / "odd-cache").exists()


def test_a_user_without_a_home_goes_without_a_cache(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pathlib.Path, "home", homeless)
    assert cache_folder("xla") is None
    cache.enable(None)
    assert not cache._in_use


def test_where_there_is_no_room_for_a_seal_nothing_ends(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(cache, "_in_use", {tmp_path: time.time() - 60})
    monkeypatch.setattr(cache, "write_atomically", full)
    write_entry(tmp_path, "whole", 30, compilation_cache.compress_executable(b"program"))
    cache.seal()
    assert not list(tmp_path.glob("*-seal"))
