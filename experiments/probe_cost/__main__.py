"""What do all per-layer probes, at every step, add to a training step?

    python -m experiments.probe_cost [--rounds 7] [--json]

The dying-ReLU study's network at laptop scale, 16 runs, two programs that differ only in
`watch.flow` and `watch.units`: off, and read at every step. Rounds are interleaved; the ratio is
the median of the paired ratios, with their whole range.
"""

import json
from typing import Annotated

import numpy as np
import tyro
from tyro.conf import FlagCreatePairsOff, arg

from experiments.timing import chunk, interleaved
from fishjax.engine import devices

OFF, STEP = "off", "step"


def main(
    rounds: Annotated[int, arg(help="interleaved rounds; 1 is the smoke scale")] = 7,
    json_: Annotated[bool, FlagCreatePairsOff, arg(name="json", help="print one object")] = False,
) -> None:
    """Times the study's training program with its probes off and at every step."""
    devices.prepare()
    chunks = {watch: chunk({"watch.flow": watch, "watch.units": watch}) for watch in (OFF, STEP)}
    seconds = interleaved(chunks, rounds)
    ratios = seconds[STEP] / seconds[OFF]
    found = {
        "machine": devices.describe(),
        "rounds": rounds,
        "run_steps_per_s": {watch: 1 / float(np.median(s)) for watch, s in seconds.items()},
        "probe_overhead": float(np.median(ratios)),
        "range": [float(ratios.min()), float(ratios.max())],
    }
    print(json.dumps(found) if json_ else _words(found))


def _words(found: dict) -> str:
    speed = found["run_steps_per_s"]
    low, high = found["range"]
    return (
        f"probes off {speed[OFF]:.0f} run-steps/s, at every step {speed[STEP]:.0f}; "
        f"cost {found['probe_overhead']:.3f} [{low:.3f}, {high:.3f}] over {found['rounds']} rounds"
    )


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.probe_cost")
