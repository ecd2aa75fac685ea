"""A study as data, declared by a file in `experiments/`: base run, arms, tuning, plan, scales."""

import dataclasses
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fishjax.config import Config
from fishjax.evidence.plan import Plan
from fishjax.store import choose
from fishjax.sweep import Arm, Tuning


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
        for name in sorted(self.plan.arms):
            choose(name, names, f"arm in the plan of {self.name}:")


@dataclass(frozen=True)
class Request:
    """What a user asks of a study. shard: (i, n), the share of the packs that this process runs."""

    scale: str
    data: str
    out: pathlib.Path
    seeds: tuple[int, ...] | None = None
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shard: tuple[int, int] = (0, 1)
