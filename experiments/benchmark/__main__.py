"""Is fishjax faster than every other way to train many small CNNs at once?

    python -m experiments.benchmark [--workloads T,S,M,L] [--peers ...] [--runs 16] [--rounds 7]
                                    [--torch-python PATH] [--study] [--json]

Plain CNNs on 32x32 images, 16 runs with their own rate and seed, trained by fishjax, PyTorch and
JAX in every way that people use, each in a process of its own with all cores. Before a peer is
timed, the losses of its first 20 steps are held to a float64 reference. Then all peers of a
workload are timed in turn, round after round, on a machine that has to be quiet. PyTorch may live
in another Python, `--torch-python`, which needs it and NumPy only (extra `bench`). Progress goes to
stderr. Exits with 1 where a peer fails that gate.
"""

import json
import os
import pathlib
import sys
import tempfile
import time
from collections import ChainMap
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NamedTuple

import tyro
from tyro.conf import FlagCreatePairsOff, arg

from experiments.benchmark import course, findings, heat, peaks, scaling, study, tables
from experiments.benchmark.course import Course
from experiments.benchmark.ways import WAYS
from experiments.benchmark.workload import WORKLOADS
from fishjax.exits import DONE, FAILED, guarded
from fishjax.fields import UsageError, choose

LEAST_S, SMOKE_LEAST_S = 1.5, 0.02


def main(
    workloads: Annotated[str, arg(help="of T, S, M, L, or smoke")] = "T,S,M,L",
    peers: Annotated[str, arg(help="names, or beginnings; empty: all")] = "",
    runs: Annotated[int, arg(help="runs side by side")] = 16,
    rounds: Annotated[int, arg(help="interleaved rounds")] = 7,
    torch_python: Annotated[str, arg(help="the Python that has PyTorch")] = sys.executable,
    scale: Annotated[bool, arg(help="also sweeps of 16, 64 and 256 runs of T and S")] = True,
    study_: Annotated[
        bool, FlagCreatePairsOff, arg(name="study", help="also the dying-ReLU study, minutes")
    ] = False,
    json_: Annotated[bool, FlagCreatePairsOff, arg(name="json", help="print one object")] = False,
) -> None:
    """Gates, times and compares."""

    def command() -> int:
        names = [choose(name, WORKLOADS, "workload") for name in workloads.split(",")]
        chosen = chosen_peers(peers)
        if runs < 2:
            raise UsageError(f"--runs {runs}: the gate needs two runs with different rates")
        found = benchmark(names, chosen, runs, rounds, torch_python, scale)
        if study_:
            found["study"] = study.measure(torch_python, _say)
        print(json.dumps(found) if json_ else tables.report(found))
        return FAILED if any(each["failed_gate"] for each in found["left_out"]) else DONE

    sys.exit(guarded(command))


def chosen_peers(words: str) -> list[str]:
    """The peers of these names, between commas; what is no name stands for all that begin so.

    Raises UsageError for what begins no name.
    """
    wanted = words.split(",")
    for each in wanted:
        if not any(name.startswith(each) for name in WAYS):
            choose(each, WAYS, "peer")
    return [
        name
        for name in WAYS
        if name in wanted or any(name.startswith(w) for w in wanted if w not in WAYS)
    ]


class _Raced(NamedTuple):
    """What came of one workload."""

    rows: list[dict]
    left_out: list[dict]
    layers: dict[str, Any]
    peaks: peaks.Peaks
    scaling: list[dict]
    machine: dict[str, Any]


def benchmark(
    workloads: Sequence[str],
    peers: Sequence[str],
    runs: int,
    rounds: int,
    torch_python: str,
    scale: bool = True,
) -> dict[str, Any]:
    """Everything but the study, as one object."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        raced = {
            name: _raced(pathlib.Path(scratch), name, peers, runs, rounds, torch_python, scale)
            for name in workloads
        }
    rows = [row for each in raced.values() for row in each.rows]
    most = _most(each.peaks for each in raced.values())
    whole = {f"{row['title']}, {row['workload']}": row["gflops"] for row in rows}
    best, by = peaks.highest({**most, "whole steps": whole})
    return {
        "machine": {
            **dict(ChainMap(*(each.machine for each in raced.values()))),
            "load_average": os.getloadavg()[0],
            "seconds": time.monotonic() - start,
        },
        "runs": runs,
        "rounds": rounds,
        "peak_gflops": {**most, "best": best, "by": by},
        "rows": findings.with_share_of_peak(rows, best),
        "left_out": [left for each in raced.values() for left in each.left_out],
        "layers": {name: each.layers for name, each in raced.items()},
        "geomean_over_best_torch": findings.over_best_torch(rows),
        "geomean_over_naive_vmap": findings.over_naive_vmap(rows),
        "probe_overhead": findings.probe_overhead(rows),
        "scaling": [grown for each in raced.values() for grown in each.scaling],
    }


def _raced(
    scratch: pathlib.Path,
    name: str,
    peers: Sequence[str],
    runs: int,
    rounds: int,
    torch_python: str,
    scale: bool,
) -> _Raced:
    least_s = SMOKE_LEAST_S if name == "smoke" else LEAST_S
    one = course.drawn(name, runs, scratch / name, torch_python, rounds, least_s)
    rows, missing, about = heat.run(one, peers, _say)
    reached, alone, unreached = _peaks(one)
    grown: list[dict] = []
    if scale and name in scaling.RUNS:
        place = scratch / f"{name}-scaling"
        grown = scaling.measure(name, place, torch_python, rounds, least_s, _say)
    layers = {**alone, "costliest": peaks.costliest(alone)}
    machine = {**one.machine, **_torch(about)}
    return _Raced(rows, missing + unreached, layers, reached, grown, machine)


def _most(each: Iterable[peaks.Peaks]) -> peaks.Peaks:
    """What all workloads' peaks hold, by kind."""
    most: peaks.Peaks = {"plain": {}, "batched": {}, "convolution": {}}
    for reached in each:
        for kind, values in reached.items():
            most[kind] |= values
    return most


def _peaks(one: Course) -> tuple[peaks.Peaks, dict[str, Any], list[dict]]:
    """What the machine reaches, its convolutions, and who could not say, with the reason."""
    reached, alone, reasons = peaks.measure(one)
    missing = [
        {"workload": one.name, "peer": name, "reason": reason, "failed_gate": False}
        for name, reason in reasons.items()
    ]
    return reached, alone, missing


def _torch(about: dict[str, Any]) -> dict[str, Any]:
    return {"torch": about["torch"]} if "torch" in about else {}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.benchmark")
