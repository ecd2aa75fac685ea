"""Commits trained packs to their cells' folders, in a thread of its own while others train."""

import collections
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import jax
import numpy as np
import pyarrow as pa

from fishjax.cellfolder import CellFolder
from fishjax.data.pool import Pool
from fishjax.engine.checkpoints import Saver
from fishjax.engine.packs import Pack, ask_of
from fishjax.engine.record import Record
from fishjax.nn.model import Variables
from fishjax.provenance import trainer
from fishjax.store import SweepFolder


@dataclass(frozen=True)
class TrainedPack:
    """What is kept of a pack that has trained to its end, on the host; every leaf is `[run, ...]`.

    bad_step: the step at which a run diverged, else -1. mean, deviation: of its input's channels.
    """

    pack: Pack
    record: Record
    network: Variables
    bad_step: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray


class Keeper:
    """Writes one pack at a time, in the order in which they are handed over."""

    def __init__(self, pool: Pool, sweep: SweepFolder) -> None:
        self._pool, self._sweep = pool, sweep
        self._saver, self._trainer = Saver(), trainer()
        self._thread = ThreadPoolExecutor(1, "keep")
        self._handed: collections.deque[Future[None]] = collections.deque()

    def keep(self, trained: TrainedPack) -> None:
        """Begins to commit every cell of the pack, once those handed over before are committed."""
        self._handed.append(self._thread.submit(self._commit, trained))

    def settle(self, but: int = 0) -> None:
        """Waits until all packs, `but` so many of the newest, are committed.

        Raises whatever writing them raised.
        """
        while len(self._handed) > but:
            self._handed.popleft().result()

    def _commit(self, trained: TrainedPack) -> None:
        pack = trained.pack
        folders = [self._sweep.cell(cell.folder) for cell in pack.cells]
        for run, folder in zip(pack.slots, folders, strict=True):
            network = jax.tree.map(lambda leaf, run=run: leaf[run], trained.network)
            tree = {
                "params": network.params,
                "stats": network.stats,
                "mean": trained.mean[run],
                "deviation": trained.deviation[run],
            }
            self._saver.save(folder.params, tree)
        self._saver.wait()
        for place, folder in enumerate(folders):
            self._finish(trained, place, folder)

    def _finish(self, trained: TrainedPack, place: int, folder: CellFolder) -> None:
        """Adds a cell's tables and how it ended to its saved network.

        Labels, where some are flipped: of every training image its index in the source, the label
        it was given, and the true one.
        """
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
        bad = int(trained.bad_step[run])
        status = "done" if bad < 0 else "diverged"
        outcome = {"status": status, "diverged_step": bad, "pack_width": pack.width}
        folder.commit(tables, {**outcome, "trainer": self._trainer})
