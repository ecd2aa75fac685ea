"""Whether a study shows the failure that the seed document describes."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from fishjax.evidence.contrast import NEAR
from fishjax.evidence.effect import describe, plain
from fishjax.evidence.pairs import pairs
from fishjax.evidence.plan import Scenario, Target
from fishjax.files import number


def reproduce(scenario: Scenario, results: xr.Dataset) -> dict[str, Any]:
    """The entry of summary.json: each target's bounds, its mean over seeds, and whether all hold.

    A mean on its bound holds (to a millionth); one over less than all seeds does not. A target that
    is missed has the `advice` which knob to turn. Raises UsageError where a target asks for what
    the results do not have.
    """
    measured = {target.name: _measure(target, results) for target in scenario.targets}
    return {
        "id": scenario.id,
        "text": scenario.text,
        "target": declared(scenario),
        "measured": measured,
        "reproduced": all(figure["within"] for figure in measured.values()),
    }


def declared(scenario: Scenario) -> dict[str, Any]:
    """Each target as it was declared, by name."""
    return {target.name: _declared(target) for target in scenario.targets}


def margins(scenario: Scenario, measured: Mapping[str, Any]) -> list[float]:
    """How far the targets are from their bounds, in deviations over seeds, the narrowest first.

    Negative where a target is missed by its mean, 0 on its bound, infinite where it is met and the
    seeds do not differ.
    """
    return sorted(_margin(target, measured[target.name]) for target in scenario.targets)


def _margin(target: Target, figure: Mapping[str, Any]) -> float:
    mean, deviation = figure["mean"], figure["sd"]
    if mean is None:
        return -math.inf
    inside = min(mean - target.low, target.high - mean)
    inside = max(inside, 0.0) if _within(mean, target) else inside
    if not inside or deviation:
        return inside / (deviation or 1.0)
    return math.copysign(math.inf, inside)


def _measure(target: Target, results: xr.Dataset) -> dict[str, Any]:
    values = pairs(results, target).differences
    figure = describe(values)
    complete = figure["n"] == len(values) and figure["n"] > 0
    within = complete and _within(figure["mean"], target)
    advice = "" if within else _advice(figure["mean"], target)
    return {**figure, "of": len(values), "within": within, "advice": advice}


def _advice(mean: float | None, target: Target) -> str:
    """Which knob the study says to turn; nothing where no number was measured."""
    if mean is None or target.low <= mean <= target.high:
        return ""
    return target.below if mean < target.low else target.above


def _within(mean: float, target: Target) -> bool:
    edges = np.array([target.low, target.high])
    return bool(target.low <= mean <= target.high or np.isclose(mean, edges, rtol=NEAR).any())


def _declared(target: Target) -> dict[str, Any]:
    return {
        "seed_figure": target.seed_figure,
        "reading": target.reading.label,
        "arm": plain(target.arm),
        "control": plain(target.control),
        "low": number(target.low),
        "high": number(target.high),
    }
