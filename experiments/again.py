"""Do the verdicts hold when all studies are run again?

    python -m experiments.all --out runs/all
    python -m experiments.all --out runs/again --engine native
    python -m experiments.again runs/all/laptop runs/again/laptop

Other kernels, as another machine, round the last digits differently; where a run is at the edge of
what can be trained, that is enough for another course, another tuned rate, another verdict. Counts
both in two folders of `experiments.all` and prints every claim whose verdict is not the same.
"""

import json
import pathlib
import sys
import textwrap
from collections.abc import Mapping
from typing import Annotated, Any

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, arg

from experiments.all import STUDIES
from fishjax.exits import DONE, guarded
from fishjax.fields import UsageError
from fishjax.present import phrases
from fishjax.present.table import Cell, Column, Table
from fishjax.present.tables import effect_cell
from fishjax.store import SUMMARY, SweepFolder, concluded

RUNS = ("first", "second")
OPPOSED = {"supported", "refuted"}


def main(
    first: Annotated[Positional[pathlib.Path], arg(help="a folder of experiments.all")],
    second: Annotated[Positional[pathlib.Path], arg(help="the same studies, run again")],
    json_: Annotated[bool, FlagCreatePairsOff, arg(name="json", help="print one object")] = False,
) -> None:
    """Says which verdicts and tuned rates differ."""

    def command() -> int:
        found = compare(first, second)
        print(json.dumps(found) if json_ else again_block(found))
        return DONE

    sys.exit(guarded(command))


def compare(first: pathlib.Path, second: pathlib.Path) -> dict[str, Any]:
    """How many verdicts and tuned rates both folders have, and those that are not the same.

    changed: a claim's entries in both summaries, by `source`, `first` and `second`. moved: an arm's
    rates in both, with `study` besides. computing: the kernels of both. Raises UsageError where the
    two have no study in common, or one of them on other data, seeds or arms.
    """
    claims, rates = [], []
    pairs = [(_summary(first, name), _summary(second, name)) for name in _common(first, second)]
    for one, other in pairs:
        _check_alike(one, other)
        source, again = one["data"]["spec"].partition(":")[0], _by_title(other)
        claims += [
            {"source": source, "first": claim, "second": again[title]}
            for title, claim in _by_title(one).items()
        ]
        chosen, rechosen = (each["tuning"]["chosen"] for each in (one, other))
        rates += [
            {"source": source, "study": one["study"], "arm": arm, "first": rate, "second": again}
            for (arm, rate), again in zip(chosen.items(), map(rechosen.get, chosen), strict=True)
        ]
    return {
        "computing": [_computing(root) for root in (first, second)],
        "studies": len(pairs),
        "verdicts": len(claims),
        "changed": [c for c in claims if c["first"]["verdict"] != c["second"]["verdict"]],
        "rates": len(rates),
        "moved": [rate for rate in rates if rate["first"] != rate["second"]],
    }


def again_block(found: Mapping[str, Any]) -> str:
    """What was compared and what moved, and a row for every verdict that changed."""
    opposed = [c for c in found["changed"] if {c[run]["verdict"] for run in RUNS} == OPPOSED]
    moved = "; ".join(
        f"{rate['source']} {phrases.words(rate['study'])}, {rate['arm']}: {rate['first']:g} and "
        f"{rate['second']:g}"
        for rate in found["moved"]
    )
    before, after = found["computing"]
    about = (
        f"Studies compared: {found['studies']}, first with {before} convolutions, again with "
        f"{after}: {len(found['changed'])} of {found['verdicts']} verdicts differ, {len(opposed)} "
        f"of them between supported and refuted. {len(found['moved'])} of {found['rates']} tuned "
        f"rates differ{': ' if moved else ''}{moved}."
    )
    said = textwrap.fill(about, 100)
    if not found["changed"]:
        return said
    rows = again_table(found).write("md").split("\n\n", 1)[1].strip()
    return f"{said}\n\n{rows}"


def again_table(found: Mapping[str, Any]) -> Table:
    """Every verdict that changed, with both effects."""
    columns = (
        *(Column("source", "source"), Column("claim", "claim")),
        *(Column("first", "first"), Column("first_effect", "effect", estimate=True, units=True)),
        *(Column("second", "again"), Column("second_effect", "effect", estimate=True, units=True)),
    )
    rows: list[tuple[Cell, ...]] = []
    for claim in found["changed"]:
        entries = [claim[run] for run in RUNS]
        cells = [(each["verdict"], effect_cell(each)) for each in entries]
        rows.append((claim["source"], phrases.title(entries[0]), *cells[0], *cells[1]))
    caption = "Claims whose verdict was another one when everything was run again."
    return Table("again", caption, columns, tuple(rows))


def _common(first: pathlib.Path, second: pathlib.Path) -> list[str]:
    """Source and study, `reef/capacity`, of every summary that both have."""
    names = [
        str(file.parent.relative_to(first))
        for study in STUDIES
        for file in sorted(first.glob(f"*/{study}/{SUMMARY}"))
        if (second / file.relative_to(first)).exists()
    ]
    if not names:
        raise UsageError(f"{first} and {second} have no finished study in common")
    return names


def _summary(root: pathlib.Path, name: str) -> dict[str, Any]:
    found = concluded(root / name / SUMMARY)
    assert found is not None
    return found


def _check_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    def plan(summary: Mapping[str, Any]) -> tuple:
        arms = {arm["name"]: arm["overrides"] for arm in summary["arms"]}
        tuned = set(summary["tuning"]["chosen"])
        return summary["data"]["hash"], summary["seeds"], list(_by_title(summary)), arms, tuned

    if plan(one) != plan(other):
        raise UsageError(f"{one['study']} was run on other data, with other seeds, arms or claims")


def _by_title(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {phrases.title(claim): claim for claim in summary["claims"]}


def _computing(root: pathlib.Path) -> str:
    """The convolutions of a folder's studies."""
    plans = [SweepFolder(file.parent).plan() for file in root.glob(f"*/*/{SUMMARY}")]
    names = {name for plan in plans for name in plan["engine"]["kernels"]["convolution"].values()}
    return ", ".join(sorted(names))


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.again")
