"""What an entry of `summary.json` says, in a few words; tables and terminal share them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from fishjax.present.wording import MINUS, MISSING, Interval, Quantity, difference, plain, quantity

STANDINGS = {
    "moves": {
        "met": "moved",
        "refuted": "did not move as expected",
        "open": "is not shown to move",
    },
    "stays": {
        "met": "stayed within the margin",
        "refuted": "did not stay within the margin",
        "open": "is not shown to stay within the margin",
    },
    "exceeds": {
        "met": "exceeded the margin",
        "refuted": "did not exceed the margin",
        "open": "is not shown to exceed the margin",
    },
}
"""What a contrast did, by what was required of it and how that stands."""


def title(claim: Mapping[str, Any], version: str = "") -> str:
    """`2.4 (a)`: the claim's id and its part, and the version of the plan that it is judged by."""
    named = f"{claim['id']} ({claim['part']})" if claim["part"] else claim["id"]
    return ", ".join(filter(None, (named, version)))


def effect_kind(effect: Mapping[str, Any]) -> Quantity:
    """The kind of number an effect, its interval and its margin are."""
    return difference(effect["reading"])


def margin_kind(effect: Mapping[str, Any]) -> Quantity:
    """The kind of number that an effect's margin is."""
    return replace(effect_kind(effect), signed=False)


def measured(effect: Mapping[str, Any]) -> tuple[float | None, Interval]:
    """An effect and its interval, infinite where JSON has None and the entry says which way."""
    values = (effect["effect"], *effect["ci"])
    signs = effect.get("infinite", (0, 0, 0))
    value, low, high = (
        math.inf * sign if sign else value for value, sign in zip(values, signs, strict=True)
    )
    return value, (low, high)


def estimate(effect: Mapping[str, Any]) -> str:
    """`+12.3 [+9.8, +14.9] points`."""
    shown = effect_kind(effect)
    return shown.with_unit(shown.estimate(*measured(effect)))


def contrast(effect: Mapping[str, Any]) -> str:
    """`validation accuracy: leaky − relu`; of one arm against 0 only the arm."""
    kind, control = quantity(effect["reading"]), effect["control"]
    if isinstance(control, int | float):
        against = kind.with_unit(kind.text(control)) if control else ""
        against = f"({against})" if against.startswith(MINUS) else against
    else:
        against = _side(control)
    return f"{kind.label}: {_side(effect['arm'])}" + f" {MINUS} {against}" * bool(against)


def mechanism(claim: Mapping[str, Any]) -> str:
    """What the mechanism's statistic did, or a dash."""
    found = claim["mechanism"]
    return required(found) if found else MISSING


def required(found: Mapping[str, Any]) -> str:
    """`dead share: leaky − relu moved, −40.0 [−50.0, −30.0] points`."""
    if found["effect"] is None and "infinite" not in found:
        return f"{contrast(found)} was not measured at every seed"
    did = STANDINGS[found["expects"]][found["standing"]]
    return f"{contrast(found)} {did}, {estimate(found)}"


def besides(claim: Mapping[str, Any]) -> list[str]:
    """What had to hold besides the outcome, and the premises, each with what it did."""
    also = [f"Required besides: {required(found)}" for found in claim.get("also", ())]
    return [*also, *(f"Premise: {required(found)}" for found in claim.get("premise", ()))]


def grounds(claim: Mapping[str, Any]) -> str:
    """What a verdict rests on besides the outcome: mechanism, requirements, what is known of the
    pairs, and why it is void.
    """
    said = [mechanism(claim)] if claim["mechanism"] else []
    said += [*besides(claim), *claim.get("caveats", ())]
    said += [claim.get("reason", "")] if claim["verdict"].startswith("void") else []
    return "; ".join(filter(None, said)) or MISSING


def tuned(tuning: Mapping[str, Any]) -> str:
    """`best of 5 on 8 other seeds: deep 0.01, shallow 0.05 (the highest tried)`."""
    rates, chosen = tuning["rates"], tuning["chosen"].items()
    if not chosen:
        return "none tuned"
    edges = {max(rates): " (the highest tried)", min(rates): " (the lowest tried)"}
    edges = edges if len(edges) > 1 else {}
    got = ", ".join(f"{arm} {rate:g}{edges.get(rate, '')}" for arm, rate in chosen)
    return f"best of {len(rates)} on {len(tuning['seeds'])} other seeds: {got}"


def finding(placebo: Mapping[str, Any]) -> str:
    """What a placebo's interval says of the study."""
    if placebo["beyond_delta"]:
        return "beyond the margin: the study is void"
    return "within the margin" if placebo["within_delta"] else "no effect beyond the margin shown"


def figure_kind(target: Mapping[str, Any]) -> Quantity:
    """The kind of number a scenario's figure is: a level, a gain, or a difference of two arms."""
    gain = any(word in target["reading"] for word in (", gain since", ", minus"))
    return (difference if gain or target["control"] != 0 else quantity)(target["reading"])


def advice(scenario: Mapping[str, Any]) -> list[str]:
    """For each figure that is not met what was measured, and which knob to turn."""
    return [
        sentence
        for name, target in scenario["target"].items()
        for sentence in _missed(words(name), target, scenario["measured"][name])
    ]


def _missed(name: str, target: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    kind = figure_kind(target)
    if found.get("advice"):
        mean = kind.with_unit(kind.text(found["mean"]))
        yield f"{name} is {mean}, not {bound(target)}: {found['advice']}."
    if found["n"] < found.get("of", 0):
        yield f"{name} is a finite number in {found['n']} of {found['of']} runs only, so not met."


def bound(target: Mapping[str, Any]) -> str:
    """A target's range with its unit: `≤ 1.0 points`, `0.520 to 0.580`."""
    unit, low, high = replace(figure_kind(target), signed=False), target["low"], target["high"]
    if low is not None and high is not None:
        text = f"{unit.text(low)} to {unit.text(high)}"
    elif low is not None:
        text = f"≥ {unit.text(low)}"
    else:
        text = f"≤ {unit.text(high)}" if high is not None else MISSING
    return unit.with_unit(text)


def met(target: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Whether a figure is within its target's range; nothing where the target has none."""
    if target["low"] is None and target["high"] is None:
        return MISSING
    return "yes" if found["within"] else "no"


def plan_change(summary: Mapping[str, Any]) -> str:
    """What of the plan is not as the first start declared it, or nothing."""
    changed = summary.get("plan_changed")
    if not changed:
        return ""
    since = f"The plan was changed after it was pinned{_at(changed['pinned'])}"
    failed = f" The pinned plan cannot be judged: {changed['error']}." if changed["error"] else ""
    claims = [name for name in changed["differs"] if name.startswith("claim ")]
    others = [name for name in changed["differs"] if name not in claims]
    given = [f"both versions are given of {', '.join(claims)}"] * bool(claims)
    given += [f"as pinned, {', '.join(others)} is in summary.json"] * bool(others)
    return f"{'; '.join([since, *given])}.{failed}"


def earlier_looks(summary: Mapping[str, Any]) -> str:
    """That seeds were added to a study that had been looked at, or nothing."""
    looks = summary.get("looks")
    if not looks:
        return ""
    counts = ", then ".join(str(len(seeds)) for seeds in looks)
    return (
        f"Seeds were added after what came of {counts} of them had been read: p and intervals are "
        "those of a single look, and promise too much."
    )


def mixed_trainers(summary: Mapping[str, Any]) -> str:
    """That not all cells are from the same code and compiler, or nothing."""
    trainers = summary.get("trained_by", [])
    if len(trainers) < 2:
        return ""
    named = "; ".join(f"{each['cells']} {_by(each)}" for each in trainers)
    return f"Its cells are from {len(trainers)} versions of code or compiler: {named}."


def caveats(summary: Mapping[str, Any]) -> list[str]:
    """What a reader of the claims has to know of how the study came about."""
    return [plan_change(summary), earlier_looks(summary), mixed_trainers(summary)]


def left_out(summary: Mapping[str, Any]) -> str:
    """Which species no AUC is given of, or nothing."""
    rare = summary.get("auc_without")
    if not rare:
        return ""
    named = ", ".join(f"{plain(name)} ({images})" for name, images in rare.items())
    return f"Left out of AUC, for too few test images: {named}."


def words(name: str) -> str:
    """`gain_after_50` as `gain after 50`."""
    return plain(name).replace("_", " ")


def changes(overrides: Mapping[str, Any]) -> str:
    """`hyper.lr=0.1, model.widths=8,16`, or a dash for the base run itself."""
    return "; ".join(f"{key}={setting(value)}" for key, value in overrides.items()) or MISSING


def setting(value: Any) -> str:
    """`8,16`, `0.1`, `4` or `relu`."""
    if isinstance(value, list | tuple):
        return ",".join(map(setting, value))
    return f"{value:.12g}" if isinstance(value, int | float) else str(value)


def _at(code: Mapping[str, Any]) -> str:
    return f" at revision {code['revision'][:8]}" if code["revision"] else ""


def _by(trainer: Mapping[str, Any]) -> str:
    """Which code and compiler some cells are from."""
    if trainer["code"] is None:
        return "not recorded"
    return f"by code {trainer['code'][:8]} with jaxlib {trainer['jaxlib']}"


def _side(side: str | list[str]) -> str:
    """An arm, or the mean of several."""
    return side if isinstance(side, str) else f"mean of ({', '.join(side)})"
