"""What a run is, as a user says it: a `Config` of sections, and the combinations it refuses.

Every field declares on itself whether it is *static* (it changes the compiled program) or *traced*
(it is an input of it), its bounds and its choices.
"""

import dataclasses
import math
import typing
from dataclasses import dataclass

from fishjax.fields import UsageError, check
from fishjax.sections import CYCLES, Augment, Data, Loss, Model, Optim, Scalars, Schedule, Watch


@dataclass(frozen=True)
class Config:
    """What a user says of one run: every field has a dotted name `section.field`.

    Raises UsageError for a value out of its bounds and for parts that cannot go together.
    """

    model: Model = Model()
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    data: Data = Data()
    augment: Augment = Augment()
    watch: Watch = Watch()
    hyper: Scalars = Scalars()

    def __post_init__(self) -> None:
        for name, field in fields().items():
            section, _, attribute = name.partition(".")
            check(name, field, getattr(getattr(self, section), attribute))
        for reasons in (_model, _norm, _frozen, _time, _loss, _data, _augment, _own):
            for reason in reasons(self):
                raise UsageError(reason)


def fields() -> dict[str, dataclasses.Field]:
    """Every field of a configuration under its dotted name."""
    return {
        f"{section.name}.{field.name}": field
        for section in dataclasses.fields(Config)
        for field in dataclasses.fields(typing.cast(type, section.type))
    }


Reasons = typing.Iterator[str]


def _model(config: Config) -> Reasons:
    """Shapes that cannot be built."""
    model, size = config.model, config.data.image_size
    if model.own:
        return
    if model.pool_every and model.depth // model.pool_every > len(model.halved_after(size)):
        halvings = model.depth // model.pool_every
        yield (
            f"model.depth={model.depth} with model.pool_every={model.pool_every} halves the image "
            f"{halvings} times, which leaves nothing of {size} pixels; "
            f"model.pool_every=0 halves while it fits"
        )
    if model.block == "residual" and model.depth % 2 == 0:
        yield (
            f"model.block=residual is a first convolution and pairs; model.depth={model.depth} "
            f"is even, {model.depth + 1} would do"
        )
    if config.hyper.dropout and not model.dense:
        yield "hyper.dropout acts on hidden dense layers, and model.dense has none"


def _norm(config: Config) -> Reasons:
    """Norms that have nothing to normalise over."""
    model = config.model
    if model.own:
        return
    beyond = [layer for layer in model.norm_at if layer >= model.layer_count]
    if beyond:
        yield (
            f"model.norm_at names layer {beyond[0]}, but model.depth={model.depth} and "
            f"{len(model.dense)} dense layers end with the logits, {model.layer_count - 1}"
        )
    if model.norm == "batch" and config.optim.batch_size == 1:
        yield (
            "model.norm=batch with optim.batch_size=1 has a single image to take statistics of; "
            "take a larger batch or model.norm=group"
        )
    flat = [layer for layer in model.normed if layer >= model.depth]
    if model.norm == "instance" and flat:
        yield f"model.norm=instance at layer {flat[0]} has no pixels to take statistics of"
    lone = [i for i in model.normed if i < model.depth and _side(config, i) == 1]
    single = model.norm == "group" and [i for i in lone if model.channels[i] == model.groups]
    blind = lone if model.norm == "instance" else single
    narrow = [i for i in lone if model.channels[i] == 1]
    narrow += [i for i in flat if model.dense[i - model.depth :][:1] == (1,)]
    if model.norm == "layer" and narrow:
        yield (
            f"model.norm=layer at layer {narrow[0]}, which has a single value, gives the same for "
            "every image; leave it out of model.norm_at"
        )
    if blind:
        yield (
            f"model.norm={model.norm} at convolution {blind[0]}, where a single pixel is left, "
            "gives the same for every image; halve less or leave it out of model.norm_at"
        )
    if model.norm == "group":
        convs = [layer for layer in model.normed if layer < model.depth]
        uneven = [i for i in convs if model.channels[i] % model.groups]
        if uneven:
            yield (
                f"model.groups={model.groups} does not divide the {model.channels[uneven[0]]} "
                f"channels of convolution {uneven[0]}"
            )
        if flat:
            yield f"model.norm=group is for convolutions; layer {flat[0]} is dense"


def _frozen(config: Config) -> Reasons:
    """Layers held where they began that leave nothing to train."""
    model, frozen = config.model, config.optim.frozen
    if frozen and not model.own and frozen >= model.layer_count:
        yield (
            f"optim.frozen={frozen} holds all {model.layer_count} layers where they began; "
            f"{model.layer_count - 1} leaves the logits to train"
        )


def _side(config: Config, conv: int) -> int:
    """Pixels of a side of what convolution `conv` gives, before a max-pool."""
    size = config.data.image_size
    halved = config.model.halved_after(size)
    if config.model.downsample == "stride":
        return -(-size // 2 ** sum(i <= conv for i in halved))
    return size // 2 ** sum(i < conv for i in halved)


def _time(config: Config) -> Reasons:
    """Times that do not fit into the run."""
    optim, schedule = config.optim, config.schedule
    if optim.epochs % config.watch.every:
        yield (f"optim.epochs={optim.epochs} is not a multiple of watch.every={config.watch.every}")
    if schedule.warmup >= optim.epochs:
        yield f"schedule.warmup={schedule.warmup:g} lasts the whole run of {optim.epochs} epochs"
    if schedule.kind in CYCLES and schedule.period > optim.epochs:
        yield (
            f"schedule.period={schedule.period:g} of schedule.kind={schedule.kind} is longer than "
            f"the run of {optim.epochs} epochs"
        )
    if schedule.kind == "sgdr" and schedule.growth > 1:
        first, length = _last_cycle(schedule, optim.epochs)
        if length > optim.epochs:
            yield (
                f"schedule.growth={schedule.growth:g} makes a cycle of {length:g} epochs from "
                f"epoch {first:g} on, longer than the run of {optim.epochs} epochs"
            )
    if schedule.warmup + schedule.anneal > optim.epochs:
        yield (
            f"schedule.warmup={schedule.warmup:g} and schedule.anneal={schedule.anneal:g} do not "
            f"fit into the run of {optim.epochs} epochs"
        )
    if optim.order_from >= optim.epochs:
        yield (
            f"optim.order_from={optim.order_from} is not within the run of {optim.epochs} epochs; "
            "optim.order would never hold"
        )
    if config.watch.also_every >= optim.epochs:
        yield (
            f"watch.also_every={config.watch.also_every} does not come within the run of "
            f"{optim.epochs} epochs; 0 measures at its end"
        )
    if config.watch.also_every % config.watch.every:
        yield (
            f"watch.also_every={config.watch.also_every} is not a multiple of "
            f"watch.every={config.watch.every}"
        )


def _last_cycle(schedule: Schedule, epochs: int) -> tuple[float, float]:
    """Start and length of the sgdr cycle in which a run ends, in epochs."""
    first, length = 0.0, schedule.period
    while first + length < epochs:
        first, length = first + length, length * schedule.growth
    return first, length


def _loss(config: Config) -> Reasons:
    """Losses whose parts do not compose."""
    if config.loss.kind == "focal" and config.loss.logit_adjustment:
        yield (
            "loss.kind=focal and loss.logit_adjustment both reweigh the species; the focal factor "
            "would be taken of adjusted probabilities; choose one"
        )
    reweighed = {
        "loss.class_weight": config.loss.class_weight != "none",
        "loss.logit_adjustment": config.loss.logit_adjustment > 0,
    }
    for name, present in reweighed.items():
        if present and config.optim.sampling == "balanced":
            yield (
                f"optim.sampling=balanced and {name} both correct for how often a species is "
                "trained on; together they would overcorrect; choose one"
            )


def _data(config: Config) -> Reasons:
    """Sizes and corruptions that contradict each other."""
    data = config.data
    if config.optim.batch_size > data.train_size:
        yield (
            f"optim.batch_size={config.optim.batch_size} is more than "
            f"data.train_size={data.train_size}; no step would be taken"
        )
    if data.imbalance == "species" and not data.imbalance_species:
        yield "data.imbalance=species needs data.imbalance_species"
    if data.resolution == 1:
        yield "data.resolution=1 leaves one colour of an image; at least 2 is needed"
    if data.resolution > data.image_size:
        yield (f"data.resolution={data.resolution} is more than data.image_size={data.image_size}")


def _augment(config: Config) -> Reasons:
    """Strengths that round to no pixel, and colours in no unit."""
    augment, size = config.augment, config.data.image_size
    for name in ("shift", "cutout"):
        strength = getattr(augment, name)
        if 0 < strength * size <= 0.5:
            least = math.floor(0.5 / size * 1e4 + 1) / 1e4
            yield (
                f"augment.{name}={strength:g} is at most half a pixel of {size} and rounds to "
                f"none; it acts from {least:g} on; a pixel is {1 / size:.4f}"
            )
    for name in ("colour", "cutout"):
        if getattr(augment, name) and config.data.normalise == "no":
            yield (
                f"augment.{name} acts on normalised inputs, in deviations around the mean pixel; "
                "with data.normalise=no there are none"
            )


def _own(config: Config) -> Reasons:
    """What is done to the parts of a network of fishjax, and not to a network of the user's own."""
    own = config.model.own
    if own and config.optim.frozen:
        yield f"optim.frozen counts the layers of a network of fishjax; model.own={own} is none"
    if own and "recomputed" in config.watch.also:
        yield (
            f"watch.also=recomputed: the running statistics of model.own={own} cannot be "
            "recomputed; leave it out"
        )
