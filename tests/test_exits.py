"""What a signal does to a command, at whatever moment: its exit code, and what is still done."""

import errno
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from fishjax.exits import guarded

ROOT = pathlib.Path(__file__).parent.parent
PROGRAM = """
import atexit, signal, sys
signal.signal(signal.SIGINT, signal.{interrupt})
from fishjax.exits import SIGNALS, Stop, guarded
stop = Stop(SIGNALS)
atexit.register(lambda: print("tidied"))

def interrupted(times=1):
    exec("for _ in range(times): signal.raise_signal(signal.{name})", globals(), {{"times": times}})

class Finalised:
    def __del__(self):
        interrupted()

def command():
    {body}
    print("done")
    return 0

sys.exit(guarded(command))
"""
KEPT, WISHED = "stopped", "stopping after the epochs at hand"


def command(
    folder: pathlib.Path, name: str, body: str, interrupt: str = "default_int_handler"
) -> tuple[int, str, str]:
    """The exit code, the output and the errors of `body` run as `python -m`.

    interrupt: what SIGINT does to it from the start.
    """
    (folder / "program.py").write_text(PROGRAM.format(name=name, body=body, interrupt=interrupt))
    done = subprocess.run(
        [sys.executable, "-m", "program"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    ("body", "code", "out", "lines"),
    [
        ("stop.at_once(); interrupted()", 75, "", [KEPT]),
        ("stop.in_time(); interrupted()", 0, "done\ntidied\n", [WISHED]),
        ("stop.in_time(); interrupted(); stop.heed()", 75, "", [WISHED, KEPT]),
        ("stop.in_time(); Finalised(); stop.heed()", 75, "", [WISHED, KEPT]),
        ("stop.in_time(); interrupted(2)", 75, "", [WISHED, KEPT]),
        ("stop.in_time(); stop.never(); interrupted()", 0, "done\ntidied\n", []),
        ("stop.never(); atexit.register(interrupted)", 0, "done\ntidied\n", []),
    ],
    ids=["at once", "in time", "heeded", "in a finaliser", "twice", "never", "at exit"],
)
def test_a_signal_ends_a_command_when_it_may_and_with_its_own_code(
    name, body, code, out, lines, tmp_path
):
    found, printed, said = command(tmp_path, name, body)
    assert (found, printed) == (code, out), said
    assert [line.split(";")[0] for line in said.split("\n") if line] == lines


def test_a_full_disk_is_one_line_and_another_failure_of_the_system_is_not(capsys):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device", "out/metrics")

    def denied():
        raise PermissionError(errno.EACCES, "Permission denied")

    assert guarded(full) == 1
    assert capsys.readouterr().err.startswith("error: [Errno 28] No space left on device: 'out/met")
    with pytest.raises(PermissionError):
        guarded(denied)


def test_a_command_without_signals_leaves_them_alone(tmp_path):
    code, _, errors = command(tmp_path, "SIGINT", "Stop().at_once(); interrupted()")
    assert code == -signal.SIGINT
    assert "KeyboardInterrupt" in errors


def test_a_signal_that_was_ignored_from_the_start_stays_so(tmp_path):
    body = "stop.at_once(); interrupted()"
    assert command(tmp_path, "SIGINT", body, "SIG_IGN")[0] == 0
    assert command(tmp_path, "SIGTERM", body, "SIG_IGN")[0] == 75


STUDIES = [
    f"experiments.{path.stem}"
    for path in sorted(ROOT.glob("experiments/*.py"))
    if "import main" in path.read_text()
]
AT_JAX = """
import importlib, runpy, signal, sys

class AtJax:
    def find_spec(self, name, *_):
        if name == "jax":
            signal.raise_signal(signal.SIGTERM)

sys.meta_path.insert(0, AtJax())
module, *sys.argv[1:] = sys.argv[1:]
if module == "fishjax.cli":
    importlib.import_module(module).main()
runpy.run_module(module, run_name="__main__")
"""


@pytest.mark.parametrize("words", [*STUDIES, "fishjax.cli lr-find"])
def test_commands_listen_before_they_import_jax(words):
    command = [sys.executable, "-c", AT_JAX, *words.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (75, ""), done.stderr
    assert KEPT in done.stderr
