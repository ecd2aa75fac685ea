"""What a run is: the user's `Config`, and what it lowers to, a static `Setup` and a traced `Hyper`.

Every field declares on itself whether it is *static* (it changes the compiled program) or *traced*
(it is a number the program is fed), its bounds and its choices. Two configurations that lower to
equal `Setup`s share one compiled program.
"""

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import Any, NamedTuple

from fishjax.fields import UsageError, check, static, traced


@dataclass(frozen=True)
class Model:
    depth: int = static(4, "number of convolution layers", low=1, high=32)
    widths: tuple[int, ...] = static(
        (8, 16, 16, 32),
        "channels of each convolution; the last repeats",
        low=1,
        high=4096,
        nonempty=True,
    )
    pool_every: int = static(1, "2x2 max-pool after every n-th convolution while it fits", low=1)
    dense: tuple[int, ...] = static((), "units of each hidden dense layer", low=1, high=65536)
    activation: str = traced("relu", "activation", choices=("relu", "leaky_relu"))
    norm: str = static("none", "normalisation after the convolution", choices=("none", "batch"))
    norm_at: tuple[int, ...] = static(
        (), "convolutions that get the norm, from 0; none = all", low=0
    )
    init: str = traced("he", "distribution of initial weights", choices=("he", "normal"))

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of every convolution, `depth` of them."""
        widths = self.widths[: self.depth]
        return widths + (widths[-1],) * (self.depth - len(widths))

    @property
    def normed(self) -> tuple[int, ...]:
        """The convolutions that are followed by a norm, in order."""
        if self.norm == "none":
            return ()
        return tuple(sorted(set(self.norm_at))) or tuple(range(self.depth))


@dataclass(frozen=True)
class Optim:
    kind: str = static("sgd", "optimiser", choices=("sgd",))
    batch_size: int = static(32, "images in a minibatch", low=1)
    order: int = traced(0, "which of a seed's orders of minibatches", low=0, high=2**20)
    epochs: int = static(60, "passes over the training subset", low=1)


@dataclass(frozen=True)
class Schedule:
    kind: str = traced(
        "constant", "shape of the rate over time", choices=("constant", "cosine", "triangular")
    )
    period: float = traced(10.0, "epochs of one triangular cycle", low=0.0, above=True)
    warmup: float = traced(0.0, "epochs of linear warm-up", low=0.0)
    floor: float = traced(0.0, "lowest rate as a share of hyper.lr", low=0.0, high=1.0)


@dataclass(frozen=True)
class Loss:
    kind: str = static("cross_entropy", "training loss", choices=("cross_entropy",))


@dataclass(frozen=True)
class Data:
    train_size: int = static(256, "training images of a seed", low=1)
    val_size: int = static(128, "validation images of a seed", low=1)
    image_size: int = static(24, "height and width in pixels", low=8, high=512)


@dataclass(frozen=True)
class Watch:
    every: int = static(5, "epochs between evaluations", low=1)
    flow: str = static(
        "epoch", "resolution of the per-layer norms", choices=("off", "epoch", "step")
    )
    units: str = static(
        "epoch", "resolution of unit activity on the minibatch", choices=("off", "epoch", "step")
    )


@dataclass(frozen=True)
class Scalars:
    """The section `hyper`."""

    lr: float = traced(0.02, "learning rate (the schedule's highest)", low=0.0, above=True)
    momentum: float = traced(0.9, "SGD momentum", low=0.0, high=1.0, below=True)
    weight_decay: float = traced(0.0, "L2 coefficient on kernels, coupled as in SGD", low=0.0)
    clip: float = traced(
        math.inf, "largest global gradient norm of a run", low=0.0, above=True, endless=True
    )
    dropout: float = traced(
        0.0, "share of hidden dense units dropped", low=0.0, high=1.0, below=True
    )
    init_gain: float = traced(1.0, "factor on the initial weights' deviation", low=0.0)
    bias_shift: float = traced(0.0, "initial bias of every hidden layer")
    leaky_slope: float = traced(0.01, "slope of leaky_relu below zero", low=0.0, high=1.0)
    label_smoothing: float = traced(
        0.0, "mass moved to the uniform label", low=0.0, high=1.0, below=True
    )


@dataclass(frozen=True)
class Config:
    """What a user says of one run: every field has a dotted name `section.field`."""

    model: Model = Model()
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    data: Data = Data()
    watch: Watch = Watch()
    hyper: Scalars = Scalars()

    def __post_init__(self) -> None:
        for name, field in fields().items():
            section, _, attribute = name.partition(".")
            check(name, field, getattr(getattr(self, section), attribute))
        beyond = [layer for layer in self.model.norm_at if layer >= self.model.depth]
        if beyond:
            raise UsageError(
                f"model.norm_at names convolution {beyond[0]}, but the last of "
                f"model.depth={self.model.depth} is {self.model.depth - 1}"
            )
        if self.optim.batch_size > self.data.train_size:
            raise UsageError(
                f"optim.batch_size={self.optim.batch_size} is more than "
                f"data.train_size={self.data.train_size}; no step would be taken"
            )
        if self.optim.epochs % self.watch.every:
            raise UsageError(
                f"optim.epochs={self.optim.epochs} is not a multiple of "
                f"watch.every={self.watch.every}"
            )


class ScheduleShape(NamedTuple):
    """`Schedule` as numbers; times in epochs."""

    kind: float
    period: float
    warmup: float
    floor: float


class Hyper(NamedTuple):
    """Everything about a run that is traced: scalars here, arrays `[run]` in a pack."""

    lr: float
    momentum: float
    weight_decay: float
    clip: float
    dropout: float
    init: float
    init_gain: float
    bias_shift: float
    slope: float
    label_smoothing: float
    order: float
    schedule: ScheduleShape


@dataclass(frozen=True)
class Setup:
    """Everything about a run that is static; equal setups share one compiled program."""

    model: Model
    optim: Optim
    loss: Loss
    data: Data
    watch: Watch
    classes: int

    @property
    def steps_per_epoch(self) -> int:
        """Full minibatches in one pass; the rest of a shuffled epoch is left out."""
        return self.data.train_size // self.optim.batch_size


def lower(config: Config, classes: int) -> tuple[Setup, Hyper]:
    """Splits a configuration into the program it needs and the numbers that program is fed."""
    setup = Setup(
        model=_untraced(config.model),
        optim=_untraced(config.optim),
        loss=config.loss,
        data=config.data,
        watch=config.watch,
        classes=classes,
    )
    h, s = config.hyper, config.schedule
    hyper = Hyper(
        lr=h.lr,
        momentum=h.momentum,
        weight_decay=h.weight_decay,
        clip=h.clip,
        dropout=h.dropout,
        init=_code(config.model, "init"),
        init_gain=h.init_gain,
        bias_shift=h.bias_shift,
        slope=h.leaky_slope if config.model.activation == "leaky_relu" else 0.0,
        label_smoothing=h.label_smoothing,
        order=float(config.optim.order),
        schedule=ScheduleShape(_code(s, "kind"), s.period, s.warmup, s.floor),
    )
    return setup, hyper


def choices(section: type, name: str) -> tuple[str, ...]:
    """The choices of a field, in the order of their traced codes."""
    return _field(section, name).metadata["choices"]


def fields() -> dict[str, dataclasses.Field]:
    """Every field of a configuration under its dotted name."""
    return {
        f"{section.name}.{field.name}": field
        for section in dataclasses.fields(Config)
        for field in dataclasses.fields(typing.cast(type, section.type))
    }


def _untraced(section: Any) -> Any:
    """The section with its traced fields at their defaults: equal programs compare equal."""
    defaults = {
        f.name: f.default for f in dataclasses.fields(section) if f.metadata["kind"] == "traced"
    }
    return dataclasses.replace(section, **defaults)


def _code(section: Any, name: str) -> float:
    return float(choices(type(section), name).index(getattr(section, name)))


def _field(section: type, name: str) -> dataclasses.Field:
    return next(field for field in dataclasses.fields(section) if field.name == name)
