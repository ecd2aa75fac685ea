"""Does a run-step cost the same in a sweep of many runs? fishjax as shipped, packs of a study."""

import pathlib

import numpy as np

from experiments.benchmark import course
from experiments.benchmark.heat import Say
from experiments.benchmark.racer import Racer, qualify, run_rounds
from experiments.benchmark.statistics import paired_ratio
from experiments.benchmark.ways import SHIPPED, WAYS

RUNS = {"T": (16, 64, 256), "S": (16, 64, 256), "smoke": (2, 4)}
"""Sizes of a sweep by workload; the first is what the others are compared with."""


ROUNDS = 5
"""At most: a call of 256 runs takes 10 s and more."""


def measure(
    name: str, folder: pathlib.Path, torch_python: str, rounds: int, least_s: float, say: Say
) -> list[dict]:
    """Run-steps per second and peak memory at every size, timed in interleaved rounds."""
    racers: list[Racer] = []
    rounds = min(rounds, ROUNDS)
    try:
        for runs in RUNS[name]:
            place = folder / f"{name}-{runs}"
            one = course.drawn(name, runs, place, torch_python, rounds, least_s)
            racers.append(qualify(WAYS[SHIPPED], one))
            racers[-1].rounds = rounds
        seconds = sum(racer.call_s * rounds for racer in racers)
        say(f"{name}: sweeps of {RUNS[name]} runs, rounds of about {seconds:.0f} s together")
        run_rounds(racers, rounds)
        return [_row(name, racer, racers[0]) for racer in racers]
    finally:
        for racer in racers:
            racer.remote.close()


def _row(name: str, racer: Racer, first: Racer) -> dict:
    ratio = paired_ratio(racer.rates, first.rates)
    return {
        "workload": name,
        "runs": racer.runs,
        "run_steps_per_s": float(np.median(racer.rates)),
        "over_fewest": {"value": ratio.value, "interval": ratio.interval},
        "peak_rss_mb": racer.remote.ask(do="memory")["peak_rss_mb"],
    }
