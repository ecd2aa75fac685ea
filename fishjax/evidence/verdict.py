"""The ruling: what the measured contrasts say about each declared claim.

The interval of the outcome rules, at 1 - 0.05/m for the plan's m primary contrasts, so that all m
hold together; p is printed beside it and never overrules it. A claim's p is the larger of its
outcome's and its mechanism's, as both must show, and Holm's adjustment runs over the m claims.
`supported` implies p_holm <= 0.05, because both p are then at most 0.05/m. The converse fails:
Holm refuses more than the simultaneous intervals do, and a claim that it alone would pass stays
`inconclusive`.

For a directional claim p tests an effect of 0. For a no-effect claim it tests effects of -delta
and +delta (the larger p counts), so that there too a small p speaks for the claim.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from fishjax.evidence import paired
from fishjax.evidence.effect import Effect, measure
from fishjax.evidence.plan import Claim, Plan

Verdict = Literal[
    "supported",
    "outcome only",
    "refuted",
    "inconclusive",
    "too few seeds",
    "by construction",
    "void (placebo)",
]


@dataclass(frozen=True)
class Ruling:
    verdict: Verdict
    note: str = ""
    seeds_needed: int | None = None


@dataclass(frozen=True)
class Trial:
    """A claim with what was measured for it."""

    claim: Claim
    outcome: Effect
    mechanism: Effect | None

    @property
    def p(self) -> float:
        """Of the whole claim: the larger of outcome and mechanism."""
        return max(self.outcome.p, self.mechanism.p if self.mechanism else 0.0)


def judge(plan: Plan, results: xr.Dataset) -> list[dict[str, Any]]:
    """One entry of summary.json for each claim (part) of the plan, in its order.

    Raises UsageError where the plan asks for what the results do not have.
    """
    trials = [_try(claim, plan.m, results) for claim in plan.claims]
    counted = [trial for trial in trials if not trial.claim.by_construction]
    adjusted = paired.holm([trial.p for trial in counted])
    p_holm = {id(trial): float(p) for trial, p in zip(counted, adjusted, strict=True)}
    broken = [placebo["id"] for placebo in placebos(plan, results) if placebo["beyond_delta"]]
    return [
        _entry(trial, _rule(trial, plan.m, broken), plan.m, p_holm.get(id(trial)))
        for trial in trials
    ]


def placebos(plan: Plan, results: xr.Dataset) -> list[dict[str, Any]]:
    """What each placebo did; one that is `beyond_delta` voids the study.

    "Beyond delta" is read as it is for a no-effect claim: the whole interval lies beyond +-delta.
    The mean alone would void a sound study whenever few seeds are noisy, which the claims' own
    intervals already allow for; a placebo is there to catch what they cannot, a bias. The
    interval is the single one at 95 %, not widened for m, as an alarm should rather ring.
    `within_delta` says that the study could exclude such a bias.
    """
    entries = []
    for placebo in plan.placebos:
        effect = measure(results, placebo.contrast, paired.ERROR_RATE)
        delta = placebo.contrast.delta
        entries.append(
            {
                "id": placebo.id,
                "text": placebo.text,
                **effect.as_json(),
                "n": len(effect.pairs.seeds),
                "within_delta": effect.negligible,
                "beyond_delta": effect.low > delta or effect.high < -delta,
                "note": _sentences(_caveats("placebo", effect)),
            }
        )
    return entries


def _try(claim: Claim, m: int, results: xr.Dataset) -> Trial:
    alpha = paired.ERROR_RATE / max(m, 1)
    (contrast,) = claim.outcomes
    hypotheses = (-contrast.delta, contrast.delta) if claim.kind == "no_effect" else (0.0,)
    outcome = measure(results, contrast, alpha, hypotheses)
    mechanism = next((measure(results, m.contrast, alpha) for m in claim.mechanisms), None)
    return Trial(claim, outcome, mechanism)


def _rule(trial: Trial, m: int, broken_placebos: list[str]) -> Ruling:
    seeds = len(trial.outcome.pairs.seeds)
    if broken_placebos:
        return Ruling("void (placebo)", f"beyond delta: {', '.join(broken_placebos)}")
    if trial.claim.by_construction:
        return Ruling("by construction", "fitting the scenario fixed this contrast")
    if seeds < (needed := paired.seeds_needed(m)):
        return Ruling("too few seeds", f"{seeds} of the {needed} that m = {m} needs", needed)
    if trial.outcome.pairs.missing:
        return Ruling("inconclusive")
    return _RULES[trial.claim.kind](trial)


def _rule_directional(trial: Trial) -> Ruling:
    outcome, delta = trial.outcome, trial.outcome.contrast.delta
    low, high = outcome.claimed
    if outcome.negligible:
        return Ruling("refuted", "negligible: the interval lies inside +-delta")
    if low > 0:
        return _with_mechanism(trial)
    if high < 0:
        return Ruling("refuted", "the effect is opposite to the claim")
    ways = [outcome.seeds_to_exclude(0.0)]
    if abs(outcome.estimate) < delta:
        ways.append(outcome.seeds_to_exclude(-delta, delta))
    return _inconclusive(ways)


def _rule_no_effect(trial: Trial) -> Ruling:
    outcome, delta = trial.outcome, trial.outcome.contrast.delta
    low, high = outcome.claimed
    benefit = outcome.estimate * outcome.contrast.direction
    if outcome.negligible:
        return _with_mechanism(trial)
    if low > delta:
        return Ruling("refuted", "a benefit beyond delta")
    if high < -delta:
        return Ruling("inconclusive", "a harm beyond delta: no benefit, yet not without effect")
    if abs(benefit) < delta:
        return _inconclusive([outcome.seeds_to_exclude(-delta, delta)])
    edge = delta * outcome.contrast.direction
    return _inconclusive([outcome.seeds_to_exclude(edge) if benefit > delta else None])


_RULES = {"directional": _rule_directional, "no_effect": _rule_no_effect}


def _with_mechanism(trial: Trial) -> Ruling:
    if trial.mechanism is None or trial.mechanism.moved:
        return Ruling("supported")
    return Ruling("outcome only", "the mechanism did not move")


def _inconclusive(ways: list[int | None]) -> Ruling:
    known = [seeds for seeds in ways if seeds is not None]
    if not known:
        return Ruling("inconclusive", f"{paired.MOST_SEEDS} seeds would not be sure to decide")
    soonest = min(known)
    return Ruling("inconclusive", f"about {soonest} seeds would decide", soonest)


def _entry(trial: Trial, ruling: Ruling, m: int, p_holm: float | None) -> dict[str, Any]:
    claim, outcome, mechanism = trial.claim, trial.outcome, trial.mechanism
    notes = [claim.note, ruling.note, *_caveats("outcome", outcome)]
    if mechanism:
        notes += _caveats("mechanism", mechanism)
    return {
        "id": claim.id,
        "part": claim.part,
        "text": claim.text,
        "kind": claim.kind,
        "verdict": ruling.verdict,
        **outcome.as_json(),
        "p": trial.p,
        "p_holm": p_holm,
        "p_outcome": outcome.p,
        "n": len(outcome.pairs.seeds),
        "m": m,
        "mechanism": {**mechanism.as_json(), "moved": mechanism.moved} if mechanism else None,
        "seeds_needed": ruling.seeds_needed,
        "note": _sentences(notes),
    }


def _caveats(what: str, effect: Effect) -> Iterable[str]:
    pairs = effect.pairs
    if pairs.missing:
        yield f"{what} not measured at seeds {', '.join(map(str, pairs.missing))}"
    if lost := int(pairs.diverged.sum()):
        yield f"{what}: {lost} of {len(pairs.seeds)} pairs diverged (sign test and median)"
    elif np.isinf(pairs.differences).any():
        yield f"{what}: infinite differences (sign test and median)"


def _sentences(notes: Iterable[str]) -> str:
    return "; ".join(note for note in notes if note)
