"""Commits trained packs to their cells' folders, in a thread of its own while others train."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import jax
import numpy as np
import pyarrow as pa

from fishjax.data.pool import Pool
from fishjax.engine.checkpoints import Saver
from fishjax.engine.packs import Pack, ask_of
from fishjax.engine.program import Slots
from fishjax.engine.record import Record
from fishjax.store import CellFolder, SweepFolder
from fishjax.train import State


@dataclass(frozen=True)
class Trained:
    """A pack, its runs, and on the host what was recorded of them and their last state."""

    pack: Pack
    runs: Slots
    record: Record
    state: State


class Keeper:
    """Writes one pack at a time; what it is handed meanwhile waits."""

    def __init__(self, pool: Pool, sweep: SweepFolder) -> None:
        self._pool, self._sweep = pool, sweep
        self._saver = Saver()
        self._thread = ThreadPoolExecutor(1, "keep")

    def keep(self, trained: Trained) -> Future[Pack]:
        """The pack, once every cell of it is committed."""
        return self._thread.submit(self._commit, trained)

    def _commit(self, trained: Trained) -> Pack:
        pack = trained.pack
        mean, deviation = np.asarray(trained.runs.mean), np.asarray(trained.runs.deviation)
        folders = [self._sweep.cell(cell.folder) for cell in pack.cells]
        for run, folder in zip(pack.slots, folders, strict=True):
            network = jax.tree.map(lambda leaf, run=run: leaf[run], trained.state.variables)
            tree = {
                "params": network.params,
                "stats": network.stats,
                "mean": mean[run],
                "deviation": deviation[run],
            }
            self._saver.save(folder.params, tree)
        self._saver.wait()
        for place, folder in enumerate(folders):
            self._finish(trained, place, folder)
        return pack

    def _finish(self, trained: Trained, place: int, folder: CellFolder) -> None:
        """Adds a cell's tables and how it ended to its saved network."""
        pack, record = trained.pack, trained.record
        run, cell = pack.slots[place], pack.cells[place]
        shown, truth = self._pool.views[ask_of(cell)], self._pool.dataset.labels
        tables = {
            "metrics": record.metrics(run),
            "predictions": record.predictions(run, shown.test.example, truth),
        }
        if cell.config.data.label_noise:
            example = shown.train.example
            columns = {"example": example, "label": shown.train.label, "clean": truth[example]}
            tables["labels"] = pa.table(columns)
        bad = int(trained.state.bad_step[run])
        status = "done" if bad < 0 else "diverged"
        outcome = {"status": status, "diverged_step": bad, "pack_width": pack.width}
        folder.commit(tables, outcome)
