"""The table of figures, as the README shows it."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from fishjax.present.table import Column, Table

Row = Mapping[str, Any]


def calibration_table(found: Mapping[str, Any]) -> Table:
    """A row per figure and kind of differences, a column per number of seeds."""
    names = {row["figure"]: {} for row in found["rows"]}
    for row in found["rows"]:
        names[row["figure"]].setdefault(row["differences"], []).append(row)
    rows = [_cells(row) for worlds in names.values() for row in worlds.values()]
    sizes = sorted({row["seeds"] for row in found["rows"]})
    columns = (
        Column("figure", "figure, in %", prose=0.3),
        Column("differences", "differences", prose=0.2),
        Column("target", "target"),
        *(Column(f"seeds_{n}", f"{n} seeds") for n in sizes),
        Column("met", "met"),
    )
    caption = (
        "Simulated studies of five claims: the measured share with its 95 % binomial bound, and in "
        "parentheses what the exact test attains at this number of seeds, for symmetric "
        "differences without ties. A target is missed where the whole bound lies outside it."
    )
    return Table("calibration", caption, columns, tuple(rows))


def calibration_block(found: Mapping[str, Any]) -> str:
    """What was measured where, and the rows."""
    pool, machine = found["pool"], found["machine"]
    errors, powers = (
        max(row["design_effect"] for row in found["rows"] if bool(row["target"]) is aimed)
        for aimed in (True, False)
    )
    about = (
        f"{pool['seeds']} seeds x {pool['arms']} arms ({pool['run_steps']:,} run-steps, "
        f"{pool['seconds']:.0f} s), accuracy {pool['accuracy']:.2f}, a difference of two arms "
        f"{100 * pool['deviation']:.1f} points (standard deviation), excess kurtosis "
        f"{pool['kurtosis']:.1f}. {found['studies']:,} studies for each number of seeds, in "
        f"{found['simulation_s']:.0f} s; {machine['cpus']} CPUs, numpy "
        f"{machine['versions']['numpy']}. All share the pool: over its disjoint parts of 16 seeds "
        f"an error rate or coverage varies up to {errors:.1f} times, a power up to {powers:.0f} "
        "times as much as a binomial's share would, and the bounds are widened by it."
    )
    rows = calibration_table(found).write("md").split("\n\n", 1)[1].strip()
    return f"{textwrap.fill(about, 100)}\n\n{rows}"


def _cells(rows: Sequence[Row]) -> tuple[str, ...]:
    first = rows[0]
    missed = [str(row["seeds"]) for row in rows if not row["met"]]
    judged = f"no, at {', '.join(missed)}" if missed else "yes"
    return (
        first["figure"],
        first["differences"],
        _target(first),
        *map(_rate, rows),
        judged if first["target"] else "–",
    )


def _rate(row: Row) -> str:
    """`4.6 [3.7, 5.6] (4.9)`."""
    low, high = row["bound"]
    exact = "" if row["exact"] is None else f" ({100 * row['exact']:.1f})"
    return f"{100 * row['rate']:.1f} [{100 * low:.1f}, {100 * high:.1f}]{exact}"


def _target(row: Row) -> str:
    if not row["target"]:
        return "–"
    low, high = (100 * share for share in row["target"])
    return f"{low:.0f}–{high:.0f}" if low else f"≤ {high:.0f}"
