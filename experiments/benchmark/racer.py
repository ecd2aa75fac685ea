"""A peer on its course: started, its losses held to the reference, its calls timed."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from experiments.benchmark.course import FEW_STEPS, GATE_RTOL, GATE_STEPS, Course
from experiments.benchmark.remote import PeerError, Remote
from experiments.benchmark.ways import Way

SLOW_S = 8.0
"""A peer whose shortest call takes longer gets one round, and a gate of a few steps."""


class GateError(PeerError):
    """A peer whose losses are not the reference's."""


@dataclass
class Racer:
    """A peer that passed the gate.

    chunks: of the workload's steps in one timed call. rates: run-steps per second of each round.
    cold_s, cached_s: its compilation in a fresh and in a second process, where it compiles.
    """

    way: Way
    remote: Remote
    about: dict
    runs: int
    chunk: int
    cold_s: float | None
    cached_s: float | None
    gate_steps: int = 0
    gate_error: float = math.inf
    chunks: int = 1
    call_s: float = 0.0
    rounds: int = 1
    rates: list[float] = field(default_factory=list)

    @property
    def run_steps(self) -> int:
        """Of one timed call."""
        return self.runs * self.chunk * self.chunks

    def rate(self) -> float:
        """One timed call's run-steps per second."""
        return self.run_steps / self.remote.ask(do="run", chunks=self.chunks)["seconds"]


def qualify(way: Way, course: Course) -> Racer:
    """Starts a peer, puts it through the gate and finds how long its calls must be.

    Raises PeerError where it cannot run, GateError where its losses are wrong.
    """
    racer = _started(way, course)
    try:
        if way.few and course.on_cpu:
            start = time.perf_counter()
            _gate(racer, course, FEW_STEPS)
            racer.call_s = time.perf_counter() - start
            return racer
        for _ in ("warm-up", "timed"):
            racer.call_s = racer.remote.ask(do="run", chunks=1)["seconds"]
            if racer.call_s >= SLOW_S:
                _gate(racer, course, FEW_STEPS)
                return racer
        racer.rounds = course.rounds
        racer.chunks = max(1, math.ceil(course.least_s / racer.call_s))
        racer.call_s *= racer.chunks
        _gate(racer, course, GATE_STEPS)
    except PeerError:
        racer.remote.close()
        raise
    return racer


def run_rounds(racers: Sequence[Racer], rounds: int) -> dict[str, str]:
    """Times every racer once a round, there and back (ABBA).

    Returns the names of those that broke down, each with its reason; they have lost their rates.
    """
    broken: dict[str, str] = {}
    for number in range(rounds):
        for racer in racers if number % 2 == 0 else racers[::-1]:
            if number >= racer.rounds or racer.way.name in broken:
                continue
            try:
                racer.rates.append(racer.rate())
            except PeerError as reason:
                broken[racer.way.name] = str(reason)
                racer.rates.clear()
    return broken


def _started(way: Way, course: Course) -> Racer:
    """Its process, the second one where it compiles: the first one filled an empty cache."""
    cache = course.folder / way.name
    cache.mkdir()
    environment = {
        "XDG_CACHE_HOME": str(cache),
        "JAX_COMPILATION_CACHE_DIR": "",
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        **way.environment,
    }
    runs, chunk = course.job.runs, course.job.workload.chunk
    command = [*way.command(course.torch_python), "--job", str(course.file)]
    if way.few and course.on_cpu:
        spread = np.linspace(0, course.job.runs - 1, min(way.few, course.job.runs)).astype(int)
        runs, chunk = len(spread), FEW_STEPS
        command += ["--runs", ",".join(map(str, spread)), "--chunk", str(chunk)]
    compiled: list[float] = []
    while True:
        remote = Remote(command, environment)
        try:
            ready = remote.receive()
        except PeerError:
            remote.close()
            raise
        if ready["compile_s"] is None or compiled:
            break
        compiled.append(ready["compile_s"])
        remote.close()
    cold = compiled[0] if compiled else None
    return Racer(way, remote, ready["about"], runs, chunk, cold, ready["compile_s"])


def _gate(racer: Racer, course: Course, steps: int) -> None:
    """Holds the losses of the first and the last run to the reference, in whole calls."""
    racer.gate_steps = racer.chunk * math.ceil(steps / racer.chunk)
    found = racer.remote.ask(do="losses", runs=[0, racer.runs - 1], steps=racer.gate_steps)
    expected = course.expected[:, : racer.gate_steps]
    apart = np.abs(np.asarray(found["losses"])[:, : expected.shape[1]] / expected - 1)
    racer.gate_error = float(apart.max()) if np.isfinite(apart).all() else math.inf
    if not racer.gate_error <= GATE_RTOL:
        raise GateError(
            f"fails the gate: a loss is {racer.gate_error:.1e} off the float64 reference, relative "
            f"to it, where {GATE_RTOL:g} is allowed"
        )
