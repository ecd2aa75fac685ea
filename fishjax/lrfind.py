"""A learning-rate range test of one configuration: `fishjax lr-find`."""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fishjax.config import Config
from fishjax.data.dataset import Dataset
from fishjax.data.pool import Pool
from fishjax.data.source import open_source
from fishjax.effects import missing
from fishjax.engine import devices
from fishjax.engine.kernels import kernels
from fishjax.engine.measured import measured
from fishjax.engine.packs import Pack, ask_of, slots
from fishjax.engine.program import Program, Shared, default_mapping
from fishjax.engine.runner import Tick
from fishjax.evidence.range_test import FEWEST, RangeTest
from fishjax.fields import UsageError
from fishjax.files import number, write_json
from fishjax.present.progress import Aside, bar
from fishjax.present.range_test import rates_table, write_curve
from fishjax.present.tables import write_table
from fishjax.settings import override, parse_settings, to_dict
from fishjax.setup import Setup, lower
from fishjax.sweep import TUNING_SEEDS_FROM, Cell, parse_seeds, slug

EPOCHS = 100
OURS = ("schedule.", "watch.", "hyper.lr")
FLOAT32 = np.finfo(np.float32)


def find(
    data: str,
    settings: Sequence[str],
    seeds: str,
    low: float,
    high: float,
    out: pathlib.Path | None,
) -> str:
    """Trains every seed while the rate rises from `low` to `high`; the suggested rates as a table.

    Writes table, figure and numbers into `out`. Raises UsageError for what cannot be met, for a
    folder that cannot be written, and where no seed's loss suggests a rate.
    """
    devices.prepare()
    changes = parse_settings(settings)
    config, chosen = configuration(changes, low, high), _tuning_seeds(seeds)
    dataset = open_source(data, config.data.image_size)
    changed = "".join(f"-{key}={value}" for key, value in sorted(changes.items()))
    folder = out or pathlib.Path("runs") / "lr-find" / slug(f"{data}{changed}-{low:g}-{high:g}")
    _check_writable(folder)
    steps = lower(config, len(dataset.species))[0].steps_per_epoch
    with bar(len(chosen) * config.optim.epochs * steps, Aside()) as tick:
        test = range_test(dataset, config, chosen, tick)
    if not any(np.isfinite(rates).any() for rates in test.suggestions().values()):
        raise UsageError(f"no seed trains long enough between {low:g} and {high:g}; try less")
    subject = ", ".join([data, *(f"{key}={value}" for key, value in changes.items())])
    table = rates_table(test, subject)
    write_table(table, folder)
    write_curve(test, subject, folder)
    write_json(folder / "range_test.json", _numbers(test, dataset, config, chosen))
    return f"{table.write('md')}\n{folder / 'loss_curve.svg'}"


def _check_writable(folder: pathlib.Path) -> None:
    """Raises UsageError where `folder` could not be made or written, before anything is trained."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from None
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UsageError(f"cannot write to {folder}: name another --out")


def configuration(changes: Mapping[str, Any], low: float, high: float) -> Config:
    """The run with its rate rising from `low` to `high`, watched at every epoch and not probed.

    Raises UsageError for a change of what the test itself sets or that has no effect, and for a
    range that is none.
    """
    for key in changes:
        if key.startswith(OURS):
            raise UsageError(f"a range test sets {key} itself; the rates are --low and --high")
    if not (0 < low < high and math.isfinite(high)):
        raise UsageError(f"--low {low:g} must be above 0 and below --high {high:g}")
    if low / high < FLOAT32.tiny or high > FLOAT32.max:
        raise UsageError(f"--low {low:g} and --high {high:g} are too far apart for float32")
    ours = {
        "schedule.kind": "range_test",
        "schedule.floor": low / high,
        "hyper.lr": high,
        "watch.every": 1,
        "watch.flow": "off",
        "watch.units": "off",
    }
    config = override(Config(), {"optim.epochs": EPOCHS, **changes, **ours})
    for key in changes:
        if needed := missing(config, key):
            raise UsageError(f"--set {key} has no effect: it needs {needed}")
    if config.optim.epochs < FEWEST:
        raise UsageError(f"optim.epochs={config.optim.epochs}: a range test needs {FEWEST} or more")
    return config


def range_test(dataset: Dataset, config: Config, seeds: Sequence[int], tick: Tick) -> RangeTest:
    """Runs the seeds side by side, epoch by epoch, until the last rate or until all are over.

    tick: is told of run-steps as they are done.
    """
    cells = tuple(Cell("range test", config, seed) for seed in seeds)
    pool = Pool(dataset, map(ask_of, cells))
    setup, hyper = lower(config, len(dataset.species))
    count = min(len(cells), jax.local_device_count())
    pack = Pack(setup, cells, -(-len(cells) // count) * count)
    runs = slots(pool, pack)
    shared = devices.replicate(
        Shared(jnp.asarray(pool.images), jnp.asarray(pool.labels)), pack.width
    )
    mapping = default_mapping()
    fastest = kernels(measured([(setup, hyper)], mapping, pack.width))
    program, epochs = Program(setup, mapping, fastest), config.optim.epochs
    state = program.begin(shared, runs)
    losses = np.full((len(cells), epochs), np.nan)
    test = RangeTest(_rates(setup, config), losses, setup.steps_per_epoch)
    for epoch in range(epochs):
        state, trace = program.advance(shared, runs, state)
        loss, bad_step = jax.device_get((trace.loss[:, 0], state.bad_step))
        losses[:, epoch] = np.where(bad_step < 0, loss, np.nan)[pack.slots]
        tick(len(cells) * setup.steps_per_epoch)
        if test.over_by(epoch):
            break
    return test


def _rates(setup: Setup, config: Config) -> np.ndarray:
    """The geometric mean of the rates of each epoch's steps, `[epoch]`."""
    steps = np.arange(config.optim.epochs * setup.steps_per_epoch)
    passed = steps.reshape(config.optim.epochs, -1).mean(axis=1) / len(steps)
    return config.hyper.lr * config.schedule.floor ** (1 - passed)


def _tuning_seeds(text: str) -> tuple[int, ...]:
    seeds = parse_seeds(text)
    if seeds[0] < TUNING_SEEDS_FROM:
        raise UsageError(f"rates are looked for on seeds from {TUNING_SEEDS_FROM} on")
    return seeds


def _numbers(
    test: RangeTest, dataset: Dataset, config: Config, seeds: Sequence[int]
) -> dict[str, Any]:
    """Everything the table and the figure are made of; null where there is no number."""
    suggested = test.suggestions()
    return {
        "schema": 1,
        "data": {"spec": dataset.spec, "hash": dataset.digest()},
        "config": to_dict(config),
        "seeds": list(seeds),
        "rates": test.rates.tolist(),
        "losses": [[*map(number, row)] for row in test.losses],
        "smoothed": [[*map(number, row)] for row in test.smoothed],
        "suggested": {rule: [*map(number, rates)] for rule, rates in suggested.items()},
    }
