"""Many simulated studies of one design, and the figures that come of them."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.calibration.figures import Figure, Rate, any_of, sign_error, sign_flip_error
from experiments.calibration.pool import Pool
from experiments.calibration.studies import (
    CLAIMS,
    Bools,
    Design,
    Kind,
    Runs,
    World,
    decided,
    judged_alike,
)
from fishjax.evidence.effect import Effect
from fishjax.evidence.paired import ERROR_RATE, holm
from fishjax.evidence.plan import ACCURACY_DELTA

SIZES = (8, 12, 16)
AT_MOST, WITHIN = (0.0, ERROR_RATE), (0.92, 0.97)
DECIDED = Figure("a directional verdict or an adjusted p ≤ 0.05, labels random", AT_MOST)
ALL_COVER = Figure("all five simultaneous intervals cover", WITHIN)
ONE_COVERS = Figure("the single 95 % interval covers", WITHIN)
EQUIVALENT = Figure("a false equivalence, with an effect of delta", AT_MOST)
POWER = Figure("a claim supported, with an effect of one deviation")
MEASURED = World("as measured")
WORLDS = (
    MEASURED,
    World("lognormal, skewness 1.75", skew=0.5),
    World("lognormal, skewness 6.2", skew=1.0),
    World("10 % of runs diverged", lost=0.1),
)
NORMAL = World("normal", normal=True)
MARGIN = 2.0
"""Margin of the studies that claim no effect, in standard deviations of a difference."""
PART = max(SIZES)
"""Seeds of a part of the pool; studies of different parts have none in common."""
TWICE = 3
"""Studies of each design that the whole verdict engine judges too."""


def designs(pool: Pool) -> list[Design]:
    """Every world at every size with no effect and with one of the margin, and one deviation."""
    sd = pool.deviation
    kinds: list[tuple[World, Kind, float, float]] = [
        *((world, "directional", 0.0, ACCURACY_DELTA) for world in WORLDS),
        *((world, "no_effect", MARGIN * sd, MARGIN * sd) for world in WORLDS),
        *((world, "directional", sd, ACCURACY_DELTA) for world in (MEASURED, NORMAL)),
    ]
    sized = [(*kind, seeds) for kind in kinds for seeds in SIZES]
    return [
        Design(world, seeds, kind, shift, delta, stream)
        for stream, (world, kind, shift, delta, seeds) in enumerate(sized)
    ]


def simulate(pool: Pool, design: Design, studies: int) -> list[dict[str, Any]]:
    """The figures of a design, from `studies` of it with a fixed seed.

    Each study keeps to one of the disjoint parts of the pool's seeds. Raises RuntimeError where
    the whole verdict engine says otherwise than its functions do.
    """
    draw = np.random.default_rng(design.stream)
    seeds = np.arange(len(pool.accuracy)).reshape(-1, PART)
    parts = np.arange(studies) % len(seeds)
    differences = design.world.differences(pool)
    drawn = [design.drawn(pool, differences, seeds[part], draw) for part in parts]
    if not all(judged_alike(design, runs) for runs in drawn[:TWICE]):
        raise RuntimeError(f"judge and its functions disagree on a study of {design}")
    about = {"differences": design.world.name, "seeds": design.seeds, "studies": studies}
    return [
        {"figure": figure.name, **about, **Rate(hits, parts).as_json(figure.target), "exact": exact}
        for figure, hits, exact in _figures(design, drawn)
    ]


def _figures(design: Design, drawn: list[Runs]) -> Iterator[tuple[Figure, Bools, float | None]]:
    """Each figure, the studies or claims that count, `[study, claim or 1]`, and its exact value."""
    effects = [design.effects(runs) for runs in drawn]
    found = np.array([[decided(effect, design.kind) for effect in study] for study in effects])
    error = functools.partial(_attained, (1 - design.world.lost) ** 2)
    each = error(design.seeds, ERROR_RATE / CLAIMS)
    if design.kind == "no_effect":
        yield EQUIVALENT, _any(found), any_of(each / 2, CLAIMS)
    elif design.shift:
        yield POWER, found, None
    else:
        adjusted = np.array([holm([effect.p for effect in study]) for study in effects])
        single = [[design.effect(runs, 0, ERROR_RATE)] for runs in drawn]
        yield DECIDED, _any(found | (adjusted <= ERROR_RATE)), any_of(each, CLAIMS)
        yield ALL_COVER, ~_any(~_cover(effects)), 1 - any_of(each, CLAIMS)
        yield ONE_COVERS, _cover(single), 1 - error(design.seeds, ERROR_RATE)


def _attained(kept: float, seeds: int, alpha: float) -> float:
    """What a test at `alpha` attains where a pair diverges unless it is one of the `kept` share,
    and one that does makes it the sign test.
    """
    whole = kept**seeds
    return whole * sign_flip_error(seeds, alpha) + (1 - whole) * sign_error(seeds, alpha)


def _any(claims: Bools) -> Bools:
    """Whether any claim of a study counts, `[study, 1]`."""
    return np.any(claims, axis=1)[:, None]


def _cover(effects: list[list[Effect]]) -> Bools:
    """Whether each interval holds the true effect, 0: `[study, claim]`."""
    return np.array([[effect.low <= 0 <= effect.high for effect in study] for study in effects])
