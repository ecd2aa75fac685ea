"""A peer's process: it reads one JSON object a line and answers each with one. Needs NumPy only."""

import argparse
import dataclasses
import json
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from experiments.benchmark.workload import Job


class Peer(Protocol):
    """One way to train the runs of a job.

    compile_s: what compiling took, in seconds; None where nothing is compiled.
    """

    @property
    def compile_s(self) -> float | None: ...

    def losses(self, runs: Sequence[int], steps: int) -> Any:
        """Losses `[run, step]` of some runs from their initial weights on, whole chunks."""
        ...

    def run(self, chunks: int) -> None:
        """Trains every run `chunks` times the workload's chunk of steps on, and waits for it."""
        ...


Make = Callable[[Job], Peer]
Task = Callable[[Job, float], Any]
"""A further question about a job, answered by timings of at least so many seconds each."""
Multiply = Callable[[np.ndarray, np.ndarray], Callable[[], Any]]
"""From two factors, what multiplies them and waits for the product."""


def serve(
    peers: Mapping[str, Make],
    about: Callable[[], dict],
    tasks: Mapping[str, Task],
) -> None:
    """Makes the peer named on the command line and answers until it is told to quit.

    What others print goes to stderr: stdout is the parent's. tasks: by name.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", choices=peers, required=True)
    parser.add_argument("--bare", action="store_true", help="make no peer, answer tasks only")
    parser.add_argument("--job", type=pathlib.Path, required=True)
    parser.add_argument("--runs", default="", help="0,15; empty: all")
    parser.add_argument("--chunk", type=int, default=0, help="steps of a call; 0: the workload's")
    options = parser.parse_args()
    job = Job.load(options.job)
    if options.runs:
        job = job.only([int(run) for run in options.runs.split(",")])
    if options.chunk:
        job = Job(dataclasses.replace(job.workload, chunk=options.chunk), job.arrays)
    peer = None if options.bare else peers[options.peer](job)
    _answer(answers, {"about": about(), "compile_s": peer.compile_s if peer else None})
    for line in sys.stdin:
        ask = json.loads(line)
        if ask["do"] == "quit":
            return
        _answer(answers, _done(ask, peer, job, tasks))


def seconds_of(work: Callable[[], Any], least_s: float) -> float:
    """The shortest of three timings, each of as many calls of `work` as `least_s` holds."""
    work()
    start = time.perf_counter()
    work()
    calls = max(1, int(least_s / max(time.perf_counter() - start, 1e-6)))
    shortest = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(calls):
            work()
        shortest = min(shortest, (time.perf_counter() - start) / calls)
    return shortest


def products(
    job: Job, plain: Mapping[str, Multiply], batched: Mapping[str, Multiply], least_s: float
) -> dict:
    """GFLOP/s of matrix products by the libraries named, see `seconds_of`.

    plain: square ones. batched: four at once, in the sizes of the layers' patches and kernels.
    """
    found: dict[str, dict[str, float]] = {"plain": {}, "batched": {}}
    rng = np.random.default_rng(0)
    for n in (1024, 2048):
        a, b = rng.random((2, n, n), np.float32)
        for name, multiply in plain.items():
            found["plain"][f"{name} {n}"] = 2 * n**3 / seconds_of(multiply(a, b), least_s) / 1e9
    for layer in job.workload.layers:
        rows, reach, wide = (
            layer.side**2 * job.workload.batch,
            9 * layer.channels_in,
            layer.channels_out,
        )
        a, b = rng.random((4, rows, reach), np.float32), rng.random((4, reach, wide), np.float32)
        for name, multiply in batched.items():
            seconds = seconds_of(multiply(a, b), least_s)
            gflops = 2 * 4 * rows * reach * wide / seconds / 1e9
            found["batched"][f"{name} 4x{rows}x{reach}x{wide}"] = gflops
    return found


def peak_rss_mb() -> float:
    """The most memory this process has held, in MiB.

    Not `ru_maxrss` where the system says better: a child starts with its parent's.
    """
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def _done(ask: Mapping[str, Any], peer: Any, job: Job, tasks: Mapping[str, Task]) -> dict:
    if ask["do"] == "losses":
        found = peer.losses(ask["runs"], ask["steps"])
        return {"losses": [[float(x) for x in run] for run in found]}
    if ask["do"] == "run":
        start = time.perf_counter()
        peer.run(ask["chunks"])
        return {"seconds": time.perf_counter() - start}
    if ask["do"] == "memory":
        return {"peak_rss_mb": getattr(peer, "peak_rss_mb", peak_rss_mb)()}
    return {ask["do"]: tasks[ask["do"]](job, ask["least_s"])}


def _answer(answers: Any, found: dict) -> None:
    answers.write(json.dumps(found) + "\n")
    answers.flush()
