"""A study as data, declared by a file in `experiments/`: base run, arms, tuning, plan, scales."""

import dataclasses
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fishjax.config import Config
from fishjax.evidence.plan import Plan
from fishjax.fields import UsageError, choose
from fishjax.sweep import Arm, Tuned, Tuning


@dataclass(frozen=True)
class Scale:
    """How large a study is run: its default seeds, its tuning, and settings of the base run."""

    seeds: tuple[int, ...]
    tuning: Tuning
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A question, what is compared to answer it, and what would count as which answer."""

    name: str
    base: Config
    arms: tuple[Arm, ...]
    plan: Plan
    scales: Mapping[str, Scale]

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


@dataclass(frozen=True)
class Request:
    """What a user asks of a study. shard: (i, n), the share of the packs that this process runs."""

    scale: str
    data: str
    out: pathlib.Path
    seeds: tuple[int, ...] | None = None
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shard: tuple[int, int] = (0, 1)
