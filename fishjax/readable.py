"""Whether what a plan reads will have been measured, asked before anything runs."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from fishjax.evidence.contrast import NUMBERED, arms_of
from fishjax.evidence.plan import Contrast, Reading, Target
from fishjax.fields import UsageError, nearest
from fishjax.metrics import Measured, needed

SHOWN = 4


def check_readable(
    study: str,
    contrasts: Iterable[Contrast | Target],
    measured: Mapping[str, Mapping[str, Measured]],
) -> None:
    """Raises UsageError for a metric, an epoch, a layer, a share or a species that the plan of
    `study` reads and that some arm will not have measured.

    measured: by arm and metric.
    """
    for contrast in contrasts:
        for reading in contrast.reading.parts:
            for arm in {**arms_of(contrast.arm), **arms_of(contrast.control)}:
                _check_metrics(study, reading, arm, measured[arm])
                if reading.metric in measured[arm]:
                    _check_epochs(study, reading, arm, measured[arm][reading.metric])
                    _check_parts(study, reading, arm, measured[arm][reading.metric])


def _check_metrics(
    study: str, reading: Reading, arm: str, measured: Mapping[str, Measured]
) -> None:
    for metric in reading.metrics:
        if metric not in measured:
            raise UsageError(
                f"the plan of {study} reads {metric}, which arm {arm!r} does not measure: "
                f"{needed(metric)}"
            )


def _check_epochs(study: str, reading: Reading, arm: str, measured: Measured) -> None:
    for epoch in (reading.epoch, reading.since):
        if epoch is not None and epoch not in measured.epochs:
            raise UsageError(
                f"the plan of {study} reads {reading.metric} at epoch {epoch:g}, and arm {arm!r} "
                f"measures it at {_spelled(measured.epochs)}"
            )
    if reading.statistic == "instability" and not _evenly(reading, measured.epochs):
        raise UsageError(
            f"the plan of {study} reads the instability of {reading.metric}, and arm {arm!r} "
            f"measures it at {_spelled(measured.epochs)}: it takes three at least, at even steps"
        )


def _evenly(reading: Reading, epochs: Sequence[int]) -> bool:
    """Whether the epochs that an instability is read from are three or more at even steps."""
    first = 0 if reading.since is None else reading.since
    last = math.inf if reading.epoch is None else reading.epoch
    read = [epoch for epoch in epochs if first <= epoch <= last]
    return len(read) > 2 and len({b - a for a, b in itertools.pairwise(read)}) == 1


def _check_parts(study: str, reading: Reading, arm: str, measured: Measured) -> None:
    """Layer, share and species, whichever the reading names."""
    asked = (
        ("layer", reading.layer),
        ("share", reading.share),
        ("species", reading.species),
        ("species", reading.without),
    )
    for dim, name in asked:
        if name is None:
            continue
        if dim != measured.dim:
            raise UsageError(
                f"the plan of {study} reads {reading.metric} of {dim} {name!r}, and it is "
                + (f"measured by {measured.dim}" if measured.dim else "one number of the whole run")
            )
        if not any(_is(name, part, k) for k, part in enumerate(measured.parts, start=1)):
            raise UsageError(
                f"unknown {dim} in the plan of {study}: {name!r} of {reading.metric} in arm "
                f"{arm!r}{nearest(str(name), map(str, measured.parts))}"
            )


def _is(name: str | float, part: str | float, number: int) -> bool:
    """Whether a plan's `name` is the `number`-th of the parts."""
    if isinstance(name, str) or isinstance(part, str):
        counted = NUMBERED.fullmatch(str(name))
        return name == part or (counted is not None and int(counted[1]) == number)
    return math.isclose(name, part)


def _spelled(epochs: Sequence[int]) -> str:
    """`0, 5, 10, ..., 60`."""
    if len(epochs) <= SHOWN:
        return ", ".join(map(str, epochs))
    return f"{', '.join(map(str, epochs[: SHOWN - 1]))}, ..., {epochs[-1]}"
