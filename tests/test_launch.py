"""The launch scripts: usage, shards side by side that end with one table, and shellcheck."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.commands import derived, run_study
from tests.conftest import CACHE
from tests.tiny_study import DATA, STUDY

ROOT = pathlib.Path(__file__).parent.parent
SCRIPTS = [*sorted(ROOT.glob("launch/*")), ROOT / ".ci" / "run"]


def launch(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHON": sys.executable, "JAX_COMPILATION_CACHE_DIR": str(CACHE)}
    return subprocess.run(
        ["bash", *arguments],
        cwd=ROOT,
        env={**env, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_shellcheck_has_nothing_to_say(path):
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "arguments", [(), ("2",), ("0", "dying_relu"), ("x", "dying_relu"), ("08", "a")]
)
def test_local_explains_itself(arguments):
    done = launch("launch/local.sh", *arguments)
    assert done.returncode == 2
    assert "launch/local.sh SHARDS STUDY" in done.stderr


def test_local_hands_on_a_shards_failure():
    done = launch("launch/local.sh", "2", "dying_relu", "--scale", "smol")
    assert done.returncode == 2
    assert "did you mean 'smoke'" in done.stderr


def test_local_stops_the_other_shards_when_one_fails(tmp_path):
    """A stand-in for Python: shard 1 fails at once, shard 0 waits for it for ever."""
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\ncase "$*" in *1/2*) exit 3;; *) exit 75;; esac\n')
    fake.chmod(0o755)
    done = launch("launch/local.sh", "2", "dying_relu", PYTHON=str(fake))
    assert done.returncode == 3


def array(count: int) -> dict[str, str]:
    """What SLURM tells the third of the tasks 3 to 6, of which there are `count`."""
    told = {"ID": 5, "MIN": 3, "MAX": 6, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in told.items()}


def test_slurm_refuses_to_run_in_an_array_with_gaps():
    done = launch("launch/slurm.sbatch", "dying_relu", **array(count=3))
    assert done.returncode == 2
    assert "--array has gaps: 3 tasks for 4 shards" in done.stderr


def test_slurm_refuses_to_run_outside_an_array():
    done = launch("launch/slurm.sbatch", "dying_relu", SLURM_ARRAY_TASK_ID="")
    assert done.returncode != 0
    assert "sbatch" in done.stderr


@pytest.mark.slow
def test_two_local_shards_end_with_the_table_of_one_process(tmp_path):
    tiny = tmp_path / "python"
    tiny.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} -m tests.tiny_study "$@"\n')
    tiny.chmod(0o755)
    together, alone = tmp_path / "together", tmp_path / "alone"
    environment = {"PYTHON": str(tiny), "JAX_NUM_CPU_DEVICES": "2"}
    options = ["tiny", "--data", DATA, "--out", str(together)]
    done = launch("launch/local.sh", "2", *options, **environment)
    assert done.returncode == 0, done.stderr
    assert "S0" in done.stdout
    assert run_study(STUDY, "--data", DATA, "--out", str(alone)) == 0
    assert derived(together) == derived(alone)


def test_a_slurm_task_runs_its_share_until_it_fails_or_all_is_done(tmp_path):
    """A stand-in for Python, which keeps what it is asked, and for sleep."""
    said = tmp_path / "said"
    fakes = {"python": f'echo "$@" >>{said}; [ $(wc -l <{said}) -ge 3 ] || exit 75', "sleep": ""}
    for name, text in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    asked = ["dying_relu", "--out", "runs"]
    done = launch("launch/slurm.sbatch", *asked, PYTHON="python", PATH=path, **array(count=4))
    assert done.returncode == 0, done.stderr
    line = "-m experiments.dying_relu --out runs --shard 2/4\n"
    assert said.read_text() == 3 * line
