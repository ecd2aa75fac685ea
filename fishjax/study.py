"""A study as data, declared by a file in `experiments/`: base run, arms, tuning, plan, scales."""

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from fishjax.config import Config
from fishjax.evidence.plan import Plan
from fishjax.fields import UsageError, choose
from fishjax.sweep import TUNING_SEEDS_FROM, Arm, Tuned, Tuning


@dataclass(frozen=True)
class Scale:
    """How large a study is run: its default seeds, its tuning, and settings of the base run."""

    seeds: tuple[int, ...]
    tuning: Tuning
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Knob:
    """A dotted field that a search may turn in some arms, and the values it tries."""

    key: str
    values: tuple[Any, ...]
    arms: tuple[str, ...]


@dataclass(frozen=True)
class Search:
    """How the knobs of a scenario are chosen: every combination of them, on tuning seeds.

    At each combination every arm of the scenario gets the best of the scale's rates on the scale's
    tuning seeds, and is measured on `seeds`. Of the combinations that meet every target the one to
    take is that whose narrowest target is met by the most deviations over seeds; of equals, whose
    next narrowest is. earlier: settings tried in searches before this one, so that all of them are
    counted.
    """

    knobs: tuple[Knob, ...]
    seeds: tuple[int, ...]
    earlier: int = 0

    def settings(self) -> list[dict[str, Any]]:
        """Every combination, the last knob turning fastest, as the value of each key."""
        values = itertools.product(*(knob.values for knob in self.knobs))
        return [dict(zip((k.key for k in self.knobs), each, strict=True)) for each in values]

    def changes(self, setting: Mapping[str, Any], arm: str) -> dict[str, Any]:
        """What a combination changes of one arm."""
        return {knob.key: setting[knob.key] for knob in self.knobs if arm in knob.arms}


class Line(NamedTuple):
    """The straight line from the final network of the arm `start` to that of `arm`."""

    arm: str
    start: str


@dataclass(frozen=True)
class Study:
    """A question, what is compared to answer it, and what would count as which answer.

    data: the source where a request names none, to which the scenario's knobs were fitted. lines:
    pairs (arm, the arm it is compared with) whose final networks' loss barrier becomes the metric
    `barrier` of the first, at most one to an arm.
    """

    name: str
    base: Config
    arms: tuple[Arm, ...]
    plan: Plan
    scales: Mapping[str, Scale]
    search: Search | None = None
    data: str = "reef"
    lines: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise UsageError(f"{self.name} names an arm twice")
        rates = [v for arm in self.arms for v in arm.changes.values() if isinstance(v, Tuned)]
        for scale in self.scales.values():
            for rate in rates:
                choose(rate.arm, scale.tuning.arms, f"tuned arm of {self.name}:")
            for name in (*scale.tuning.arms, *self.plan.arms):
                choose(name, names, f"arm of {self.name}:")
        self._refuse_seeds()
        for line in self.lines:
            for name in line:
                choose(name, names, f"arm of a line of {self.name}:")
        ends = [arm for arm, _ in self.lines]
        if len(set(ends)) < len(ends) or any(arm == start for arm, start in self.lines):
            raise UsageError(f"{self.name} has two lines to one arm, or one from an arm to itself")
        for knob in self.search.knobs if self.search else ():
            for name in knob.arms:
                choose(name, names, f"arm of {self.name}'s search:")

    def _refuse_seeds(self) -> None:
        """Refuses rates that are tuned on no seeds, or on seeds that are judged or searched on."""
        searched = set(self.search.seeds) if self.search else set()
        for name, scale in self.scales.items():
            tuning = scale.tuning
            what = f"scale {name} of {self.name}"
            if tuning.arms and not (tuning.rates and tuning.seeds):
                raise UsageError(f"{what} tunes {tuning.arms[0]} at no rate or on no seed")
            if any(seed < TUNING_SEEDS_FROM for seed in tuning.seeds):
                raise UsageError(f"{what}: rates are tuned on seeds from {TUNING_SEEDS_FROM} on")
            if both := searched & set(tuning.seeds):
                raise UsageError(f"{what} tunes and searches on seed {min(both)}")

    def on(self, data: str) -> "Study":
        """The study on a source; one of another kind than `data` was fitted to nothing."""
        if data.partition(":")[0] == self.data.partition(":")[0]:
            return self
        return dataclasses.replace(self, plan=self.plan.unfitted())


@dataclass(frozen=True)
class Request:
    """What a user asks of a study.

    shard: (i, n), the share of the packs that this process runs. engine: `auto`, or the kernels to
    compute with by name, see `engine.kernels`.
    """

    scale: str
    data: str
    out: pathlib.Path
    seeds: tuple[int, ...] | None = None
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shard: tuple[int, int] = (0, 1)
    engine: str = "auto"
