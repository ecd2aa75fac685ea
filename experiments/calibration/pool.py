"""The pool: arms of a small net that differ in nothing but the order of their minibatches."""

import pathlib
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fishjax.config import Config
from fishjax.evidence.plan import Plan, Reading
from fishjax.evidence.readings import read
from fishjax.present.progress import Aside, bar
from fishjax.session import Session
from fishjax.settings import override
from fishjax.study import Request, Scale, Study
from fishjax.sweep import Arm, Tuning

ARMS = 8
CONSOLE = Aside()
BASE = override(
    Config(),
    {
        "model.depth": 3,
        "model.widths": (8, 8, 16),
        "data.image_size": 16,
        "data.train_size": 128,
        "data.val_size": 16,
        "optim.epochs": 20,
        "schedule.kind": "cosine",
        "watch.every": 20,
        "watch.flow": "off",
        "watch.units": "off",
    },
)
UNTUNED = Tuning(arms=(), rates=(), seeds=())
STUDY = Study(
    name="calibration",
    base=BASE,
    arms=tuple(Arm(f"order {order}", {"optim.order": order}) for order in range(ARMS)),
    plan=Plan(scenario=None, claims=()),
    scales={
        "smoke": Scale(
            seeds=tuple(range(32)),
            tuning=UNTUNED,
            settings={"optim.epochs": 5, "watch.every": 5},
        ),
        "laptop": Scale(seeds=tuple(range(128)), tuning=UNTUNED),
    },
)


@dataclass(frozen=True)
class Pool:
    """The test accuracy of every run, `[seed, arm]`; within a seed the arms are exchangeable."""

    accuracy: npt.NDArray[np.float64]
    classes: int

    @property
    def differences(self) -> npt.NDArray[np.float64]:
        """Of every ordered pair of two arms of a seed, `[seed, pair]`; their mean is 0."""
        arms = np.arange(self.accuracy.shape[1])
        first, second = np.nonzero(arms[:, None] != arms)
        return self.accuracy[:, first] - self.accuracy[:, second]

    @property
    def deviation(self) -> float:
        """Standard deviation of a difference."""
        return float(np.std(self.differences))


def _run(session: Session) -> None:
    """Runs what is missing of the arms."""
    place, stage = session.place, session.arm_stage()
    runner, start = place.runner([stage]), time.monotonic()
    try:
        with bar(sum(pack.run_steps for pack in place.missing(stage)), CONSOLE) as tick:
            place.run(stage, runner, tick)
    finally:
        place.spent(runner.usage, time.monotonic() - start)


def trained(scale: str, out: pathlib.Path) -> tuple[Pool, dict[str, float]]:
    """The pool in a study's folder, where what is missing of it is run first, and what it took.

    Raises UsageError for a folder that holds something else.
    """
    session = Session(STUDY, Request(scale=scale, data="reef", out=out))
    with session.place.alone(session.seeds):
        session.pin()
        _run(session)
    place = session.place
    runs = [read(session.results, Reading("test_accuracy"), arm.name) for arm in STUDY.arms]
    pool = Pool(np.stack(runs, axis=1), session.results.attrs["classes"])
    return pool, place.sweep.timing()
