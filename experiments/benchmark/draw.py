"""Writes a job: `python -m experiments.benchmark.draw WORKLOAD RUNS FILE`; prints the machine.

A process of its own, so that the parent holds no device.
"""

import json
import pathlib
import sys

import jax

from experiments.benchmark import workload
from experiments.benchmark.fishjax_peers import order
from fishjax.engine import devices

STEPS = 40


def main(name: str, runs: str, path: str) -> None:
    devices.prepare()
    job = workload.draw(workload.WORKLOADS[name], int(runs))
    batches = order(job, STEPS)
    workload.Job(job.workload, {**job.arrays, "batches": batches}).save(pathlib.Path(path))
    print(json.dumps({**devices.describe(), "jax_threads": jax.local_device_count()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
