"""From the arrays of a pack to the tables of a cell."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from fishjax.evaluate import KILLED_SHARES, Evaluation, Examination
from fishjax.files import number
from fishjax.further import SPECIES, is_due
from fishjax.measure.activations import BINS
from fishjax.measure.scores import Scores
from fishjax.metrics import SCORES, SPLITS
from fishjax.nn.model import Model
from fishjax.results import COLUMNS
from fishjax.setup import Setup
from fishjax.train import Trace

_Block = tuple[np.ndarray, str, str, Sequence[str], np.ndarray]


@dataclass
class Record:
    """What the runs of one pack have shown so far, on the host; every leaf is `[run, ...]`."""

    setup: Setup
    model: Model
    species: tuple[str, ...]
    traces: list[Trace] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    examination: Examination | None = None

    def line(self, run: int) -> dict[str, Any]:
        """The newest evaluation of a run, for `metrics.jsonl`."""
        chunk, newest = len(self.evaluations) - 1, self.evaluations[-1]
        return {
            "epoch": chunk * self.setup.watch.every,
            "step": chunk * self.setup.watch.every * self.setup.steps_per_epoch,
            **{
                f"{split}_{name}": number(getattr(getattr(newest, split), name)[run])
                for split in SPLITS
                for name in ("loss", "accuracy")
            },
            "dead_share": [number(value) for value in newest.units["dead_share"][run]],
        }

    def metrics(self, run: int) -> pa.Table:
        """Every number of a run, one to a row: see `results.COLUMNS`."""
        blocks = [
            *self._traced(run),
            *self._evaluated(run),
            *self._examined(run),
            *self._further(run),
        ]
        columns = [np.concatenate(column) for column in zip(*map(_rows, blocks), strict=True)]
        step, metric, dim, part, value = columns
        epoch = step / self.setup.steps_per_epoch
        arrays = [
            pa.array(step.astype(np.int32)),
            pa.array(epoch),
            *(pa.array(text).dictionary_encode() for text in (metric, dim, part)),
            pa.array(value.astype(np.float64)),
        ]
        return pa.table(arrays, names=list(COLUMNS))

    def predictions(self, run: int, test: np.ndarray, labels: np.ndarray) -> pa.Table:
        """The final logits of every test image, beside its index in the source and its label."""
        assert self.examination is not None
        logits = self.examination.test_logits[run]
        columns = {"example": test, "label": labels[test]}
        columns |= {f"logit_{k}": logits[:, k] for k in range(logits.shape[1])}
        return pa.table(columns)

    def _traced(self, run: int) -> Iterator[_Block]:
        watched = [trace.watched for trace in self.traces]
        yield self._series(run, "minibatch_loss", "", [""], [trace.loss for trace in self.traces])
        for name in watched[0].flow:
            chunks = [seen.flow[name] for seen in watched]
            yield self._series(run, name, "layer", self.model.layers, chunks)
        for name in watched[0].depth:
            yield self._series(run, name, "", [""], [seen.depth[name] for seen in watched])
        for name in watched[0].units:
            chunks = [seen.units[name] for seen in watched]
            yield self._series(run, name, "layer", self.model.hidden, chunks)
        for name in watched[0].steps:
            yield self._series(run, name, "", [""], [seen.steps[name] for seen in watched])

    def _series(
        self, run: int, name: str, dim: str, parts: Sequence[str], chunks: Sequence[Any]
    ) -> _Block:
        """Values `[run, time, ...]` of consecutive chunks, stamped with the step they end at."""
        values = np.concatenate([chunk[run] for chunk in chunks])
        steps = self.setup.optim.epochs * self.setup.steps_per_epoch
        stamps = np.arange(1, len(values) + 1) * (steps // len(values))
        return stamps, name, dim, parts, values.reshape(len(values), len(parts))

    def _evaluated(self, run: int) -> Iterator[_Block]:
        stamps = np.arange(len(self.evaluations)) * (
            self.setup.watch.every * self.setup.steps_per_epoch
        )
        for split in SPLITS:
            read: list[Scores] = [getattr(evaluation, split) for evaluation in self.evaluations]
            for name in SCORES:
                values = np.stack([getattr(scores, name)[run] for scores in read])
                yield stamps, f"{split}_{name}", "", [""], values[:, None]
            auc_of = np.stack([scores.auc_of[run] for scores in read])
            yield stamps, f"{split}_auc_of", "species", self.species, auc_of
        for name in self.evaluations[0].flipped:
            values = np.stack([evaluation.flipped[name][run] for evaluation in self.evaluations])
            yield stamps, name, "", [""], values[:, None]
        revival = np.stack([evaluation.revival[run] for evaluation in self.evaluations])
        yield stamps, "revival", "", [""], revival[:, None]
        for name in self.evaluations[0].units:
            values = np.stack([evaluation.units[name][run] for evaluation in self.evaluations])
            yield stamps, name, "layer", self.model.hidden, values
        for name in self.evaluations[0].slope:
            values = np.stack([evaluation.slope[name][run] for evaluation in self.evaluations])
            if values.ndim == 1:
                yield stamps, name, "", [""], values[:, None]
            else:
                yield stamps, name, "layer", self.model.layers, values

    def _examined(self, run: int) -> Iterator[_Block]:
        assert self.examination is not None
        last = np.asarray([self.setup.optim.epochs * self.setup.steps_per_epoch])
        seen = self.examination
        shares = [str(share) for share in KILLED_SHARES]
        dormant, blocked, slope = (
            np.asarray(read)[run].reshape(1, -1)
            for read in (seen.dormant_share, seen.blocked_gradient, seen.blocking_slope)
        )
        yield last, "dormant_share", "layer", self.model.hidden, dormant
        yield last, "blocked_gradient", "share", shares, blocked
        yield last, "blocking_slope", "", [""], slope

    def _further(self, run: int) -> Iterator[_Block]:
        """The further measures at the epochs that took them; a histogram is a metric per layer."""
        assert self.examination is not None
        watch, epochs = self.setup.watch, self.setup.optim.epochs
        due = [
            (chunk * watch.every, evaluation.further)
            for chunk, evaluation in enumerate(self.evaluations)
            if evaluation.further and is_due(watch, epochs, chunk * watch.every)
        ]
        read = [*due, (epochs, self.examination.further)]
        stamps = np.asarray([epoch for epoch, _ in read]) * self.setup.steps_per_epoch
        for name in self.examination.further:
            values = np.stack([np.asarray(readings[name])[run] for _, readings in read])
            if values.ndim == 1:
                yield stamps, name, "", [""], values[:, None]
            elif name in SPECIES:
                yield stamps, name, "species", self.species, values
            elif values.ndim == 2:
                yield stamps, name, "layer", self.model.hidden, values
            else:
                bins = [f"{edge:g}" for edge in BINS]
                for i, layer in enumerate(self.model.hidden):
                    yield stamps, f"{name}_{layer}", "bin", bins, values[:, i]


def _rows(block: _Block) -> tuple[np.ndarray, ...]:
    """A block `[time, part]` as columns step, metric, dim, part, value."""
    stamps, name, dim, parts, values = block
    count = values.size
    return (
        np.repeat(stamps, len(parts)),
        np.full(count, name, object),
        np.full(count, dim, object),
        np.tile(np.asarray(parts, object), len(stamps)),
        np.asarray(values, np.float64).reshape(-1),
    )
