"""Whether what a plan reads will have been measured, asked before anything runs."""

from collections.abc import Iterable, Mapping, Sequence

from fishjax.config import Config
from fishjax.evidence.contrast import arms_of
from fishjax.evidence.plan import Contrast, Reading, Target
from fishjax.fields import UsageError, choose
from fishjax.metrics import metrics, needed

SHOWN = 4
Epochs = Sequence[int]


def check_readable(
    study: str,
    contrasts: Iterable[Contrast | Target],
    arms: Mapping[str, Config],
    species: Sequence[str],
    besides: Mapping[str, Mapping[str, Epochs]] | None = None,
) -> None:
    """Raises UsageError for a metric, an epoch or a species that the plan of `study` reads and that
    some arm will not have measured.

    arms: every arm's configuration. species: the source's, which a plan may name or number.
    besides: by arm and metric the epochs of what is measured between runs.
    """
    flips = any(config.data.label_noise for config in arms.values())
    measured = {
        arm: {**metrics(config, flips=flips), **(besides or {}).get(arm, {})}
        for arm, config in arms.items()
    }
    known = [*species, *(f"#{k}" for k in range(1, len(species) + 1))]
    for contrast in contrasts:
        read = {**arms_of(contrast.arm), **arms_of(contrast.control)}
        for reading in contrast.reading.parts:
            for name in filter(None, (reading.species, reading.without)):
                choose(name, known, f"species in the plan of {study}:")
            for arm in read:
                _check(study, reading, arm, measured[arm])


def _check(study: str, reading: Reading, arm: str, measured: Mapping[str, Epochs]) -> None:
    for metric in reading.metrics:
        if metric not in measured:
            raise UsageError(
                f"the plan of {study} reads {metric}, which arm {arm!r} does not measure: "
                f"{needed(metric)}"
            )
    for epoch in (reading.epoch, reading.since):
        if epoch is not None and epoch not in measured[reading.metric]:
            raise UsageError(
                f"the plan of {study} reads {reading.metric} at epoch {epoch:g}, and arm {arm!r} "
                f"measures it at {_spelled(measured[reading.metric])}"
            )


def _spelled(epochs: Epochs) -> str:
    """`0, 5, 10, ..., 60`."""
    if len(epochs) <= SHOWN:
        return ", ".join(map(str, epochs))
    return f"{', '.join(map(str, epochs[: SHOWN - 1]))}, ..., {epochs[-1]}"
