"""Simulated studies: seeds of the pool, arm labels at random, and what the verdict engine says.

In every seed, and for every claim, two of the seed's runs are drawn and labelled arm and control at
random. So the differences are symmetric about 0 in the pool as it stands, whatever its arms' means,
and the errors of a study's claims are independent given the pool. A `World` then makes of them what
a study may meet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import stats

from experiments.calibration.pool import Pool
from fishjax.evidence.effect import Effect, assess
from fishjax.evidence.paired import ERROR_RATE
from fishjax.evidence.pairs import Pairs
from fishjax.evidence.plan import Claim, Contrast, Plan, Reading, Requirement
from fishjax.evidence.verdict import judge

CLAIMS = 5
METRIC = "test_accuracy"
DIRECTIONAL = ("supported", "outcome only", "refuted")

Kind = Literal["directional", "no_effect"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """What becomes of the pool's differences; their standard deviation stays.

    skew: sigma of a lognormal law, shifted to a mean of 0, that every difference is moved to by its
    rank in the pool; 0: as measured. lost: the share of runs that diverge. normal: another pool in
    place of this one, from the normal law.
    """

    name: str
    skew: float = 0.0
    lost: float = 0.0
    normal: bool = False

    def differences(self, pool: Pool) -> Floats:
        """Every run minus every other of its seed, `[seed, arm, control]`."""
        accuracy = pool.accuracy
        if self.normal:
            spread = pool.deviation / np.sqrt(2)
            accuracy = np.random.default_rng(0).normal(0, spread, accuracy.shape)
        every = accuracy[:, :, None] - accuracy[:, None, :]
        return self._skewed(every) if self.skew else every

    def _skewed(self, every: Floats) -> Floats:
        others = ~np.eye(every.shape[1], dtype=bool)
        known = np.sort(every[:, others], axis=None)
        below, upto = (np.searchsorted(known, every, side) for side in ("left", "right"))
        moved = np.exp(self.skew * stats.norm.ppf((below + upto) / (2 * len(known))))
        center, spread = moved[:, others].mean(), moved[:, others].std()
        return (moved - center) * (known.std() / spread)


@dataclass(frozen=True)
class Runs:
    """A study's ten arms, `[claim, seed]` each: what was measured, and which runs diverged."""

    arm: Floats
    control: Floats
    arm_lost: Bools
    control_lost: Bools
    classes: int

    def pairs(self, claim: int) -> Pairs:
        """One claim's differences; a diverged run counts as chance."""
        arm = np.where(self.arm_lost, 1 / self.classes, self.arm)[claim]
        control = np.where(self.control_lost, 1 / self.classes, self.control)[claim]
        diverged = self.arm_lost[claim] | self.control_lost[claim]
        return Pairs(arm - control, diverged, np.zeros(len(arm), bool), tuple(range(len(arm))))

    def results(self) -> xr.Dataset:
        """The same as a study's results."""
        names = [f"{side} {claim}" for side in ("arm", "control") for claim in range(CLAIMS)]
        return xr.Dataset(
            {
                METRIC: (("arm", "seed"), np.concatenate([self.arm, self.control])),
                "diverged": (("arm", "seed"), np.concatenate([self.arm_lost, self.control_lost])),
            },
            coords={"arm": names, "seed": range(self.arm.shape[1])},
            attrs={"classes": self.classes},
        )


@dataclass(frozen=True)
class Design:
    """Studies of one kind: their world and size, the effect added, and what is claimed of it.

    shift: added to every arm, in accuracy. delta: the margin, likewise. stream: of random numbers.
    """

    world: World
    seeds: int
    kind: Kind
    shift: float
    delta: float
    stream: int = 0

    @property
    def plan(self) -> Plan:
        """Five claims, each about a pair of arms of its own."""
        return Plan(None, tuple(Claim(str(k), "", self.kind, self._of(k)) for k in range(CLAIMS)))

    def drawn(
        self, pool: Pool, differences: Floats, seeds: Integers, draw: np.random.Generator
    ) -> Runs:
        """A study on some of `seeds` of the pool, drawn without replacement.

        differences: the world's, `[seed, arm, control]`.
        """
        shape, arms = (CLAIMS, self.seeds), pool.accuracy.shape[1]
        chosen = draw.choice(seeds, self.seeds, replace=False)
        first = draw.integers(0, arms, shape)
        second = (first + draw.integers(1, arms, shape)) % arms
        control = pool.accuracy[chosen, second]
        arm = control + differences[chosen, first, second] + self.shift
        lost = draw.random((2, *shape)) < self.world.lost
        return Runs(arm, control, lost[0], lost[1], pool.classes)

    def effect(self, runs: Runs, claim: int, alpha: float) -> Effect:
        """A claim's outcome by the functions that `judge` calls, without labelled arrays."""
        expects = "moves" if self.kind == "directional" else "stays"
        return assess(runs.pairs(claim), Requirement(self._of(claim), expects), alpha)

    def effects(self, runs: Runs) -> list[Effect]:
        """The outcome of every claim, with simultaneous intervals."""
        return [self.effect(runs, claim, ERROR_RATE / CLAIMS) for claim in range(CLAIMS)]

    def _of(self, claim: int) -> Contrast:
        arm, control = f"arm {claim}", f"control {claim}"
        return Contrast(Reading(METRIC), arm, control, direction=1, delta=self.delta)


def decided(effect: Effect, kind: Kind) -> bool:
    """Whether an effect is found: a directional one, or, of a no-effect claim, equivalence."""
    if kind == "no_effect":
        return effect.negligible
    return not effect.negligible and (effect.low > 0 or effect.high < 0)


def judged_alike(design: Design, runs: Runs) -> bool:
    """Whether `judge`, given the study's results, says what `effects` and `decided` say."""
    return all(
        _decided(entry) == decided(effect, design.kind)
        and np.allclose(entry["ci"], (effect.low, effect.high), rtol=0, atol=1e-12)
        and np.isclose(entry["p"], effect.p)
        for entry, effect in zip(
            judge(design.plan, runs.results()), design.effects(runs), strict=True
        )
    )


def _decided(entry: Mapping[str, Any]) -> bool:
    """The same of an entry of summary.json."""
    if entry["kind"] == "no_effect":
        return entry["verdict"] == "supported"
    return entry["verdict"] in DIRECTIONAL and "negligible" not in entry["note"]
