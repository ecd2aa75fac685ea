"""Arms times seeds: what a study compares, as the cells that must be run."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fishjax.config import Config
from fishjax.fields import UsageError
from fishjax.settings import digest, override

TUNING_SEEDS_FROM = 1000
SEEDS_AT_MOST = 1_000_000


@dataclass(frozen=True)
class Tuned:
    """In place of a rate: the one tuned for `arm`, times a factor."""

    arm: str
    times: float = 1.0


@dataclass(frozen=True)
class Arm:
    """One row of an ablation: its name, and the dotted fields in which it differs from the base."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    def config(self, base: Config, rates: Mapping[str, float]) -> Config:
        """The arm's configuration, with each `Tuned` value replaced from `rates` by arm."""
        return override(base, {key: _resolved(value, rates) for key, value in self.changes.items()})


@dataclass(frozen=True)
class Tuning:
    """Rates tried for each of `arms` on seeds of their own; the best mean validation accuracy
    at the last epoch is taken, the smaller rate where two are equal.
    """

    arms: tuple[str, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]

    @property
    def first(self) -> dict[str, float]:
        """The first rate tried, for every tuned arm."""
        return {arm: self.rates[0] for arm in self.arms}

    def candidates(self, arms: Sequence[Arm]) -> list[Arm]:
        """One arm for each tuned arm and rate, named `arm@rate`."""
        return [
            Arm(self.candidate(arm.name, rate), {**arm.changes, "hyper.lr": rate})
            for arm in arms
            if arm.name in self.arms
            for rate in self.rates
        ]

    @staticmethod
    def candidate(arm: str, rate: float) -> str:
        """The name of an arm at one of the rates tried."""
        return f"{arm}@{rate:g}"


@dataclass(frozen=True)
class Cell:
    """One run: an arm's configuration at a seed. Equal cells compute equal numbers."""

    arm: str
    config: Config
    seed: int

    @property
    def folder(self) -> str:
        """Where the cell lives below `cells/`."""
        return f"{slug(self.arm)}-{digest(self.config)}/seed={self.seed:04d}"


def cells(
    arms: Iterable[Arm], base: Config, rates: Mapping[str, float], seeds: Iterable[int]
) -> list[Cell]:
    """Every arm at every seed, seed by seed so that the arms of a seed run together."""
    configs = [(arm.name, arm.config(base, rates)) for arm in arms]
    return [Cell(name, config, seed) for seed in seeds for name, config in configs]


def parse_seeds(text: str) -> tuple[int, ...]:
    """`0:8` as (0, ..., 7), `5` as (5,), `0,2,5` as they stand.

    Raises UsageError for an empty or falling range, a repeat, a negative number or other text.
    """
    try:
        if ":" in text:
            first, last = (int(part) for part in text.split(":"))
            seeds = range(first, min(last, first + SEEDS_AT_MOST + 1))
        else:
            seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--seeds takes 0:8, 3 or 0,2,5, not {text!r}") from None
    if not seeds:
        raise UsageError(f"--seeds {text} is empty; the first must be below the last")
    if len(seeds) > SEEDS_AT_MOST:
        raise UsageError(f"--seeds {text} are more than {SEEDS_AT_MOST:,}")
    if list(seeds) != sorted(set(seeds)) or seeds[0] < 0 or seeds[-1] >= 2**32:
        raise UsageError(f"--seeds {text} must rise from 0 or more, below 2^32, without repeats")
    return tuple(seeds)


def parse_shard(text: str) -> tuple[int, int]:
    """`i/n` as (i, n) with 0 <= i < n; a UsageError otherwise."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not int(match[1]) < int(match[2]):
        raise UsageError(f"--shard takes i/n with i from 0 to n-1, not {text!r}")
    return int(match[1]), int(match[2])


def slug(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^A-Za-z0-9_.@+-]+", "-", name)


def _resolved(value: Any, rates: Mapping[str, float]) -> Any:
    if not isinstance(value, Tuned):
        return value
    return rates[value.arm] * value.times
