"""What do all per-layer probes, at every step, add to a training step?

    python -m experiments.probe_cost [--networks study,T,S,M,L] [--rounds 7] [--json]

`study` is the dying-ReLU study's network at laptop scale; T, S, M and L are the benchmark's
workloads. For each, 16 runs in one process with the kernels that a study gets on this machine, by
two programs that differ only in `watch.flow` and `watch.units`: off, and read at every step.
Rounds are interleaved; the ratio is the median of the paired ratios, with their whole range.
"""

import json
import sys
from typing import Annotated

import numpy as np
import tyro
from tyro.conf import FlagCreatePairsOff, arg

from experiments.benchmark.fishjax_peers import Packed, as_shipped
from experiments.benchmark.statistics import geometric_mean
from experiments.benchmark.workload import WORKLOADS, draw
from experiments.timing import RUNS, Chunk, chunk, interleaved
from fishjax.engine import devices
from fishjax.exits import DONE, guarded
from fishjax.fields import UsageError, choose

OFF, STEP = "off", "step"
STUDY = "study"


def main(
    networks: Annotated[str, arg(help="of study, T, S, M, L, or smoke")] = STUDY,
    rounds: Annotated[int, arg(help="interleaved rounds; 1 is the smoke scale")] = 7,
    json_: Annotated[bool, FlagCreatePairsOff, arg(name="json", help="print one object")] = False,
) -> None:
    """Times the training programs of each network with its probes off and at every step."""

    def command() -> int:
        names = [choose(name, (STUDY, *WORKLOADS), "network") for name in networks.split(",")]
        if rounds < 1:
            raise UsageError(f"--rounds {rounds}: at least one")
        devices.prepare()
        rows = [_row(name, rounds) for name in names]
        found = {
            "machine": devices.describe(),
            "rounds": rounds,
            "rows": rows,
            "probe_overhead": geometric_mean([row["probe_overhead"] for row in rows]),
        }
        print(json.dumps(found) if json_ else _words(found))
        return DONE

    sys.exit(guarded(command))


def _row(network: str, rounds: int) -> dict:
    seconds = interleaved({watch: _chunk(network, watch) for watch in (OFF, STEP)}, rounds)
    ratios = seconds[STEP] / seconds[OFF]
    return {
        "network": network,
        "run_steps_per_s": {watch: 1 / float(np.median(s)) for watch, s in seconds.items()},
        "probe_overhead": float(np.median(ratios)),
        "range": [float(ratios.min()), float(ratios.max())],
    }


def _chunk(network: str, watch: str) -> Chunk:
    """Of a workload: two compiled calls of every pack of its runs, as the benchmark trains them."""
    if network == STUDY:
        return chunk({"watch.flow": watch, "watch.units": watch}, as_shipped)
    workload, calls = WORKLOADS[network], 2
    packed = Packed(draw(workload, RUNS), as_shipped, probes=watch == STEP)
    packed.run(calls)
    return Chunk(lambda: packed.run(calls), RUNS * calls * workload.chunk)


def _words(found: dict) -> str:
    lines = [_line(row) for row in found["rows"]]
    over = f"over {found['rounds']} rounds"
    return "\n".join([*lines, f"cost {found['probe_overhead']:.3f} in the geometric mean, {over}"])


def _line(row: dict) -> str:
    speed = row["run_steps_per_s"]
    low, high = row["range"]
    return (
        f"{row['network']}: probes off {speed[OFF]:.4g} run-steps/s, at every step "
        f"{speed[STEP]:.4g}; cost {row['probe_overhead']:.3f} [{low:.3f}, {high:.3f}]"
    )


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.probe_cost")
