"""Runs cells that are not committed yet, pack by pack, and commits them."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from fishjax.data.corruptions import Part, view_digest
from fishjax.data.pool import Pool
from fishjax.engine.checkpoints import Saver
from fishjax.engine.devices import replicate
from fishjax.engine.packs import Pack, ask_of, slots
from fishjax.engine.program import Program, RunMapping, Shared, Slots
from fishjax.engine.record import Record
from fishjax.nn.models import build
from fishjax.settings import to_dict
from fishjax.setup import Setup
from fishjax.store import SweepFolder
from fishjax.train import State

Tick = Callable[[int], None]


@dataclass
class Usage:
    """Seconds and run-steps of this start; compilation and running do not overlap."""

    compile_s: float = 0.0
    run_s: float = 0.0
    run_steps: int = 0


class Runner:
    """Turns cells into committed folders; keeps compiled programs from pack to pack.

    Every cell's data must be in the pool, whose size is part of the compiled programs.
    """

    def __init__(self, pool: Pool, sweep: SweepFolder, mapping: RunMapping, width: int) -> None:
        self.usage = Usage()
        self._pool, self._sweep = pool, sweep
        self._dataset, self._source = pool.dataset, pool.dataset.digest()
        self._mapping: RunMapping = mapping
        self._programs: dict[Setup, Program] = {}
        self._saver = Saver()
        clean = None if pool.clean is None else jnp.asarray(pool.clean)
        shared = Shared(jnp.asarray(pool.images), jnp.asarray(pool.labels), clean)
        self._shared = replicate(shared, width)

    def run(self, packs: Iterable[Pack], tick: Tick) -> None:
        """Runs every cell of `packs`; `tick` is told of run-steps as they are done."""
        for pack in packs:
            start, compiled = time.monotonic(), self._compiled_s()
            try:
                self._run(pack, tick)
            finally:
                compiling = self._compiled_s() - compiled
                self.usage.compile_s += compiling
                self.usage.run_s += time.monotonic() - start - compiling

    def _compiled_s(self) -> float:
        return sum(program.compile_s for program in self._programs.values())

    def _run(self, pack: Pack, tick: Tick) -> None:
        program = self._programs.setdefault(pack.setup, Program(pack.setup, self._mapping))
        folders = [self._sweep.cell(cell.folder) for cell in pack.cells]
        for folder, cell in zip(folders, pack.cells, strict=True):
            about = {"arm": cell.arm, "seed": cell.seed, "species": self._dataset.species}
            shown = {"data_hash": view_digest(self._source, *ask_of(cell))}
            folder.start({**about, **shown, "config": to_dict(cell.config)})
        record = Record(pack.setup, build(pack.setup), self._dataset.species)
        runs = slots(self._pool, pack)
        state = self._train(program, pack, runs, record, tick)
        self._commit(pack, runs, record, jax.device_get(state))

    def _train(
        self, program: Program, pack: Pack, runs: Slots, record: Record, tick: Tick
    ) -> State:
        """Trains the pack to the end; the host reads a chunk while the next one runs."""
        shared, setup = self._shared, pack.setup
        state, evaluation = program.assess(shared, runs, program.begin(shared, runs))
        steps = len(pack.cells) * setup.watch.every * setup.steps_per_epoch
        for _ in range(setup.optim.epochs // setup.watch.every):
            state, trace = program.advance(shared, runs, state)
            self._note(pack, record, evaluation)
            state, evaluation = program.assess(shared, runs, state)
            record.traces.append(jax.device_get(trace))
            self.usage.run_steps += steps
            tick(steps)
        self._note(pack, record, evaluation)
        record.examination = jax.device_get(program.finish(shared, runs, state))
        return state

    def _note(self, pack: Pack, record: Record, evaluation: Any) -> None:
        record.evaluations.append(jax.device_get(evaluation))
        for run, cell in enumerate(pack.cells):
            self._sweep.cell(cell.folder).log(record.line(run))

    def _commit(self, pack: Pack, runs: Slots, record: Record, state: State) -> None:
        mean, deviation = np.asarray(runs.mean), np.asarray(runs.deviation)
        folders = [self._sweep.cell(cell.folder) for cell in pack.cells]
        for run, folder in enumerate(folders):
            network = jax.tree.map(lambda leaf, run=run: leaf[run], state.variables)
            tree = {
                "params": network.params,
                "stats": network.stats,
                "mean": mean[run],
                "deviation": deviation[run],
            }
            self._saver.save(folder.params, tree)
        self._saver.wait()
        for run, (folder, cell) in enumerate(zip(folders, pack.cells, strict=True)):
            shown, truth = self._pool.views[ask_of(cell)], self._dataset.labels
            tables = {
                "metrics": record.metrics(run),
                "predictions": record.predictions(run, shown.test.example, truth),
            }
            if cell.config.data.label_noise:
                tables["labels"] = _labels(shown.train, truth)
            bad = int(state.bad_step[run])
            status = "done" if bad < 0 else "diverged"
            folder.commit(tables, {"status": status, "diverged_step": bad})


def _labels(train: Part, truth: np.ndarray) -> pa.Table:
    """Of every training image its index in the source, the label it was given, and the true one."""
    columns = {"example": train.example, "label": train.label, "clean": truth[train.example]}
    return pa.table(columns)
