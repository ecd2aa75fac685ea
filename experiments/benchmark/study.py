"""Cold time from command to table of the dying-ReLU study, over the same study in PyTorch eager.

    python -m experiments.benchmark.study [--torch-python PATH] [--scale laptop]

Each is a whole process, fishjax's with an empty cache. PyTorch is handed the images and their
splits in a file, which cost it nothing.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np
import tyro
from tyro.conf import arg

from experiments.benchmark.remote import ROOT
from experiments.dying_relu import STUDY
from fishjax.data.pool import Pool
from fishjax.data.source import open_source
from fishjax.settings import override
from fishjax.study import Scale
from fishjax.sweep import Tuned

SOURCE = "reef"


def main(
    torch_python: Annotated[str, arg(help="the Python that has PyTorch")] = sys.executable,
    scale: Annotated[str, arg(help="smoke, laptop or paper")] = "laptop",
) -> None:
    """Times both and prints one object."""
    print(json.dumps(measure(torch_python, lambda line: print(line, file=sys.stderr), scale)))


def measure(torch_python: str, say: Callable[[str], None], scale: str = "laptop") -> dict[str, Any]:
    """Seconds of both from command to table, and their ratio.

    Raises CalledProcessError where one of them fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        data, plan = _handed(STUDY.scales[scale], folder)
        ours = [sys.executable, "-m", "experiments.dying_relu", "--scale", scale]
        ours += ["--data", SOURCE, "--out", str(folder / "out")]
        fishjax_s = _seconds(ours, {"XDG_CACHE_HOME": str(folder), "JAX_COMPILATION_CACHE_DIR": ""})
        say(f"study: fishjax {fishjax_s:.0f} s")
        theirs = [torch_python, "-m", "experiments.benchmark.torch_study", str(data), str(plan)]
        torch_s = _seconds(theirs, {})
        say(f"study: PyTorch {torch_s:.0f} s")
    return {
        "scale": scale,
        "fishjax_s": fishjax_s,
        "torch_s": torch_s,
        "ratio": fishjax_s / torch_s,
    }


def _seconds(command: list[str], environment: Mapping[str, str]) -> float:
    start = time.perf_counter()
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    environment = {**os.environ, **environment, "PYTHONPATH": path}
    subprocess.run(command, env=environment, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _handed(scale: Scale, folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """The images, and the study as plain numbers, in files."""
    base = override(STUDY.base, scale.settings)
    dataset = open_source(SOURCE, base.data.image_size)
    seeds = (*scale.seeds, *scale.tuning.seeds)
    pool = Pool(dataset, ((base.data, seed) for seed in seeds))
    rows = {seed: pool.rows[base.data, seed] for seed in seeds}
    parts = {
        f"{part}_{seed}": getattr(own, part)
        for seed, own in rows.items()
        for part in ("train", "val", "test")
    }
    data, plan = folder / "data.npz", folder / "plan.json"
    np.savez(data, images=pool.images, labels=pool.labels, **parts)
    plan.write_text(json.dumps(_plan(scale, len(dataset.species))))
    return data, plan


def _plan(scale: Scale, classes: int) -> dict[str, Any]:
    base = override(STUDY.base, scale.settings)
    (dense,) = base.model.dense
    return {
        "widths": base.model.channels,
        "dense": dense,
        "classes": classes,
        "size": base.data.image_size,
        "momentum": base.hyper.momentum,
        "epochs": base.optim.epochs,
        "batch": base.optim.batch_size,
        "every": base.watch.every,
        "arms": [_arm(arm, base) for arm in STUDY.arms],
        "tuned": scale.tuning.arms,
        "rates": scale.tuning.rates,
        "tuning_seeds": scale.tuning.seeds,
        "seeds": scale.seeds,
    }


def _arm(arm: Any, base: Any) -> dict[str, Any]:
    rate = arm.changes["hyper.lr"]
    if not isinstance(rate, Tuned):
        raise TypeError(f"the rate of {arm.name} is not a tuned one")
    config = arm.config(base, {rate.arm: 1.0})
    leaky = config.model.activation == "leaky_relu"
    return {
        "name": arm.name,
        "tuned": rate.arm,
        "times": rate.times,
        "weight_decay": config.hyper.weight_decay,
        "bias_shift": config.hyper.bias_shift,
        "slope": config.hyper.leaky_slope if leaky else 0.0,
        "dropout": config.hyper.dropout,
        "init": config.model.init,
    }


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.benchmark.study")
