"""A configuration field: static or traced, its bounds and choices, and how to read it from text."""

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


class UsageError(ValueError):
    """A request that cannot be met as it stands; the front door prints it and exits with 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The words `; did you mean 'x'?` for the known name closest to `name`."""
    match = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    return f"; did you mean {match[0]!r}?" if match else ""


def choose(name: str, known: Iterable[str], what: str) -> str:
    """`name` if it is known, else a UsageError with the nearest one."""
    known = list(known)
    if name not in known:
        raise UsageError(f"unknown {what} {name!r}{nearest(name, known)}")
    return name


def numbered(name: str, known: Sequence[str], what: str) -> str:
    """The known name that is meant: `#K` is the K-th, from 1; see `choose` for any other."""
    if not name.startswith("#"):
        return choose(name, known, what)
    number = name[1:]
    if not (number.isdecimal() and 1 <= int(number) <= len(known)):
        raise UsageError(f"unknown {what} {name!r}; #1 to #{len(known)} are there")
    return known[int(number) - 1]


def static(default: Any, doc: str, **limits: Any) -> Any:
    """A field that changes the compiled program. Limits: `low`, `high`, `choices`."""
    return _declare("static", default, doc, limits)


def traced(default: Any, doc: str, **limits: Any) -> Any:
    """A field that is an input of the compiled program. Limits: `low`, `high`, `choices`.

    `above=True` leaves out the lower bound itself, `below=True` the upper one; a number is finite
    unless its field has `endless=True`.
    """
    return _declare("traced", default, doc, limits)


def parse(dotted: str, field: dataclasses.Field, value: Any) -> Any:
    """`value`, possibly text, as the field's own type; a UsageError where it is not one."""
    try:
        if field.type is int:
            return int(value) if isinstance(value, str) else _exact_int(value)
        if field.type is float:
            return float(value)
        parts = (
            [p.strip() for p in value.split(",") if p.strip()] if isinstance(value, str) else value
        )
        if field.type == tuple[str, ...]:
            return tuple(str(part) for part in parts)
        if field.type == tuple[int, ...]:
            return tuple(int(part) if isinstance(part, str) else _exact_int(part) for part in parts)
        return str(value)
    except (TypeError, ValueError, OverflowError):
        kinds = {int: "a whole number", float: "a number"}
        kind = next((k for t, k in kinds.items() if t is field.type), None)
        raise UsageError(
            f"{dotted} takes {kind or 'whole numbers separated by commas'}, not {value!r}"
        ) from None


def check(name: str, field: dataclasses.Field, value: Any) -> None:
    """Raises a UsageError that calls the field `name` where `value` breaks the field's limits."""
    limits = field.metadata
    options = limits.get("choices")
    for option in value if isinstance(value, tuple) else (value,):
        if options and option not in options:
            raise UsageError(f"{name} cannot be {option!r}{nearest(str(option), options)}")
    if limits.get("nonempty") and not value:
        raise UsageError(f"{name} needs at least one number")
    for number in value if isinstance(value, tuple) else (value,):
        if not isinstance(number, int | float):
            continue
        if not _within(number, limits):
            raise UsageError(f"{name}={number} is out of bounds: {_bounds(limits)}")
        if isinstance(number, float) and not _within(_float32(number), limits):
            raise UsageError(f"{name}={number} is out of bounds in float32: {_bounds(limits)}")


def _declare(kind: str, default: Any, doc: str, limits: Mapping[str, Any]) -> Any:
    return dataclasses.field(default=default, metadata={"kind": kind, "doc": doc, **limits})


def _exact_int(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value:
        raise ValueError(value)
    return int(value)


def _float32(number: float) -> float:
    """The number that a program computes with; XLA takes a subnormal one for 0."""
    with np.errstate(over="ignore", under="ignore"):
        single = np.float32(number)
    return 0.0 if abs(single) < np.finfo(np.float32).tiny else float(single)


def _within(number: float, limits: Mapping[str, Any]) -> bool:
    low, high = limits.get("low", -math.inf), limits.get("high", math.inf)
    if not (math.isfinite(number) or (limits.get("endless") and number == math.inf)):
        return False
    above = number > low if limits.get("above") else number >= low
    return above and (number < high if limits.get("below") else number <= high)


def _bounds(limits: Mapping[str, Any]) -> str:
    parts = []
    if "low" in limits:
        parts.append(f"{'above' if limits.get('above') else 'at least'} {limits['low']}")
    if "high" in limits:
        parts.append(f"{'below' if limits.get('below') else 'at most'} {limits['high']}")
    if not limits.get("endless"):
        parts.append("finite")
    return ", ".join(parts)
