"""Why does a ReLU network stop gaining although its rate was tuned? (scenario S3, claims 3.1-3.4)

    python -m experiments.dying_relu                          # reef, seeds 48 to 55
    python -m experiments.dying_relu --data f4k:PATH          # photographs, split by trajectory
    python -m experiments.dying_relu --seeds 48:64 --out runs/fresh   # 16 seeds, as README shows

A small ReLU network starts with its hidden biases shifted down and its weights decay, the biases do
not: units whose weights shrink below their bias fall silent and get no gradient back. Its twin
starts at 0 and does not decay. The rate of each is the best of six (smoke: two, paper: eight) on
seeds of their own.

Knobs: decay and shift were chosen on reef, on tuning seeds, by

    python -m experiments.dying_relu --fit                    # SEARCH below, 6 min on two cores

as the one of its 9 settings that meets every target of S3 by the widest margin. Two of the targets
ask that units die in training and are not born dead, beside the twin. 163 settings were tried in
all. Before these: 74 of a bias shift on drafts of reef, which met the figures by units born dead;
48 and 20 with initial weights too wide, of which one (1.5 times) was measured on seeds 16 to 23 and
missed (2.7 % of units died); 12 of decay on top of it. All but the 74 are kept, with that outcome,
in experiments/results/dying_relu/. Fitting S3 fixes the contrast of 3.1 there, so 3.1 is judged at
two settings declared here and never fitted: the healthy start at four times its rate, and half the
shift at four times that rate. The plan was run on seeds 24 to 31 first, then on 32 to
47; 3.4, which units born dead had decided there, was declared anew before seeds 48 to 63.
"""

from fishjax.command import main
from fishjax.config import Config
from fishjax.evidence.plan import (
    ACCURACY_DELTA,
    FACTOR_DELTA,
    Claim,
    Contrast,
    Placebo,
    Plan,
    Reading,
    Requirement,
    Scenario,
    Target,
)
from fishjax.settings import override
from fishjax.study import Knob, Scale, Search, Study
from fishjax.sweep import Arm, Tuned, Tuning

DECAY, SHIFT, HOT = 0.1, -0.75, 4.0
BASE = override(
    Config(),
    {
        "model.depth": 4,
        "model.widths": (8, 16, 16, 32),
        "model.dense": (32,),
        "data.image_size": 16,
        "data.train_size": 256,
        "schedule.kind": "cosine",
    },
)

DYING = {
    "hyper.weight_decay": DECAY,
    "hyper.bias_shift": SHIFT,
    "hyper.lr": Tuned("dying"),
}
SHIFTED = {"hyper.bias_shift": SHIFT / 2}
NORMAL = {"model.init": "normal"}
COOL_RATE, HOT_RATE = {"hyper.lr": Tuned("healthy")}, {"hyper.lr": Tuned("healthy", times=HOT)}
ARMS = (
    Arm("healthy", COOL_RATE),
    Arm("dying", DYING),
    Arm("leaky", {**DYING, "model.activation": "leaky_relu", "hyper.leaky_slope": 0.1}),
    Arm("other order", {**DYING, "optim.order": 1}),
    Arm("dropout", {**DYING, "hyper.dropout": 0.3}),
    Arm("he hot", HOT_RATE),
    Arm("he shifted", {**SHIFTED, **COOL_RATE}),
    Arm("he shifted hot", {**SHIFTED, **HOT_RATE}),
    Arm("normal", {**NORMAL, **COOL_RATE}),
    Arm("normal hot", {**NORMAL, **HOT_RATE}),
    Arm("normal shifted", {**NORMAL, **SHIFTED, **COOL_RATE}),
    Arm("normal shifted hot", {**NORMAL, **SHIFTED, **HOT_RATE}),
)
HE_ARMS = ("healthy", "he hot", "he shifted", "he shifted hot")
NORMAL_ARMS = ("normal", "normal hot", "normal shifted", "normal shifted hot")
UNSHIFTED = (HE_ARMS[:2], NORMAL_ARMS[:2])

SCENARIO = Scenario(
    "S3",
    "ReLU, rate tuned, no gain in accuracy after epoch 50",
    (
        Target(
            "gain after epoch 50",
            "no gain after epoch 50",
            Reading("test_accuracy", since=50),
            arm="dying",
            high=0.01,
        ),
        Target(
            "below the healthy twin",
            "accuracy does not improve",
            Reading("test_accuracy"),
            arm="dying",
            control="healthy",
            high=-0.15,
        ),
        Target(
            "died in training, over the twin",
            "the activation is 0 ever after",
            Reading("died_share"),
            arm="dying",
            control="healthy",
            low=0.1,
        ),
        Target(
            "born dead, over the twin",
            "a unit that never lived did not die",
            Reading("born_dead_share"),
            arm="dying",
            control="healthy",
            high=0.05,
        ),
    ),
)
SEARCH = Search(
    knobs=(
        Knob("hyper.weight_decay", (0.03, 0.05, 0.1), ("dying",)),
        Knob("hyper.bias_shift", (-0.5, -0.75, -1.0), ("dying",)),
    ),
    seeds=tuple(range(1100, 1108)),
    earlier=154,
)


def stays_dead(part: str, arm: str, *, by_construction: bool = False) -> Claim:
    """Claim 3.1 at one setting."""
    return Claim(
        id="3.1",
        part=part,
        text="units driven too negative never activate again",
        kind="directional",
        outcome=Contrast(Reading("revival"), arm, 0.05, direction=-1, delta=ACCURACY_DELTA),
        mechanism=Contrast(Reading("died_share"), arm, 0.0, direction=1, delta=ACCURACY_DELTA),
        by_construction=by_construction,
        note="of units that died, the share active again; where none died the claim is left open",
    )


CLAIMS = (
    stays_dead("as fitted", "dying", by_construction=True),
    stays_dead("high rate", "he hot"),
    stays_dead("half shift, high rate", "he shifted hot"),
    Claim(
        id="3.2",
        text="dead units block the gradient",
        kind="directional",
        outcome=Contrast(
            Reading("blocked_gradient", share=0.5), "healthy", 0.0, direction=-1, delta=FACTOR_DELTA
        ),
        mechanism=Contrast(
            Reading("blocking_slope"), "healthy", 0.0, direction=-1, delta=FACTOR_DELTA
        ),
        note="half of the middle layer killed, same error signal; inside a unit it is an identity",
    ),
    Claim(
        id="3.3",
        text="Leaky ReLU keeps the gradient and repairs it",
        kind="directional",
        outcome=Contrast(
            Reading("test_accuracy"), "leaky", "dying", direction=1, delta=ACCURACY_DELTA
        ),
        mechanism=Contrast(
            Reading("dormant_share"), "leaky", "dying", direction=-1, delta=ACCURACY_DELTA
        ),
    ),
    Claim(
        id="3.4",
        text="He initialisation lowers the chance of dying",
        kind="directional",
        outcome=Contrast(
            Reading("dead_share"), HE_ARMS, NORMAL_ARMS, direction=-1, delta=ACCURACY_DELTA
        ),
        mechanism=Contrast(
            Reading("died_share"), HE_ARMS, NORMAL_ARMS, direction=-1, delta=ACCURACY_DELTA
        ),
        also=(
            Requirement(
                Contrast(Reading("dead_share"), *UNSHIFTED, direction=-1, delta=ACCURACY_DELTA)
            ),
        ),
        note="after training, mean over two rates and two biases, against N(0, 0.01); so at bias 0 "
        "alone; mechanism: units that died in training, those born dead left out",
    ),
)
PLACEBOS = (
    Placebo(
        "another order",
        "the same start and images in another order of minibatches",
        Contrast(
            Reading("test_accuracy"), "other order", "dying", direction=1, delta=ACCURACY_DELTA
        ),
    ),
    Placebo(
        "remedy for another disease",
        "dropout, which is against overfitting",
        Contrast(Reading("test_accuracy"), "dropout", "dying", direction=1, delta=ACCURACY_DELTA),
    ),
)

TUNED = ("healthy", "dying")
STUDY = Study(
    name="dying_relu",
    base=BASE,
    arms=ARMS,
    plan=Plan(SCENARIO, CLAIMS, PLACEBOS),
    search=SEARCH,
    scales={
        "smoke": Scale(
            seeds=(0, 1),
            tuning=Tuning(TUNED, rates=(0.003, 0.01), seeds=(1000,)),
            settings={
                "watch.every": 10,
                "data.train_size": 32,
                "data.val_size": 32,
                "optim.batch_size": 16,
            },
        ),
        "laptop": Scale(
            seeds=tuple(range(48, 56)),
            tuning=Tuning(
                TUNED, rates=(0.0003, 0.001, 0.003, 0.01, 0.03, 0.1), seeds=(1000, 1001, 1002)
            ),
        ),
        "paper": Scale(
            seeds=tuple(range(48, 80)),
            tuning=Tuning(
                TUNED,
                rates=(0.0003, 0.001, 0.003, 0.01, 0.02, 0.03, 0.1, 0.3),
                seeds=tuple(range(1000, 1008)),
            ),
            settings={
                "data.image_size": 64,
                "data.train_size": 1024,
                "model.depth": 8,
                "model.widths": (16, 16, 32, 32, 64, 64, 64, 64),
                "model.pool_every": 2,
                "optim.epochs": 100,
            },
        ),
    },
)

if __name__ == "__main__":
    main(STUDY)
