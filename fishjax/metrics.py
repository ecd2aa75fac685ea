"""Which metrics a run of a configuration gives, of which of its parts, and after which epochs."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from fishjax.config import Config
from fishjax.fields import nearest

SPLITS = ("train", "val", "test")
"""The parts of the images that a network is scored on."""
SCORES = ("loss", "accuracy", "balanced_accuracy", "auc")
"""What it is scored by, one number a split each."""
BARRIER = "barrier"
"""The metric of an arm at the end of a study's line."""
DIMS = {"layers": "layer", "hidden": "layer", "shares": "share", "species": "species"}
"""By the kind of a run's parts the dimension that they are chosen along: every layer, those with an
activation, the shares of units that are killed, the species."""

Parts = Mapping[str, Sequence[str] | Sequence[float]]
"""By the kind, as in DIMS, what the parts are called."""


class Measured(NamedTuple):
    """The epochs after which a metric is measured, 0 before the first step; and of which parts,
    along which dimension, where it is not one number of the whole run.
    """

    epochs: Sequence[int]
    dim: str = ""
    parts: Sequence[str] | Sequence[float] = ()


class _Group(NamedTuple):
    """Metrics that come together: their names, what they need, whether that is there, and when.

    met: of a run's configuration, and of whether labels are flipped in it or beside it. of: the
    kind of part that each is measured of, one of DIMS, or nothing for the whole run.
    """

    names: tuple[str, ...]
    needs: str
    met: Callable[[Config, bool], bool]
    epochs: Callable[[Config], Sequence[int]]
    of: str = ""


def metrics(config: Config, parts: Parts, *, flips: bool) -> dict[str, Measured]:
    """Each metric that one number can be read of, by name.

    parts: of the run. flips: whether labels are flipped in this run or in one that is run beside
    it. Histograms and BARRIER are left out.
    """
    return {
        name: Measured(group.epochs(config), DIMS.get(group.of, ""), parts.get(group.of, ()))
        for group in _GROUPS
        if group.met(config, flips)
        for name in group.names
    }


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


def _always(*names: str, epochs: Callable[[Config], Sequence[int]], of: str = "") -> _Group:
    return _Group(names, "nothing", lambda config, flips: True, epochs, of)


def _flow(*names: str, of: str = "") -> _Group:
    return _Group(
        names,
        "watch.flow=epoch or step",
        lambda config, flips: config.watch.flow != "off",
        _every_epoch,
        of,
    )


def _also(
    measure: str,
    *names: str,
    epochs: Callable[[Config], Sequence[int]] = _when_due,
    of: str = "",
) -> _Group:
    """What a measure of `watch.also` gives."""
    return _Group(
        names,
        f"watch.also={measure}",
        lambda config, flips: measure in config.watch.also,
        epochs,
        of,
    )


_GROUPS = (
    _always("minibatch_loss", epochs=_every_epoch),
    _always(
        *(f"{split}_{score}" for split in SPLITS for score in SCORES),
        "revival",
        epochs=_evaluations,
    ),
    _always(*(f"{split}_auc_of" for split in SPLITS), epochs=_evaluations, of="species"),
    _always(
        *("activity", "dead_share", "born_dead_share", "died_share", "revived_share"),
        epochs=_evaluations,
        of="hidden",
    ),
    _always("dormant_share", epochs=_at_the_end, of="hidden"),
    _always("blocked_gradient", epochs=_at_the_end, of="shares"),
    _always("blocking_slope", epochs=_at_the_end),
    _flow("gradient_norm", "weight_norm", "flow", "update_ratio", of="layers"),
    _flow("flow_ratio", "flow_slope"),
    _Group(
        ("silent_share",),
        "watch.units=epoch or step",
        lambda config, flips: config.watch.units != "off",
        _every_epoch,
        "hidden",
    ),
    _Group(
        ("flipped_as_given_share", "flipped_as_clean_share", "unflipped_as_given_share"),
        "data.label_noise",
        lambda config, flips: flips,
        _evaluations,
    ),
    _also("cosine", "update_cosine", epochs=_every_epoch),
    _also("flow", "probe_flow", epochs=_evaluations, of="layers"),
    _also(
        "flow",
        *("probe_flow_ratio", "probe_flow_slope", "probe_inner_flow_slope"),
        "probe_gradient_norm",
        epochs=_evaluations,
    ),
    _also("gradient_cosine", "gradient_cosine", epochs=_evaluations),
    _also("overshoot", "overshoot", epochs=_evaluations),
    _also(
        "activations",
        *("activation_mean", "activation_variance", "saturated_share"),
        *("tau_dormant_share", "tau_zero_share"),
        of="hidden",
    ),
    _also("features", "effective_rank"),
    _also("noise", "gradient_square", "gradient_noise", "noise_scale"),
    _also("batch_stats", "batch_stats_loss_gap", "batch_stats_accuracy_gap"),
    _also(
        "curvature",
        *("sharpness", "sharpness_error", "sharpness_ratio"),
        *("least_eigenvalue", "least_eigenvalue_error", "full_gradient_norm"),
    ),
    _also("probe", "probe_balanced_accuracy", "probe_auc"),
    _also("probe", "probe_auc_of", of="species"),
    _also("held_out_probe", "held_out_probe_auc_of", of="species"),
    _also(
        "recomputed",
        *("recomputed_val_loss", "recomputed_val_accuracy"),
        *("recomputed_test_loss", "recomputed_test_accuracy"),
    ),
)
