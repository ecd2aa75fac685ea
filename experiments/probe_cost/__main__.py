"""What do all per-layer probes, at every step, add to a training step?

    python -m experiments.probe_cost [--rounds 7] [--json]

The dying-ReLU study's network at laptop scale, 16 runs, two programs that differ only in
`watch.flow` and `watch.units`: off, and read at every step. Rounds are interleaved; the ratio is
the median of the paired ratios, with their whole range.
"""

import json
import time
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tyro.conf import FlagCreatePairsOff, arg

from experiments.dying_relu import BASE
from fishjax.data.source import open_source
from fishjax.engine import devices
from fishjax.engine.packs import pack, slots
from fishjax.engine.program import Program, Shared, default_mapping
from fishjax.settings import override
from fishjax.sweep import Arm, cells

RUNS, OFF, STEP = 16, "off", "step"


def main(
    rounds: Annotated[int, arg(help="interleaved rounds; 1 is the smoke scale")] = 7,
    json_: Annotated[bool, FlagCreatePairsOff, arg(name="json", help="print one object")] = False,
) -> None:
    """Times the study's training program with its probes off and at every step."""
    devices.prepare()
    chunks = {watch: _chunk(watch) for watch in (OFF, STEP)}
    seconds = {watch: [] for watch in chunks}
    for _ in range(rounds):
        for watch, (run, _) in chunks.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            seconds[watch].append(time.perf_counter() - start)
    ratios = np.divide(seconds[STEP], seconds[OFF])
    steps = chunks[OFF][1]
    found = {
        "machine": devices.describe(),
        "rounds": rounds,
        "run_steps_per_s": {watch: steps / float(np.median(s)) for watch, s in seconds.items()},
        "probe_overhead": float(np.median(ratios)),
        "range": [float(ratios.min()), float(ratios.max())],
    }
    print(json.dumps(found) if json_ else _words(found))


def _chunk(watch: str):
    """A compiled, warmed chunk of epochs, and its run-steps."""
    base = override(BASE, {"watch.flow": watch, "watch.units": watch, "hyper.lr": 0.01})
    dataset = open_source("reef", base.data.image_size)
    (only,) = pack(cells([Arm("base")], base, {}, range(RUNS)), len(dataset.species), RUNS)
    program = Program(only.setup, default_mapping())
    shared = Shared(jnp.asarray(dataset.images), jnp.asarray(dataset.labels))
    runs = slots(dataset, only)
    state = program.begin(shared, runs)
    jax.block_until_ready(program.advance(shared, runs, state))
    steps = RUNS * only.setup.watch.every * only.setup.steps_per_epoch
    return lambda: program.advance(shared, runs, state), steps


def _words(found: dict) -> str:
    speed = found["run_steps_per_s"]
    low, high = found["range"]
    return (
        f"probes off {speed[OFF]:.0f} run-steps/s, at every step {speed[STEP]:.0f}; "
        f"cost {found['probe_overhead']:.3f} [{low:.3f}, {high:.3f}] over {found['rounds']} rounds"
    )


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.probe_cost")
