"""The sections of a configuration: every field, with its default, its bounds and its sentence."""

import math
from dataclasses import dataclass

from fishjax.fields import static, traced

RECTIFIERS = ("relu", "leaky_relu")
CYCLES = ("step", "triangular", "triangular2", "exp_range", "sgdr")
"""The schedules that `schedule.period` divides into periods."""
PROMPT = ("cosine", "flow", "gradient_cosine", "overshoot")
"""What of `watch.also` is read at every step or evaluation, whatever `watch.also_every`."""


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
    block: str = static(
        "plain", "residual: skips over pairs of convolutions", choices=("plain", "residual")
    )
    pool_every: int = static(
        0, "halve the image after every n-th convolution; 0: every one while it fits", low=0
    )
    downsample: str = static(
        "pool", "halve by 2x2 max-pool or by stride", choices=("pool", "stride")
    )
    head: str = static(
        "global", "global average pool or flattened map", choices=("global", "flatten")
    )
    dense: tuple[int, ...] = static((), "units of each hidden dense layer", low=1, high=65536)
    activation: str = static(
        "relu",
        "activation; relu and leaky_relu are one program",
        choices=(*RECTIFIERS, "elu", "gelu", "silu", "tanh", "sigmoid"),
    )
    norm: str = static(
        "none",
        "normalisation; affine: its scale and bias alone",
        choices=("none", "batch", "layer", "group", "instance", "affine"),
    )
    norm_at: tuple[int, ...] = static(
        (),
        "layers that get the norm: convolutions from 0, then dense, then logits; none = all convs",
        low=0,
    )
    norm_place: str = static(
        "before", "norm before or after the activation", choices=("before", "after")
    )
    groups: int = static(4, "groups of the group norm", low=1)
    init: str = traced(
        "he",
        "distribution of initial weights",
        choices=(
            "he",
            "normal",
            "he_uniform",
            "glorot",
            "glorot_uniform",
            "lecun",
            "lecun_uniform",
            "orthogonal",
            "constant",
        ),
    )
    own: str = static("", "a network of your own, as package.module:factory")

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of every convolution, `depth` of them."""
        widths = self.widths[: self.depth]
        return widths + (widths[-1],) * (self.depth - len(widths))

    @property
    def layer_count(self) -> int:
        """Convolutions, hidden dense layers and the logits."""
        return self.depth + len(self.dense) + 1

    @property
    def normed(self) -> tuple[int, ...]:
        """The layers that get a norm, in order, numbered as in `norm_at`."""
        if self.norm == "none":
            return ()
        return tuple(sorted(set(self.norm_at))) or tuple(range(self.depth))

    def halved_after(self, image_size: int) -> tuple[int, ...]:
        """The convolutions after which (or, by stride, at which) the image is halved."""
        fits = int(math.log2(image_size))
        every = self.pool_every or 1
        due = [i for i in range(self.depth) if (i + 1) % every == 0]
        return tuple(due[:fits])


@dataclass(frozen=True)
class Optim:
    kind: str = static("sgd", "optimiser", choices=("sgd", "nesterov", "adam", "adamw", "rmsprop"))
    decay: str = static(
        "coupled",
        "weight decay: added to the clipped gradient, part of the loss, or of the step",
        choices=("coupled", "loss", "decoupled"),
    )
    batch_size: int = static(32, "images in a minibatch", low=1)
    order: int = traced(0, "which of a seed's orders of minibatches", low=0, high=2**20)
    order_from: int = traced(0, "epoch from which optim.order holds; order 0 before", low=0)
    sampling: str = traced(
        "shuffled", "how minibatches are drawn", choices=("shuffled", "balanced")
    )
    epochs: int = static(60, "passes over the training subset", low=1, high=1_000_000)
    frozen: int = traced(0, "layers, from the input on, that are never updated", low=0)


@dataclass(frozen=True)
class Schedule:
    kind: str = traced(
        "constant",
        "shape of the rate over time",
        choices=(
            "constant",
            "cosine",
            "triangular",
            "step",
            "exponential",
            "triangular2",
            "exp_range",
            "sgdr",
            "one_cycle",
            "range_test",
        ),
    )
    period: float = traced(10.0, "epochs of one cycle, or between two steps", low=0.01)
    warmup: float = traced(0.0, "epochs of linear warm-up", low=0.0)
    floor: float = traced(0.0, "lowest rate as a share of hyper.lr", low=0.0, high=1.0)
    factor: float = traced(
        0.5, "fall per step; of exponential and exp_range, per epoch", low=0.0, above=True, high=1.0
    )
    growth: float = traced(1.0, "each sgdr cycle over the one before", low=1.0, high=16.0)
    again: float = traced(
        1.0, "height of every sgdr cycle after the first; 0: stays down", low=0.0, high=1.0
    )
    rise: float = traced(
        0.25, "share of the run in which one_cycle rises", low=0.0, above=True, high=1.0, below=True
    )
    momentum_low: float = traced(
        0.85, "momentum at the peak of one_cycle", low=0.0, high=1.0, below=True
    )
    anneal: float = traced(
        0.0, "last epochs, in which the rate falls linearly from hyper.lr to 0", low=0.0
    )
    shuffled: int = traced(
        0,
        "0: in time; else in which random order of the steps the rates before the anneal come",
        low=0,
        high=2**20,
    )


@dataclass(frozen=True)
class Loss:
    kind: str = traced("cross_entropy", "training loss", choices=("cross_entropy", "focal"))
    focal_gamma: float = traced(2.0, "exponent of the focal factor", low=0.0, high=16.0)
    class_weight: str = traced(
        "none",
        "weight of a species by its training images",
        choices=("none", "inverse", "sqrt", "effective"),
    )
    class_weight_power: float = traced(1.0, "exponent on the class weights", low=0.0, high=8.0)
    class_weight_shift: int = traced(
        0, "the rarest species takes the weight of the one so many places on", low=0, high=2**20
    )
    class_weight_swap: int = traced(0, "1: and gives it its own", low=0, high=1)
    effective_beta: float = traced(
        0.999, "beta of the effective number of images", low=0.0, high=1.0, below=True
    )
    logit_adjustment: float = traced(
        0.0, "tau: log prior times tau is added to the logits in training", low=0.0, high=8.0
    )


@dataclass(frozen=True)
class Data:
    train_size: int = static(256, "training images of a seed", low=1)
    val_size: int = static(128, "validation images of a seed", low=1)
    image_size: int = static(24, "height and width in pixels", low=8, high=512)
    imbalance: str = traced(
        "none",
        "how the training images are spread over the species",
        choices=("none", "exponential", "step", "species"),
    )
    imbalance_ratio: float = traced(10.0, "largest over smallest species", low=1.0, high=10000.0)
    imbalance_species: str = traced(
        "", "the species that imbalance=species makes rare, or #K for the source's K-th"
    )
    label_noise: float = traced(0.0, "share of training labels flipped", low=0.0, high=1.0)
    label_noise_kind: str = traced(
        "symmetric", "to which species", choices=("symmetric", "pair", "similar")
    )
    cue: str = traced(
        "none",
        "a cue tied to the label, in training images only",
        choices=("none", "border", "background"),
    )
    cue_share: float = traced(1.0, "training images that carry it", low=0.0, high=1.0)
    twins: float = traced(
        0.0, "blend of the two most similar species into each other", low=0.0, high=1.0
    )
    duplicates: float = traced(
        0.0, "share of training images that repeat another", low=0.0, high=1.0, below=True
    )
    leakage: float = traced(0.0, "share of test images whose copy is trained on", low=0.0, high=1.0)
    channel_shift: float = traced(
        0.0, "shift of the test images' colour, in deviations", low=-8.0, high=8.0
    )
    resolution: int = traced(
        0, "pixels that are left before the image is scaled up again; 0: all", low=0, high=512
    )
    normalise: str = traced("yes", "centre and scale the inputs", choices=("yes", "no"))


@dataclass(frozen=True)
class Augment:
    flip: float = traced(0.0, "chance of a left-right flip", low=0.0, high=1.0)
    shift: float = traced(0.0, "largest shift, as a share of the side", low=0.0, high=0.5)
    cutout: float = traced(0.0, "side of a grey square, as a share", low=0.0, high=1.0)
    colour: float = traced(
        0.0, "deviation of brightness, contrast and channel gains", low=0.0, high=2.0
    )
    mixup: float = traced(0.0, "alpha of mixup's Beta(alpha, alpha)", low=0.0, high=16.0)


@dataclass(frozen=True)
class Watch:
    every: int = static(5, "epochs between evaluations", low=1)
    flow: str = static(
        "epoch", "resolution of the per-layer norms", choices=("off", "epoch", "step")
    )
    units: str = static(
        "epoch", "resolution of unit activity on the minibatch", choices=("off", "epoch", "step")
    )
    also: tuple[str, ...] = static(
        (),
        "further measures",
        choices=(
            "activations",
            "features",
            "cosine",
            "noise",
            "batch_stats",
            "curvature",
            "probe",
            "held_out_probe",
            "flow",
            "gradient_cosine",
            "overshoot",
            "recomputed",
        ),
    )
    also_every: int = static(0, "epochs between the further measures; 0: at the end", low=0)


@dataclass(frozen=True)
class Scalars:
    """The section `hyper`."""

    lr: float = traced(0.02, "learning rate (the schedule's highest)", low=0.0, above=True)
    momentum: float = traced(
        0.9, "momentum; beta1 of adam and adamw", low=0.0, high=1.0, below=True
    )
    beta2: float = traced(
        0.999,
        "decay of the squared gradients of adam, adamw, rmsprop",
        low=0.0,
        high=1.0,
        below=True,
    )
    epsilon: float = traced(1e-8, "added to the root of the squared gradients", low=0.0, above=True)
    weight_decay: float = traced(0.0, "L2 coefficient on kernels, see optim.decay", low=0.0)
    clip: float = traced(
        math.inf, "largest global gradient norm of a run", low=0.0, above=True, endless=True
    )
    dropout: float = traced(
        0.0, "share of hidden dense units dropped", low=0.0, high=1.0, below=True
    )
    init_gain: float = traced(1.0, "factor on the initial weights' deviation", low=0.0)
    bias_shift: float = traced(0.0, "initial bias of every hidden layer")
    leaky_slope: float = traced(0.01, "slope of leaky_relu below zero", low=0.0, high=1.0)
    norm_momentum: float = traced(
        0.9, "share that batch norm's running statistics keep at each step", low=0.0, high=1.0
    )
    label_smoothing: float = traced(
        0.0, "mass moved to the uniform label", low=0.0, high=1.0, below=True
    )
