"""Do the verdicts keep what they promise?

    python -m experiments.calibration [--smoke] [--out DIR] [--json]

A pool of null arms is trained: a small net on reef, 8 orders of the same minibatches from the same
start, 128 seeds (smoke: 32). Its folder is a study's, so that an interrupted start is resumed.
Studies of 8, 12 and 16 seeds with five claims, 1000 of each kind (smoke: 40), are then drawn from
the pool with random arm labels and judged: as measured, with skewed differences, with a tenth of
the runs diverged, with an effect of exactly delta added, and with one of one standard deviation.
They are judged by the functions under `evidence.verdict.judge`, which itself takes 4 times (16
seeds) to 30 times (8 seeds) as long; it judges three studies of every kind too, and where it says
otherwise the command fails. A target that is missed is shown and changes no exit code. 3 minutes on
two cores.
"""

import json
import multiprocessing
import pathlib
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Annotated, Any

import tyro
from scipy import stats
from tyro.conf import FlagCreatePairsOff, arg

from experiments.calibration.pool import STUDY, Pool, trained
from experiments.calibration.simulation import designs, simulate
from experiments.calibration.table import calibration_block
from fishjax.engine import devices
from fishjax.exits import DONE, guarded

STUDIES = {"smoke": 40, "laptop": 1000}


def main(
    smoke: Annotated[bool, FlagCreatePairsOff, arg(help="a short training, few studies")] = False,
    out: Annotated[pathlib.Path | None, arg(help="None: runs/calibration/SCALE-reef")] = None,
    json_: Annotated[bool, FlagCreatePairsOff, arg(name="json", help="print one object")] = False,
) -> None:
    """Trains the pool and judges the studies."""
    scale = "smoke" if smoke else "laptop"
    folder = out or pathlib.Path("runs") / STUDY.name / f"{scale}-reef"
    sys.exit(guarded(lambda: _run(scale, folder, json_)))


def calibrate(scale: str, folder: pathlib.Path) -> dict[str, Any]:
    """Every figure, and the pool behind them."""
    devices.prepare()
    pool, spent = trained(scale, folder)
    start, studies = time.monotonic(), STUDIES[scale]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(devices.cores(), mp_context=spawn) as workers:
        found = workers.map(partial(simulate, pool, studies=studies), designs(pool))
        rows = [row for figures in found for row in figures]
    return {
        "machine": devices.describe(),
        "scale": scale,
        "studies": studies,
        "pool": {**_described(pool), "run_steps": spent["run_steps"], "seconds": spent["total_s"]},
        "simulation_s": time.monotonic() - start,
        "rows": rows,
    }


def _described(pool: Pool) -> dict[str, Any]:
    seeds, arms = pool.accuracy.shape
    return {
        "seeds": seeds,
        "arms": arms,
        "accuracy": float(pool.accuracy.mean()),
        "deviation": pool.deviation,
        "kurtosis": float(stats.kurtosis(pool.differences.ravel())),
    }


def _run(scale: str, folder: pathlib.Path, as_json: bool) -> int:
    found = calibrate(scale, folder)
    print(json.dumps(found) if as_json else calibration_block(found))
    return DONE


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.calibration")
