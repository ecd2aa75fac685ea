"""What the study of capacity trains: the factorial's corners, and the arms around them."""

from typing import Any

from fishjax.config import Config
from fishjax.settings import override
from fishjax.sweep import Arm, Tuned

FEW, MANY = 384, 896
DROPOUT, WIDE, GAIN = 0.2, 256, 1.5
L2, FLIPPED = 0.003, 0.2
BASE = override(
    Config(),
    {
        "model.depth": 3,
        "model.widths": (8, 16, 32),
        "model.dense": (32,),
        "data.image_size": 16,
        "data.train_size": FEW,
        "schedule.kind": "cosine",
        "optim.epochs": 40,
        "watch.every": 4,
        "watch.units": "off",
        "watch.flow": "off",
    },
)

CONVOLUTIONS = {"model.widths": (16, 32, 64)}
DENSE = {"model.head": "flatten", "model.dense": (WIDE,)}
PARAMETERS, NO_DROPOUT, BAD_INIT = {**CONVOLUTIONS, **DENSE}, {}, {"hyper.init_gain": GAIN}
WEAK_INIT, NORMAL_INIT = {"hyper.init_gain": 1 / GAIN}, {"model.init": "normal"}
DROPPED = {"hyper.dropout": DROPOUT}
NOISY = {"data.label_noise": FLIPPED}


def tuned(name: str, changes: dict[str, Any]) -> Arm:
    """An arm at the rate tuned for it."""
    return Arm(name, {**changes, "hyper.lr": Tuned(name)})


def noisy(name: str) -> Arm:
    """A tuned arm, at its rate, with flipped labels."""
    return Arm(f"{name}, flips", {**CHANGES[name], **NOISY, "hyper.lr": Tuned(name)})


CORNERS = {
    "small": DROPPED,
    "small, bad init": {**DROPPED, **BAD_INIT},
    "small, no dropout": NO_DROPOUT,
    "small, no dropout, bad init": BAD_INIT,
    "big, dropout, good init": {**PARAMETERS, **DROPPED},
    "big, dropout": {**PARAMETERS, **DROPPED, **BAD_INIT},
    "big, good init": PARAMETERS,
    "big": {**PARAMETERS, **BAD_INIT},
}
"""The factorial: parameters, then dropout, then initial weights, the last one turning fastest."""
CHANGES = {
    **CORNERS,
    "convolutions alone": {**DROPPED, **CONVOLUTIONS},
    "dense units alone": {**DROPPED, **DENSE},
    "big, L2": {**CORNERS["big"], "hyper.weight_decay": L2},
    "small, many images": {**DROPPED, "data.train_size": MANY},
    "big, many images": {**CORNERS["big"], "data.train_size": MANY},
    "big, good init, many images": {**PARAMETERS, "data.train_size": MANY},
    "dense units alone, many images": {**DROPPED, **DENSE, "data.train_size": MANY},
    "small, weak init": {**DROPPED, **WEAK_INIT},
    "big, weak init": {**PARAMETERS, **WEAK_INIT},
    "small, normal init": {**DROPPED, **NORMAL_INIT},
    "big, normal init": {**PARAMETERS, **NORMAL_INIT},
}
TUNED = tuple(CHANGES)
ARMS = (
    *(tuned(name, changes) for name, changes in CHANGES.items()),
    *map(noisy, ("small", "convolutions alone", "dense units alone")),
    *map(noisy, ("big", "big, dropout", "big, L2")),
    Arm("big, other order", {**CHANGES["big"], "optim.order": 1, "hyper.lr": Tuned("big")}),
    Arm(
        "big, Leaky ReLU",
        {**CHANGES["big"], "model.activation": "leaky_relu", "hyper.lr": Tuned("big")},
    ),
)
