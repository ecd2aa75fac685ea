"""What a learning-rate range test says (Smith 2017): smoothed losses, and the rates they suggest.

The rules are those of fastai's `lr_find` (`valley`, `slide`, `steep` and `minimum` of
`fastai.callback.schedule`), on epochs where fastai has minibatches.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

KEPT_PER_STEP = 0.98
WORSE = 4.0
SKIPPED_FIRST, SKIPPED_LAST = 0.1, 5
SLIDING, ALIKE = 15, 0.005
FEWEST = 20

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RangeTest:
    """rates: learning rates that rise, `[epoch]`. losses: mean minibatch losses, `[seed, epoch]`,
    not a number from where a seed diverged or was not trained on. steps: minibatches an epoch.
    """

    rates: Floats
    losses: Floats
    steps: int

    @property
    def smoothed(self) -> Floats:
        """Running means of the losses that keep 0.98 a step, debiased, `[seed, epoch]`.

        Not a number from where a seed is over: diverged, or above 4 times its best.
        """
        kept = KEPT_PER_STEP**self.steps
        running, means = np.zeros(len(self.losses)), []
        for epoch, loss in enumerate(self.losses.T):
            running = kept * running + (1 - kept) * loss
            means.append(running / (1 - kept ** (epoch + 1)))
        curves = np.stack(means, axis=1)
        over = ~(curves <= WORSE * np.fmin.accumulate(curves, axis=1))
        return np.where(np.maximum.accumulate(over, axis=1), np.nan, curves)

    def over_by(self, epoch: int) -> bool:
        """Whether every seed is over in that epoch; higher rates will say nothing more."""
        return bool(np.isnan(self.smoothed[:, epoch]).all())

    def suggestions(self) -> dict[str, Floats]:
        """The rate that each rule suggests for each seed, `[seed]`.

        The first tenth and the last five epochs before a seed is over are left out; not a number
        where that leaves fewer than two.
        """
        first = int(SKIPPED_FIRST * len(self.rates))
        found = []
        for curve in self.smoothed:
            seen = slice(first, max(int(np.isfinite(curve).sum()) - SKIPPED_LAST, first))
            rates, losses = self.rates[seen], curve[seen]
            enough = len(rates) >= 2
            found.append([rule(rates, losses) if enough else np.nan for rule in RULES.values()])
        return dict(zip(RULES, np.asarray(found).T, strict=True))


def valley(rates: Floats, losses: Floats) -> float:
    """The middle of the longest fall.

    It ends where the longest falling subsequence does, and is as many epochs long.
    """
    lengths = np.ones(len(losses), int)
    for i in range(1, len(losses)):
        higher = lengths[:i][losses[:i] > losses[i]]
        lengths[i] = 1 + higher.max(initial=0)
    end = int(np.argmax(lengths))
    length = int(lengths[end])
    return float(rates[max(0, end - length + length // 3 + length // 6)])


def slide(rates: Floats, losses: Floats) -> float:
    """Where the climb at the end begins: an interval of 15 epochs slides down from the last one.

    It stops once the loss falls per epoch at both of its ends alike, to 0.005; the rate is that of
    the lower end before (A. Chang). Not a number where no interval fits.
    """
    if len(rates) <= SLIDING:
        return float("nan")
    falls = np.gradient(losses)
    alike = np.flatnonzero(np.abs(falls[SLIDING:] - falls[:-SLIDING]) <= ALIKE)
    stopped = int(alike[-1]) if len(alike) else -1
    return float(rates[min(stopped + 1, len(rates) - 1 - SLIDING)])


def steepest(rates: Floats, losses: Floats) -> float:
    """Where the loss falls fastest over the logarithm of the rate, until the next epoch's."""
    return float(rates[np.argmin(np.diff(losses) / np.diff(np.log(rates)))])


def tenth_of_minimum(rates: Floats, losses: Floats) -> float:
    """A tenth of the rate at the lowest loss."""
    return float(rates[np.argmin(losses)]) / 10


RULES = {"valley": valley, "slide": slide, "steepest": steepest, "minimum / 10": tenth_of_minimum}
