"""What the study of stagnation trains: its base run, and the arms around the stuck network."""

from fishjax.config import Config
from fishjax.settings import override
from fishjax.sweep import Arm, Tuned

EPOCHS, IMAGES, FEW = 200, 192, 64
SMALL, LARGE = 2.0, 4.0
PERIOD, ANNEAL, HALF = 3 * EPOCHS // 20, EPOCHS // 10, EPOCHS // 2

BASE = override(
    Config(),
    {
        "model.depth": 4,
        "model.widths": (8, 16, 16, 32),
        "model.dense": (32,),
        "data.image_size": 16,
        "data.train_size": IMAGES,
        "optim.epochs": EPOCHS,
        "watch.every": EPOCHS // 10,
        "watch.also": ("flow", "gradient_cosine"),
        "watch.also_every": EPOCHS // 10,
    },
)

TUNED_RATE = {"hyper.lr": Tuned("tuned")}
SMALL_START = {"model.init": "normal", "hyper.init_gain": SMALL}
SEEN = {"watch.also": ("curvature", "overshoot"), "watch.also_every": HALF}
FEW_IMAGES = {"data.train_size": FEW}
STARTS = {
    "small weights": SMALL_START,
    "less small weights": {**SMALL_START, "hyper.init_gain": 3 * SMALL},
    "large weights": {"hyper.init_gain": LARGE},
}
COMPLEX = {
    "few, wide": {**FEW_IMAGES, "model.widths": (32, 64, 64, 128)},
    "few, deep": {**FEW_IMAGES, "model.depth": 12},
}
ANNEALED = {"schedule.anneal": ANNEAL}
CYCLES = {"schedule.kind": "triangular", "schedule.period": PERIOD, "schedule.floor": 0.1}
TWICE = {"schedule.kind": "sgdr", "schedule.period": HALF, **TUNED_RATE}
PLAIN = {"hyper.momentum": 0.0}
SMALL_BATCH = {"optim.batch_size": 8}


def own_rate(name: str, changes: dict) -> Arm:
    """An arm whose rate is tuned for itself."""
    return Arm(name, {**changes, "hyper.lr": Tuned(name)})


def at_equal_rate(name: str, changes: dict, twin: str) -> Arm:
    """The same arm at the rate that was tuned for its twin."""
    return Arm(f"{name}, equal rate", {**changes, "hyper.lr": Tuned(twin)})


def branch(order: int) -> Arm:
    """The annealed network trained on with another order and a tenth of the rate, re-annealed."""
    other = {"schedule.again": 0.1, "optim.order": order, "optim.order_from": HALF}
    return Arm(f"order {order}", {**TWICE, **other})


TUNED_ARMS = (
    own_rate("tuned", {}),
    *(own_rate(name, changes) for name, changes in STARTS.items()),
    own_rate("few", FEW_IMAGES),
    *(own_rate(name, changes) for name, changes in COMPLEX.items()),
    own_rate("constant", ANNEALED),
    own_rate("cyclic", {**CYCLES, **ANNEALED}),
    own_rate("plain", PLAIN),
    own_rate("momentum, batch 8", SMALL_BATCH),
    own_rate("plain, batch 8", {**SMALL_BATCH, **PLAIN}),
)
LADDER = {"rate too low": 1 / 64, "rate too high": 16.0}
ARMS = (
    *TUNED_ARMS,
    Arm("watched", {**SEEN, **TUNED_RATE}),
    *(Arm(name, {**SEEN, "hyper.lr": Tuned("tuned", times)}) for name, times in LADDER.items()),
    *(at_equal_rate(name, changes, "few") for name, changes in COMPLEX.items()),
    *(at_equal_rate(name, changes, "tuned") for name, changes in STARTS.items()),
    Arm("constant at the peak", {**ANNEALED, "hyper.lr": Tuned("cyclic")}),
    Arm("shuffled", {**CYCLES, **ANNEALED, "schedule.shuffled": 1, "hyper.lr": Tuned("cyclic")}),
    Arm("annealed", {**TWICE, **SEEN, "schedule.again": 0.0}),
    Arm("cycle", TWICE),
    branch(1),
    branch(2),
    Arm("plain, equal rate", {**PLAIN, **TUNED_RATE}),
    Arm("plain, rescaled rate", {**PLAIN, "hyper.lr": Tuned("tuned", 10.0)}),
    Arm("other order", {"optim.order": 1, **TUNED_RATE}),
    Arm("leaky", {**SMALL_START, "model.activation": "leaky_relu", **TUNED_RATE}),
)
