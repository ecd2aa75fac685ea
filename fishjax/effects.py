"""Which fields of a configuration have an effect beside the others; one without is refused."""

from collections.abc import Callable

from fishjax.config import Config
from fishjax.sections import CYCLES, PROMPT

_Need = tuple[str, Callable[[Config], bool]]

OWN_INERT = (
    *("hyper.init_gain", "hyper.bias_shift", "hyper.leaky_slope", "hyper.dropout"),
    "hyper.norm_momentum",
)


def missing(config: Config, key: str) -> str:
    """What `key` would need to have an effect on a run of `config`, in words; empty if it has one.

    A network of the user's own is touched by no other field of `model` and by none of OWN_INERT.
    """
    ours = key in OWN_INERT or (key.startswith("model.") and key != "model.own")
    if config.model.own and ours:
        return "a network of fishjax, and model.own is set"
    words, met = _NEEDS.get(key, ("", lambda config: True))
    return "" if met(config) else words


def _normed(config: Config) -> bool:
    return config.model.norm != "none"


def _adaptive(config: Config) -> bool:
    return config.optim.kind in ("adam", "adamw", "rmsprop")


def _weighted(config: Config) -> bool:
    return config.loss.class_weight != "none"


def _one_cycle(config: Config) -> bool:
    return config.schedule.kind == "one_cycle"


_NEEDS: dict[str, _Need] = {
    "model.norm_at": ("a model.norm", _normed),
    "model.norm_place": ("a model.norm", _normed),
    "model.groups": ("model.norm=group", lambda c: c.model.norm == "group"),
    "hyper.norm_momentum": ("model.norm=batch", lambda c: c.model.norm == "batch"),
    "hyper.leaky_slope": (
        "model.activation=leaky_relu",
        lambda c: c.model.activation == "leaky_relu",
    ),
    "hyper.beta2": ("optim.kind=adam, adamw or rmsprop", _adaptive),
    "hyper.epsilon": ("optim.kind=adam, adamw or rmsprop", _adaptive),
    "optim.decay": (
        "hyper.weight_decay, and another optimiser than adamw",
        lambda c: c.hyper.weight_decay > 0 and c.optim.kind != "adamw",
    ),
    "optim.order_from": ("another optim.order than 0", lambda c: c.optim.order > 0),
    "schedule.period": (
        f"schedule.kind={', '.join(CYCLES)}",
        lambda c: c.schedule.kind in CYCLES,
    ),
    "schedule.floor": (
        "another schedule.kind than constant",
        lambda c: c.schedule.kind != "constant",
    ),
    "schedule.factor": (
        "schedule.kind=step, exponential or exp_range",
        lambda c: c.schedule.kind in ("step", "exponential", "exp_range"),
    ),
    "schedule.growth": ("schedule.kind=sgdr", lambda c: c.schedule.kind == "sgdr"),
    "schedule.again": ("schedule.kind=sgdr", lambda c: c.schedule.kind == "sgdr"),
    "schedule.shuffled": (
        "a rate that changes before the anneal: another schedule.kind than constant, or a warm-up",
        lambda c: c.schedule.kind != "constant" or c.schedule.warmup > 0,
    ),
    "schedule.rise": ("schedule.kind=one_cycle", _one_cycle),
    "schedule.momentum_low": ("schedule.kind=one_cycle", _one_cycle),
    "loss.focal_gamma": ("loss.kind=focal", lambda c: c.loss.kind == "focal"),
    "loss.class_weight_power": ("a loss.class_weight", _weighted),
    "loss.class_weight_shift": ("a loss.class_weight", _weighted),
    "loss.class_weight_swap": (
        "a loss.class_weight_shift",
        lambda c: _weighted(c) and c.loss.class_weight_shift != 0,
    ),
    "loss.effective_beta": (
        "loss.class_weight=effective",
        lambda c: c.loss.class_weight == "effective",
    ),
    "data.imbalance_ratio": ("a data.imbalance", lambda c: c.data.imbalance != "none"),
    "data.imbalance_species": (
        "data.imbalance=species",
        lambda c: c.data.imbalance == "species",
    ),
    "data.label_noise_kind": ("data.label_noise", lambda c: c.data.label_noise > 0),
    "data.cue_share": ("a data.cue", lambda c: c.data.cue != "none"),
    "watch.also_every": (
        f"a watch.also that waits for it, another than {', '.join(PROMPT)}",
        lambda c: bool(set(c.watch.also) - set(PROMPT)),
    ),
}
"""By field: what it needs beside it, in words, and whether that is there."""
