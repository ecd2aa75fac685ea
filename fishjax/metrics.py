"""Which metrics a run of a configuration gives, and after which epochs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fishjax.config import Config
from fishjax.fields import nearest

BARRIER = "barrier"
"""The metric of an arm at the end of a study's line."""


class _Group(NamedTuple):
    """Metrics that come together: their names, what they need, whether that is there, and when.

    met: of a run's configuration, and of whether labels are flipped in it or beside it.
    """

    names: tuple[str, ...]
    needs: str
    met: Callable[[Config, bool], bool]
    epochs: Callable[[Config], Sequence[int]]


def metrics(config: Config, *, flips: bool) -> dict[str, Sequence[int]]:
    """By name of each metric that one number can be read of, the epochs after which it is measured.

    flips: whether labels are flipped in this run or in one that is run beside it. Epoch 0 is before
    the first step. Histograms and BARRIER are left out.
    """
    given = [group for group in _GROUPS if group.met(config, flips)]
    return {name: group.epochs(config) for group in given for name in group.names}


def needed(metric: str) -> str:
    """What `metric` needs to be measured, or that there is none of this name, with the nearest."""
    if metric == BARRIER:
        return "it needs a line of the study to that arm"
    for group in _GROUPS:
        if metric in group.names:
            return f"it needs {group.needs}"
    known = (name for group in _GROUPS for name in group.names)
    return f"there is no such metric{nearest(metric, known)}"


def _every_epoch(config: Config) -> Sequence[int]:
    return range(1, config.optim.epochs + 1)


def _evaluations(config: Config) -> Sequence[int]:
    return range(0, config.optim.epochs + 1, config.watch.every)


def _at_the_end(config: Config) -> Sequence[int]:
    return (config.optim.epochs,)


def _when_due(config: Config) -> Sequence[int]:
    every, end = config.watch.also_every, config.optim.epochs
    return (*(range(0, end, every) if every else ()), end)


def _always(*names: str, epochs: Callable[[Config], Sequence[int]]) -> _Group:
    return _Group(names, "nothing", lambda config, flips: True, epochs)


def _also(
    measure: str, *names: str, epochs: Callable[[Config], Sequence[int]] = _when_due
) -> _Group:
    """What a measure of `watch.also` gives."""
    return _Group(
        names, f"watch.also={measure}", lambda config, flips: measure in config.watch.also, epochs
    )


_SCORES = ("loss", "accuracy", "balanced_accuracy", "auc", "auc_of")
_GROUPS = (
    _always("minibatch_loss", epochs=_every_epoch),
    _always(
        *(f"{split}_{score}" for split in ("train", "val", "test") for score in _SCORES),
        *("activity", "dead_share", "born_dead_share", "died_share", "revived_share", "revival"),
        epochs=_evaluations,
    ),
    _always("dormant_share", "blocked_gradient", "blocking_slope", epochs=_at_the_end),
    _Group(
        ("gradient_norm", "weight_norm", "flow", "update_ratio", "flow_ratio", "flow_slope"),
        "watch.flow=epoch or step",
        lambda config, flips: config.watch.flow != "off",
        _every_epoch,
    ),
    _Group(
        ("silent_share",),
        "watch.units=epoch or step",
        lambda config, flips: config.watch.units != "off",
        _every_epoch,
    ),
    _Group(
        ("flipped_as_given_share", "flipped_as_clean_share", "unflipped_as_given_share"),
        "data.label_noise",
        lambda config, flips: flips,
        _evaluations,
    ),
    _also("cosine", "update_cosine", epochs=_every_epoch),
    _also(
        "flow",
        *("probe_flow", "probe_flow_ratio", "probe_flow_slope", "probe_gradient_norm"),
        epochs=_evaluations,
    ),
    _also("gradient_cosine", "gradient_cosine", epochs=_evaluations),
    _also("overshoot", "overshoot", epochs=_evaluations),
    _also(
        "activations",
        *("activation_mean", "activation_variance", "saturated_share"),
        *("tau_dormant_share", "tau_zero_share"),
    ),
    _also("features", "effective_rank"),
    _also("noise", "gradient_square", "gradient_noise", "noise_scale"),
    _also("batch_stats", "batch_stats_loss_gap", "batch_stats_accuracy_gap"),
    _also(
        "curvature",
        *("sharpness", "sharpness_error", "sharpness_ratio"),
        *("least_eigenvalue", "least_eigenvalue_error", "full_gradient_norm"),
    ),
    _also("probe", "probe_balanced_accuracy", "probe_auc", "probe_auc_of"),
    _also("held_out_probe", "held_out_probe_auc_of"),
    _also(
        "recomputed",
        *("recomputed_val_loss", "recomputed_val_accuracy"),
        *("recomputed_test_loss", "recomputed_test_accuracy"),
    ),
)
