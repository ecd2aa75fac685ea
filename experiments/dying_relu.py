"""Why does a ReLU network stop gaining although its rate was tuned?

Placeholder docstring.
"""

from fishjax.command import main
from fishjax.config import Config
from fishjax.evidence.plan import (
    Plan,
)
from fishjax.settings import override
from fishjax.study import Scale, Study
from fishjax.sweep import Arm, Tuned, Tuning

BASE = override(
    Config(),
    {
        "model.depth": 4,
        "model.widths": (8, 16, 16, 32),
        "model.dense": (32,),
        "data.image_size": 16,
    },
)
SHIFT = -1.0
DYING = {"hyper.bias_shift": SHIFT, "hyper.lr": Tuned("dying")}
ARMS = (
    Arm("healthy", {"hyper.lr": Tuned("healthy")}),
    Arm("dying", DYING),
    Arm("leaky", {**DYING, "model.activation": "leaky_relu", "hyper.leaky_slope": 0.1}),
    Arm("another order", {**DYING, "optim.order": 1}),
    Arm("dropout", {**DYING, "hyper.dropout": 0.3}),
)
PLAN = Plan(scenario=None, claims=())
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
STUDY = Study(
    name="dying_relu",
    base=BASE,
    arms=ARMS,
    plan=PLAN,
    scales={
        "smoke": Scale(
            seeds=(0, 1),
            tuning=Tuning(("healthy", "dying"), (0.03, 0.1), (1000,)),
            settings={
                "optim.epochs": 4,
                "watch.every": 2,
                "data.train_size": 64,
                "data.val_size": 32,
            },
        ),
        "laptop": Scale(
            seeds=tuple(range(8)), tuning=Tuning(("healthy", "dying"), RATES, (1000, 1001, 1002))
        ),
    },
)

if __name__ == "__main__":
    main(STUDY)
