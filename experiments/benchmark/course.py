"""What a workload's racers share: its job, its reference losses, how long and how often to run."""

import functools
import json
import os
import pathlib
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np

from experiments.benchmark import reference
from experiments.benchmark.remote import ROOT
from experiments.benchmark.workload import WORKLOADS, Job

GATE_STEPS, FEW_STEPS = 20, 3
GATE_RTOL = 1e-4


@dataclass
class Course:
    """A job in a file of its own folder, where racers keep their fresh caches.

    rounds: timed calls of a racer. least_s: the shortest a timed call may be. reference_s: what
    the reference took so far.
    """

    job: Job
    folder: pathlib.Path
    machine: dict
    torch_python: str
    rounds: int
    least_s: float
    reference_s: float = 0.0

    @property
    def file(self) -> pathlib.Path:
        return self.folder / "job.npz"

    @property
    def name(self) -> str:
        return self.job.workload.name

    @property
    def on_cpu(self) -> bool:
        return self.machine["backend"] == "cpu"

    @functools.cached_property
    def expected(self) -> np.ndarray:
        """The reference's losses of the first and of the last run, `[2, GATE_STEPS]`."""
        start = time.perf_counter()
        found = [reference.losses(self.job, run, GATE_STEPS) for run in (0, self.job.runs - 1)]
        self.reference_s += time.perf_counter() - start
        return np.stack(found)


def drawn(
    name: str, runs: int, folder: pathlib.Path, torch_python: str, rounds: int, least_s: float
) -> Course:
    """The course of a workload, its job drawn by a process that is gone when this returns."""
    if name not in WORKLOADS:
        raise ValueError(f"no workload {name!r}; there are {', '.join(WORKLOADS)}")
    folder.mkdir(parents=True)
    file = folder / "job.npz"
    command = [sys.executable, "-m", "experiments.benchmark.draw", name, str(runs), str(file)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder.parent)}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    return Course(Job.load(file), folder, json.loads(done.stdout), torch_python, rounds, least_s)
