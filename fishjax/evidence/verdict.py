"""The ruling: what the measured contrasts say about each declared claim.

The interval of the outcome rules, at 1 - 0.05/m for the plan's m primary contrasts, so that all m
hold together; p is printed beside it and never overrules it. A claim's p is the largest of its
outcome's, its mechanism's and those of what must hold besides, since all of them must show, each
at the same level (an intersection-union test: Berger 1982, Technometrics 24:295). Holm's
adjustment runs over the m claims. `supported` implies p_holm <= 0.05, because every p is then at
most 0.05/m. The converse fails: Holm refuses more than the simultaneous intervals do, and a claim
that it alone would pass stays `inconclusive`.

p tests the effects that a claim has to be told from: 0 for a directional one, -delta and +delta
for one of no effect or equivalence (the larger p counts, and 1 beyond them), so that there too a
small p speaks for the claim. An existential claim is read at the contrast with the smallest p,
adjusted for that choice, of those in its direction; where there is none, at that whose interval
reaches furthest that way.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import xarray as xr

from fishjax.evidence import paired
from fishjax.evidence.effect import Effect, caveats
from fishjax.evidence.finding import Finding
from fishjax.evidence.placebo import placebos
from fishjax.evidence.plan import Plan
from fishjax.evidence.trial import Trial, try_claim

Verdict = Literal[
    "supported",
    "outcome only",
    "refuted",
    "inconclusive",
    "premise fails",
    "too few seeds",
    "by construction",
    "void (placebo)",
]


@dataclass(frozen=True)
class Ruling:
    verdict: Verdict
    note: str = ""
    seeds_needed: int | None = None


def judge(plan: Plan, results: xr.Dataset) -> list[dict[str, Any]]:
    """One entry of summary.json for each claim (part) of the plan, in its order.

    Raises UsageError where the plan asks for what the results do not have.
    """
    alpha = paired.ERROR_RATE / max(plan.m, 1)
    trials = [try_claim(claim, alpha, results) for claim in plan.claims]
    counted = [trial for trial in trials if not trial.claim.by_construction]
    adjusted = paired.holm([trial.p for trial in counted])
    p_holm = {id(trial): float(p) for trial, p in zip(counted, adjusted, strict=True)}
    broken = [placebo["id"] for placebo in placebos(plan, results) if placebo["beyond_delta"]]
    return [
        _entry(trial, _rule(trial, plan.m, broken), plan.m, p_holm.get(id(trial)))
        for trial in trials
    ]


def _rule(trial: Trial, m: int, broken_placebos: list[str]) -> Ruling:
    if broken_placebos:
        return Ruling("void (placebo)", f"beyond delta: {', '.join(broken_placebos)}")
    if trial.claim.by_construction:
        return Ruling("by construction", "fitting the scenario fixed this contrast")
    if trial.seeds < (needed := paired.seeds_needed(m)):
        return Ruling("too few seeds", f"{trial.seeds} of the {needed} that m = {m} needs", needed)
    if missed := [each for each in trial.premise if not each.met]:
        return Ruling("premise fails", _sentences(map(_premise_missed, missed)))
    return _with_all(trial, _RULES[trial.claim.kind](trial))


def _premise_missed(finding: Finding) -> str:
    how = "is refuted" if finding.refutation else "is not shown"
    return f"the premise {how}: {finding.words}"


def _rule_required_outcome(trial: Trial) -> Ruling:
    """The outcome moves as claimed, or stays inside +-delta; the opposite refutes it."""
    outcome = trial.outcome
    if outcome.met:
        return Ruling("supported")
    if outcome.refutation:
        return Ruling("refuted", outcome.refutation)
    return _inconclusive(outcome.effect, [outcome.seeds_to_decide])


def _rule_no_effect(trial: Trial) -> Ruling:
    outcome = trial.outcome.effect
    delta, (low, high) = outcome.contrast.delta, outcome.claimed
    if outcome.negligible:
        return Ruling("supported")
    if low > delta:
        return Ruling("refuted", "a benefit beyond delta")
    if high < -delta:
        return Ruling("inconclusive", "a harm beyond delta: no benefit, yet not without effect")
    decisive = outcome.benefit > -delta
    return _inconclusive(outcome, [trial.outcome.seeds_to_decide if decisive else None])


def _rule_existential(trial: Trial) -> Ruling:
    """Some contrast has its direction, or the interval of none reaches its delta."""
    if trial.outcome.met:
        return Ruling("supported", f"found: {trial.outcome.words}")
    effects = [finding.effect for finding in trial.outcomes]
    if all(effect.claimed[1] < effect.contrast.delta for effect in effects):
        return Ruling("refuted", "every simultaneous bound is short of delta")
    ways = [effect.seeds_to_exclude(0.0) for effect in effects if effect.benefit > 0]
    if all(effect.benefit < effect.contrast.delta for effect in effects):
        edges = [each.contrast.delta * each.contrast.direction for each in effects]
        short = [each.seeds_to_exclude(edge) for each, edge in zip(effects, edges, strict=True)]
        ways.append(None if None in short else max(filter(None, short)))
    unmeasured = next((each for each in effects if each.pairs.missing), effects[0])
    return _inconclusive(unmeasured, ways)


_RULES = {
    "directional": _rule_required_outcome,
    "equivalence": _rule_required_outcome,
    "no_effect": _rule_no_effect,
    "existential": _rule_existential,
}


def _with_all(trial: Trial, outcome: Ruling) -> Ruling:
    """The ruling on the outcome, held to what must hold besides it and to its mechanism."""
    refuted = [f"{each.words}: {each.refutation}" for each in trial.also if each.refutation]
    if outcome.verdict == "refuted" or not trial.also:
        return _with_mechanism(trial.mechanism, outcome)
    if refuted:
        return Ruling("refuted", f"required besides: {_sentences(refuted)}")
    rulings = [outcome, *(_rule_required(each) for each in trial.also if not each.met)]
    undecided = [each for each in rulings if each.verdict == "inconclusive"]
    if not undecided:
        return _with_mechanism(trial.mechanism, outcome)
    needed = [each.seeds_needed for each in undecided]
    return Ruling(
        "inconclusive",
        _sentences(each.note for each in undecided),
        None if None in needed else max(filter(None, needed)),
    )


def _rule_required(finding: Finding) -> Ruling:
    """The ruling on one thing that must hold besides and is open."""
    ruling = _inconclusive(finding.effect, [finding.seeds_to_decide])
    note = _sentences([f"required besides: {finding.words}", ruling.note])
    return Ruling(ruling.verdict, note, ruling.seeds_needed)


def _with_mechanism(mechanism: Finding | None, outcome: Ruling) -> Ruling:
    if outcome.verdict != "supported" or mechanism is None or mechanism.met:
        return outcome
    notes = [outcome.note, f"the mechanism {mechanism.missed}"]
    if mechanism.standing == "open":
        notes.append(_inconclusive(mechanism.effect, [mechanism.seeds_to_decide]).note)
    return Ruling("outcome only", _sentences(notes))


def _inconclusive(effect: Effect, ways: list[int | None]) -> Ruling:
    if effect.pairs.missing:
        return Ruling("inconclusive")
    known = [seeds for seeds in ways if seeds is not None]
    if not known:
        return Ruling("inconclusive", f"{paired.MOST_SEEDS} seeds would not be sure to decide")
    soonest = min(known)
    return Ruling("inconclusive", f"about {soonest} seeds would decide", soonest)


def _entry(trial: Trial, ruling: Ruling, m: int, p_holm: float | None) -> dict[str, Any]:
    """members: of an existential claim all of its contrasts, with p and interval adjusted.

    reason: of the verdict. caveats: of the pairs that it was read from. note: both after the
    claim's own.
    """
    claim, outcome, several = trial.claim, trial.outcome.effect, len(trial.outcomes) > 1
    known = list(_caveats(trial))
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
        "n": trial.seeds,
        "m": m,
        "members": [finding.as_json() for finding in trial.outcomes] if several else [],
        "mechanism": trial.mechanism.as_json() if trial.mechanism else None,
        "also": [finding.as_json() for finding in trial.also],
        "premise": [finding.as_json() for finding in trial.premise],
        "seeds_needed": ruling.seeds_needed,
        "reason": ruling.note,
        "caveats": known,
        "note": _sentences([claim.note, ruling.note, *known]),
    }


def _caveats(trial: Trial) -> Iterable[str]:
    read = [("outcome", each) for each in trial.outcomes]
    read += [("mechanism", trial.mechanism)] if trial.mechanism else []
    read += [("required besides", each) for each in trial.also]
    read += [("premise", each) for each in trial.premise]
    return dict.fromkeys(words for what, each in read for words in caveats(what, each.effect))


def _sentences(notes: Iterable[str]) -> str:
    return "; ".join(note for note in notes if note)
