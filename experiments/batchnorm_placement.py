"""Can batch norm after one convolution make a network generalise worse? (S1, claims 1.4-1.6)

    python -m experiments.batchnorm_placement                  # reef, seeds 48 to 63
    python -m experiments.batchnorm_placement --data f4k:PATH  # photographs, split by trajectory

X = 4 convolutions and a dense layer under ReLU at a constant rate, which fit their few images
(98 %) and know 62 % of new ones. Batch norm stands after convolution Y alone, for every Y, or after
all of them: at the rate of the network without it, at rates of their own, and in minibatches of 4
and 16, where a convolution's last maps leave less to take statistics of. Its harm, where there is
one, is the running statistics' if more than two points come back once these are taken anew from the
training images.

Knob: images are searched on reef, on tuning seeds, by

    python -m experiments.batchnorm_placement --fit            # SEARCH below

Its two settings (experiments/results/batchnorm_placement/search-3.json) came after 16 others: 4 on
a strided draft, 8 of 96 and 128 images with Y any convolution, and 4 of 160 and 192 images in
minibatches of 8 and 32. In those 16 batch norm at a rate of its own never lost beside the network
without it; in one of the two, which is taken, it did. That search fits the harm of batch norm at a
rate of its own, so that 1.4 has no verdict there, nor after that convolution at the rate of the
network without a norm, which may be the same: it is judged at that rate after the other ones or all
of them, and, as is what compares it with group norm and early layers with late ones, in minibatches
of 4 and of 16, which no search had. A plan without group norm, and without the remedies beside
batch norm, was run on seeds 0 to 15 first; one that had Y among the layers at the same rate, with
rates from 0.001 up, on 16 to 31; one without minibatches of 16, whose mechanism any regained
accuracy was, on 32 to 47.
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
    slope,
)
from fishjax.settings import override
from fishjax.study import Knob, Scale, Search, Study
from fishjax.sweep import Arm, Tuned, Tuning

X, Y, IMAGES, DROPOUT = 4, 0, 128, 0.5
LAYERS = range(X)

BASE = override(
    Config(),
    {
        "model.depth": X,
        "model.widths": (8, 16, 16, 32),
        "model.dense": (32,),
        "optim.epochs": 60,
        "data.image_size": 16,
        "data.train_size": IMAGES,
        "watch.every": 10,
        "watch.also": ("recomputed",),
    },
)

PLAIN = {"hyper.lr": Tuned("none")}
SMALL = {
    "batch 4": {"optim.batch_size": 4, "optim.epochs": 20, "hyper.lr": Tuned("none, batch 4")},
    "batch 16": {"optim.batch_size": 16, "optim.epochs": 40, "hyper.lr": Tuned("none, batch 16")},
}
FALLING = {"schedule.kind": "cosine", "hyper.lr": Tuned("none", times=2.0)}
DROPPED = {**PLAIN, "hyper.dropout": DROPOUT}


def normed(*layers: int, norm: str = "batch") -> dict:
    """A norm after these convolutions."""
    return {"model.norm": norm, "model.norm_at": layers}


def tuned(layer: int) -> str:
    """The arm with batch norm after one convolution and a rate of its own."""
    return f"bn{layer}, tuned"


def in_minibatches(setting: str, changes: dict) -> tuple[Arm, ...]:
    """The network without a norm, with one after each convolution or all, and with its rival."""
    return (
        Arm(f"none, {setting}", changes),
        *(Arm(f"bn{i}, {setting}", {**changes, **normed(i)}) for i in LAYERS),
        Arm(f"bn all, {setting}", {**changes, **normed(*LAYERS)}),
        Arm(f"group, {setting}", {**changes, **normed(Y, norm="group")}),
    )


ARMS = (
    Arm("none", PLAIN),
    *(Arm(f"bn{i}", {**PLAIN, **normed(i)}) for i in LAYERS),
    Arm("bn all", {**PLAIN, **normed(*LAYERS)}),
    *(Arm(tuned(i), {**normed(i), "hyper.lr": Tuned(tuned(i))}) for i in LAYERS),
    *(arm for setting in SMALL.items() for arm in in_minibatches(*setting)),
    Arm("affine", {**PLAIN, **normed(Y, norm="affine")}),
    Arm("group", {**PLAIN, **normed(Y, norm="group")}),
    Arm("falling", FALLING),
    Arm("dropout", DROPPED),
    Arm("bn, falling", {**FALLING, **normed(Y)}),
    Arm("bn, dropout", {**DROPPED, **normed(Y)}),
    Arm("leaky", {**PLAIN, "model.activation": "leaky_relu", "hyper.leaky_slope": 0.1}),
)

SCENARIO = Scenario(
    "S1",
    "X convolutions: training accuracy 98 %, validation accuracy 62 %, batch norm after Y worse",
    (
        Target(
            "training accuracy",
            "98 %",
            Reading("train_accuracy"),
            arm="none",
            low=0.95,
            high=1.0,
            below="more optim.epochs, or fewer images: data.train_size",
        ),
        Target(
            "accuracy on new images",
            "62 %",
            Reading("test_accuracy"),
            arm="none",
            low=0.59,
            high=0.65,
            below="more images: data.train_size",
            above="fewer images: data.train_size",
        ),
        Target(
            "with batch norm after Y",
            "batch norm made validation worse",
            Reading("test_accuracy"),
            arm=tuned(Y),
            control="none",
            high=-ACCURACY_DELTA,
            above="another layer: Y in the study's file",
        ),
    ),
)
SEARCH = Search(
    knobs=(Knob("data.train_size", (128, 144), ("none", tuned(Y))),),
    seeds=tuple(range(1100, 1108)),
    earlier=16,
)
HARMFUL = "batch norm after some convolution worsens generalisation"
UNSTABLE = Reading("minibatch_loss", since=10, statistic="instability", scale="log2")


def harmful(part: str, arms: list[str], control: str, *, by_construction: bool = False) -> Claim:
    """Claim 1.4 at one setting: some arm, of one layer each, below its control."""
    accuracy = Reading("test_accuracy")
    regained = Reading("recomputed_test_accuracy", minus=accuracy)
    return Claim(
        id="1.4",
        part=part,
        text=HARMFUL,
        kind="existential",
        outcome=tuple(Contrast(accuracy, arm, control, -1, ACCURACY_DELTA) for arm in arms),
        mechanism=tuple(
            Requirement(Contrast(regained, arm, 0.0, 1, ACCURACY_DELTA), "exceeds") for arm in arms
        ),
        by_construction=by_construction,
        note="mechanism: more than two points regained by statistics of the whole training subset",
    )


def calmer(arm: str, control: str) -> Contrast:
    """The training loss of `arm` is the less unstable one."""
    return Contrast(UNSTABLE, arm, control, -1, FACTOR_DELTA)


def better(arm: str, control: str) -> Contrast:
    """`arm` knows more of new images."""
    return Contrast(Reading("test_accuracy"), arm, control, 1, ACCURACY_DELTA)


def compared(setting: str, *, by_construction: bool = False) -> tuple[Claim, Claim]:
    """Claim 1.4 beside the rival norm, and of the first layer beside the last, at one setting."""
    accuracy = Reading("test_accuracy")
    rising = slope([f"bn{i}{setting}" for i in LAYERS], list(LAYERS))
    group = Claim(
        id="1.4",
        part=f"beside group norm{setting}",
        text=HARMFUL,
        kind="directional",
        outcome=better(f"group{setting}", f"bn{Y}{setting}"),
        by_construction=by_construction,
        note="a norm without statistics over images, in the same place",
    )
    early = Claim(
        id="1.4",
        part=f"early ones above all{setting}",
        text=HARMFUL,
        kind="directional",
        outcome=Contrast(accuracy, rising, 0.0, 1, ACCURACY_DELTA / (X - 1)),
        by_construction=by_construction,
        note="accuracy rises with Y; the margin is two points from the first layer to the last",
    )
    return group, early


REMEDIES = {
    "1.5": (
        "a falling learning rate avoids instability and overfitting",
        "accuracy on new images, not its gap to the training images",
    ),
    "1.6": (
        "dropout on the dense layers prevents overfitting and stabilises",
        "dropout alone, at the rate of the network without it",
    ),
}
"""By claim what the seed says, and how it is read."""


def remedied(id: str, part: str, arm: str, control: str) -> Claim:
    """Claim 1.5, of overfitting, or 1.6 on one baseline."""
    text, note = REMEDIES[id]
    return Claim(
        id=id,
        part=part,
        text=text,
        kind="directional",
        outcome=better(arm, control),
        mechanism=calmer(arm, control),
        note=note,
    )


CLAIMS = (
    harmful("own rate", [tuned(i) for i in LAYERS], "none", by_construction=True),
    harmful(f"same rate, layer {Y}", [f"bn{Y}"], "none", by_construction=True),
    harmful("same rate, others", [*(f"bn{i}" for i in LAYERS if i != Y), "bn all"], "none"),
    *(
        harmful(size, [*(f"bn{i}, {size}" for i in LAYERS), f"bn all, {size}"], f"none, {size}")
        for size in SMALL
    ),
    *compared("", by_construction=True),
    *(claim for size in SMALL for claim in compared(f", {size}")),
    Claim(
        id="1.5",
        part="instability",
        text="a falling learning rate avoids instability and overfitting",
        kind="directional",
        outcome=calmer("falling", "none"),
        note="against the tuned constant rate, with the same sum of rates",
    ),
    remedied("1.5", "overfitting", "falling", "none"),
    remedied("1.5", "overfitting, batch norm", "bn, falling", f"bn{Y}"),
    remedied("1.6", "", "dropout", "none"),
    remedied("1.6", "batch norm", "bn, dropout", f"bn{Y}"),
)
PLACEBOS = (
    Placebo(
        "affine",
        "scale and bias of the norm after Y without its statistics",
        better("affine", "none"),
    ),
    Placebo(
        "remedy for another disease",
        "Leaky ReLU, which is against units that die",
        better("leaky", "none"),
    ),
)

TUNED = ("none", *(tuned(i) for i in LAYERS), *(f"none, {size}" for size in SMALL))
RATES = (0.0003, 0.001, 0.003, 0.01, 0.02, 0.05, 0.1)
STUDY = Study(
    name="batchnorm_placement",
    base=BASE,
    arms=ARMS,
    plan=Plan(SCENARIO, CLAIMS, PLACEBOS),
    search=SEARCH,
    scales={
        "smoke": Scale(
            seeds=(0, 1),
            tuning=Tuning(TUNED, rates=(0.003, 0.01), seeds=(1000,)),
            settings={"data.train_size": 32, "data.val_size": 32, "optim.batch_size": 16},
        ),
        "laptop": Scale(
            seeds=tuple(range(48, 64)), tuning=Tuning(TUNED, RATES, seeds=tuple(range(1000, 1008)))
        ),
        "paper": Scale(
            seeds=tuple(range(48, 80)),
            tuning=Tuning(TUNED, (0.0001, *RATES), seeds=tuple(range(1000, 1008))),
            settings={
                "data.image_size": 64,
                "data.train_size": 1024,
                "model.widths": (16, 32, 64, 64),
            },
        ),
    },
)

if __name__ == "__main__":
    main(STUDY)
