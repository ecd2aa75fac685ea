"""How many runs a pack holds: a fixed width over all devices, fewer where memory would run out.

Compiling only to ask for memory would cost more than most sweeps can win, so the question is asked
in two steps. Every piece is traced, which compiling it needs anyway, and the bytes of everything it
names are added up as if nothing were ever freed. Where that fits in a SHARE of the free memory the
width stands. Otherwise the pieces are compiled at two small widths, XLA says what each needs, and a
line through the two readings, constant + slope x runs, gives the widest pack that fits. Mapped by
`map` only states and tables grow with the width, the temporaries of one run at a time do not.

No pack is wider than PACK_WIDTH, or than one run on each device where these are more: under `map`
more runs to a pack are no faster, and only lose more when a start is interrupted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from fishjax.engine.program import PIECES, Program, Shared, Slots

PACK_WIDTH = 16
SHARE = 0.5
"""Of the free memory; the rest is for host tables, libraries' workspaces and other processes."""
READ_AT = (2, 4)
"""Runs per device at which memory is read; XLA simplifies a loop of one run."""


@dataclass(frozen=True)
class Line:
    """Bytes on one device: constant + slope x runs on it."""

    constant: float
    slope: float

    @classmethod
    def through(cls, runs: Sequence[int], read: Sequence[int]) -> "Line":
        """The line through two readings; one that falls is level at the higher."""
        slope = max(0.0, (read[1] - read[0]) / (runs[1] - runs[0]))
        return cls(max(read) - slope * runs[1], slope)

    def at(self, runs: int) -> float:
        return self.constant + self.slope * runs


def even(width: int, devices: int) -> int:
    """The multiple of `devices` nearest to `width`, and no less than one run on each."""
    return devices * max(1, round(width / devices))


def half(width: int, devices: int) -> int:
    """Half of `width`, rounded up to use all devices where that is narrower still; 0 for one."""
    least = -(-width // 2)
    evenly = -(-least // devices) * devices
    narrower = evenly if evenly < width else least
    return narrower if narrower < width else 0


def planned(needs: Iterable[tuple[Program, Shared, Slots]], devices: int, free: int | None) -> int:
    """The width for packs of all these programs.

    needs: each program with the pool and any one pack, as arrays or shapes. free: bytes on a
    device, or None where nobody knows. Compiles only where `bound` does not fit.
    """
    width = even(PACK_WIDTH, devices)
    for program, shared, slots in needs:
        if free is None or bound(program, shared, widened(slots, width)) <= SHARE * free:
            continue
        read = lines(program, shared, slots, devices)
        while width > devices and most(read, width // devices) > SHARE * free:
            width -= devices
    return width


def bound(program: Program, shared: Shared, slots: Slots) -> int:
    """Bytes on one device that no piece exceeds: all that it names, as if nothing were freed."""
    arguments = program.arguments(shared, slots)
    traced = [program.trace(PIECES[name], *args) for name, args in arguments.items()]
    return max(_named(_on_a_device(each.jaxpr)) for each in traced)


def lines(program: Program, shared: Shared, slots: Slots, devices: int) -> list[Line]:
    """What each piece needs, from XLA's own account of it compiled at two small widths."""
    readings = [read(program, shared, widened(slots, each * devices)) for each in READ_AT]
    return [Line.through(READ_AT, both) for both in zip(*readings, strict=True)]


def read(program: Program, shared: Shared, slots: Slots) -> list[int]:
    """Bytes of each piece on one device: its arguments, its outputs and its temporaries."""
    arguments = program.arguments(shared, slots)
    sizes = [
        program.lower(PIECES[name], *args).compile().memory_analysis()
        for name, args in arguments.items()
    ]
    return [
        each.argument_size_in_bytes
        + each.output_size_in_bytes
        + each.temp_size_in_bytes
        - each.alias_size_in_bytes
        for each in sizes
    ]


def most(each: Sequence[Line], runs: int) -> float:
    """Bytes that the neediest piece takes with `runs` runs on a device."""
    return max(line.at(runs) for line in each)


def widened(slots: Slots, width: int) -> Slots:
    """The shapes of a pack like this one, `width` runs wide."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((width, *leaf.shape[1:]), leaf.dtype), slots
    )


def _on_a_device(jaxpr: Any) -> Any:
    """The program that each device gets of one that is spread over them."""
    spread = next(each for each in jaxpr.eqns if each.primitive.name == "shard_map")
    return spread.params["jaxpr"]


def _named(jaxpr: Any) -> int:
    """Bytes of every value of a program, those of a loop's body once."""
    total = sum(map(_bytes, jaxpr.invars))
    for equation in jaxpr.eqns:
        total += sum(map(_bytes, equation.outvars))
        inner = (each for value in equation.params.values() for each in _jaxprs(value))
        total += sum(map(_named, inner))
    return total


def _jaxprs(value: Any) -> list[Any]:
    """The programs in an equation's parameter."""
    several = value if isinstance(value, (tuple, list)) else (value,)
    return [getattr(each, "jaxpr", each) for each in several if hasattr(each, "eqns")]


def _bytes(variable: Any) -> int:
    size = getattr(variable.aval.dtype, "itemsize", 8)
    return variable.aval.size * size
