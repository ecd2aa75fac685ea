"""What a configuration lowers to: a static `Setup`, the program, and a traced `Hyper`, its input.

Two configurations that lower to equal `Setup`s share one compiled program.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

from fishjax.config import Config
from fishjax.sections import RECTIFIERS, Data, Model, Optim, Watch


class ScheduleShape(NamedTuple):
    """`sections.Schedule` as numbers; times in epochs."""

    kind: float
    period: float
    warmup: float
    floor: float
    factor: float
    growth: float
    again: float
    rise: float
    momentum_low: float
    anneal: float
    shuffled: float


class LossShape(NamedTuple):
    """`sections.Loss` as numbers. focal_gamma is 0 where the loss is plain cross-entropy."""

    focal_gamma: float
    class_weight: float
    class_weight_power: float
    class_weight_shift: float
    class_weight_swap: float
    effective_beta: float
    logit_adjustment: float
    smoothing: float


class AugmentShape(NamedTuple):
    """`sections.Augment` as numbers; 0 is off."""

    flip: float
    shift: float
    cutout: float
    colour: float
    mixup: float


class Hyper(NamedTuple):
    """Everything about a run that is traced: scalars here, arrays `[run]` in a pack."""

    lr: float
    momentum: float
    beta2: float
    epsilon: float
    weight_decay: float
    clip: float
    dropout: float
    init: float
    init_gain: float
    bias_shift: float
    slope: float
    norm_momentum: float
    order: float
    order_from: float
    sampling: float
    frozen: float
    schedule: ScheduleShape
    loss: LossShape
    augment: AugmentShape


@dataclass(frozen=True)
class Setup:
    """Everything about a run that is static; equal setups share one compiled program.

    augment: the augmentations that the program holds, those of strength 0 left out.
    """

    model: Model
    optim: Optim
    data: Data
    watch: Watch
    augment: tuple[str, ...]
    classes: int

    @property
    def steps_per_epoch(self) -> int:
        """Full minibatches in one pass; the rest of a shuffled epoch is left out."""
        return self.data.train_size // self.optim.batch_size

    @property
    def chunks(self) -> int:
        """How often the network is evaluated after its start."""
        return self.optim.epochs // self.watch.every


def lower(config: Config, classes: int) -> tuple[Setup, Hyper]:
    """Splits a configuration into the program it needs and the numbers that program is fed."""
    model = _untraced(config.model)
    if model.activation in RECTIFIERS:
        model = dataclasses.replace(model, activation="relu")
    augment = AugmentShape(**dataclasses.asdict(config.augment))
    setup = Setup(
        model=model,
        optim=_untraced(config.optim),
        data=_untraced(config.data),
        watch=dataclasses.replace(config.watch, also=tuple(sorted(set(config.watch.also)))),
        augment=tuple(name for name, strength in augment._asdict().items() if strength),
        classes=classes,
    )
    return setup, _hyper(config, augment)


def choices(section: type, name: str) -> tuple[str, ...]:
    """The choices of a field, in the order of their traced codes."""
    return _field(section, name).metadata["choices"]


def _hyper(config: Config, augment: AugmentShape) -> Hyper:
    h, s, loss = config.hyper, config.schedule, config.loss
    return Hyper(
        lr=h.lr,
        momentum=h.momentum,
        beta2=h.beta2,
        epsilon=h.epsilon,
        weight_decay=h.weight_decay,
        clip=h.clip,
        dropout=h.dropout,
        init=_code(config.model, "init"),
        init_gain=h.init_gain,
        bias_shift=h.bias_shift,
        slope=h.leaky_slope if config.model.activation == "leaky_relu" else 0.0,
        norm_momentum=h.norm_momentum,
        order=float(config.optim.order),
        order_from=float(config.optim.order_from),
        sampling=_code(config.optim, "sampling"),
        frozen=float(config.optim.frozen),
        schedule=ScheduleShape(
            kind=_code(s, "kind"),
            period=s.period,
            warmup=s.warmup,
            floor=s.floor,
            factor=s.factor,
            growth=s.growth,
            again=s.again,
            rise=s.rise,
            momentum_low=s.momentum_low,
            anneal=s.anneal,
            shuffled=float(s.shuffled),
        ),
        loss=LossShape(
            focal_gamma=loss.focal_gamma if loss.kind == "focal" else 0.0,
            class_weight=_code(loss, "class_weight"),
            class_weight_power=loss.class_weight_power,
            class_weight_shift=float(loss.class_weight_shift),
            class_weight_swap=float(loss.class_weight_swap),
            effective_beta=loss.effective_beta,
            logit_adjustment=loss.logit_adjustment,
            smoothing=h.label_smoothing,
        ),
        augment=augment,
    )


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
