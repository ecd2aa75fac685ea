"""All peers on one workload: qualified one by one, timed in turn, put into rows."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.benchmark.course import Course
from experiments.benchmark.racer import GateError, Racer, qualify, run_rounds
from experiments.benchmark.remote import PeerError
from experiments.benchmark.statistics import paired_ratio
from experiments.benchmark.ways import WAYS, is_torch

Say = Callable[[str], None]


def run(course: Course, peers: Sequence[str], say: Say) -> tuple[list[dict], list[dict], dict]:
    """A row per peer that was timed, a reason for each that was not, and what the peers run on."""
    racers, left_out = _qualified(course, peers, say)
    try:
        seconds = sum(racer.call_s * racer.rounds for racer in racers)
        say(f"{course.name}: {len(racers)} peers, rounds of about {seconds:.0f} s together")
        broken = run_rounds(racers, course.rounds)
        left_out += [_reason(course, name, reason) for name, reason in broken.items()]
        timed = [racer for racer in racers if racer.rates]
        best = max(
            (racer for racer in timed if is_torch(racer.way.name)),
            key=lambda racer: np.median(racer.rates),
            default=None,
        )
        rows = [_row(course, racer, best) for racer in timed]
        about = {("torch" if is_torch(r.way.name) else "jax"): r.about for r in racers}
    finally:
        for racer in racers:
            racer.remote.close()
    return rows, left_out, about


def _qualified(course: Course, peers: Sequence[str], say: Say) -> tuple[list[Racer], list[dict]]:
    racers: list[Racer] = []
    left_out: list[dict] = []
    for name in peers:
        try:
            racer = qualify(WAYS[name], course)
        except PeerError as reason:
            failed = isinstance(reason, GateError)
            left_out.append(_reason(course, name, str(reason), failed))
            say(f"{course.name}: {name} left out: {reason}")
            continue
        racers.append(racer)
        say(
            f"{course.name}: {name} passes the gate of {racer.gate_steps} steps, "
            f"largest difference {racer.gate_error:.0e}"
        )
    say(f"{course.name}: the reference took {course.reference_s:.0f} s")
    return racers, left_out


def _row(course: Course, racer: Racer, best: Racer | None) -> dict[str, Any]:
    rate = float(np.median(racer.rates))
    ratio = paired_ratio(racer.rates, best.rates) if best else None
    return {
        "workload": course.name,
        "peer": racer.way.name,
        "title": racer.way.title,
        "runs": racer.runs,
        "rounds": len(racer.rates),
        "steps_per_call": racer.chunk * racer.chunks,
        "gate_steps": racer.gate_steps,
        "gate_error": racer.gate_error,
        "rates": racer.rates,
        "run_steps_per_s": rate,
        "gflops": rate * course.job.workload.flops / 1e9,
        "ratio_to_best_torch": ratio and {"value": ratio.value, "interval": ratio.interval},
        "compile_s": {"cold": racer.cold_s, "cached": racer.cached_s},
        "peak_rss_mb": racer.remote.ask(do="memory")["peak_rss_mb"],
    }


def _reason(course: Course, name: str, reason: str, failed: bool = False) -> dict[str, Any]:
    return {"workload": course.name, "peer": name, "reason": reason, "failed_gate": failed}
