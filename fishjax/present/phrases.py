"""What an entry of `summary.json` says, in a few words; tables and terminal share them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fishjax.present.wording import MINUS, MISSING, Quantity, difference, plain, quantity


def title(claim: Mapping[str, Any]) -> str:
    """`2.4 (a)`: the claim's id and its part."""
    return f"{claim['id']} ({claim['part']})" if claim["part"] else claim["id"]


def effect_kind(effect: Mapping[str, Any]) -> Quantity:
    """The kind of number an effect, its interval and its margin are."""
    return difference(effect["reading"])


def margin_kind(effect: Mapping[str, Any]) -> Quantity:
    """The kind of number that an effect's margin is."""
    return replace(effect_kind(effect), signed=False)


def estimate(effect: Mapping[str, Any]) -> str:
    """`+12.3 [+9.8, +14.9] points`."""
    shown = effect_kind(effect)
    return shown.with_unit(shown.estimate(effect["effect"], effect["ci"]))


def contrast(effect: Mapping[str, Any]) -> str:
    """`validation accuracy: leaky − relu`; of one arm against 0 only the arm."""
    kind, control = quantity(effect["reading"]), effect["control"]
    if isinstance(control, int | float):
        against = kind.with_unit(kind.text(control)) if control else ""
    else:
        against = _side(control)
    return f"{kind.label}: {_side(effect['arm'])}" + f" {MINUS} {against}" * bool(against)


def mechanism(claim: Mapping[str, Any]) -> str:
    """What the mechanism's statistic did, or a dash."""
    found = claim["mechanism"]
    if not found:
        return MISSING
    return f"{contrast(found)} {'moved' if found['moved'] else 'did not move'}, {estimate(found)}"


def finding(placebo: Mapping[str, Any]) -> str:
    """What a placebo's interval says of the study."""
    if placebo["beyond_delta"]:
        return "beyond the margin: the study is void"
    return "within the margin" if placebo["within_delta"] else "no effect beyond the margin shown"


def figure_kind(target: Mapping[str, Any]) -> Quantity:
    """The kind of number a scenario's figure is: a level, a gain, or a difference of two arms."""
    gain = "gain since" in target["reading"]
    return (difference if gain or target["control"] != 0 else quantity)(target["reading"])


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


def words(name: str) -> str:
    """`gain_after_50` as `gain after 50`."""
    return plain(name).replace("_", " ")


def changes(overrides: Mapping[str, Any]) -> str:
    """`hyper.lr=0.1, model.widths=8,16`, or a dash for the base run itself."""
    return "; ".join(f"{key}={_setting(value)}" for key, value in overrides.items()) or MISSING


def _setting(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _side(side: str | list[str]) -> str:
    """An arm, or the mean of several."""
    return side if isinstance(side, str) else f"mean of ({', '.join(side)})"
