"""The `fishjax` command: a look into a study's folder, without JAX, and a search for a rate."""

import pathlib
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Literal

import tyro
from tyro.conf import UseAppendAction, arg

from fishjax.cellfolder import CellFolder
from fishjax.exits import DONE, LOST, SIGNALS, Stop, guarded
from fishjax.fields import UsageError
from fishjax.present.search import search_table
from fishjax.present.tables import tables
from fishjax.store import SEARCH, SUMMARY, SweepFolder, concluded

FINISHED = ("done", "diverged")
Folder = Annotated[pathlib.Path, tyro.conf.Positional]


def status(folder: Folder) -> int:
    """Which cells of a study's folder are done, diverged or not finished."""
    sweep = SweepFolder(folder)
    plan = sweep.plan()
    searched = "search" in plan
    what = f"search for the knobs of {plan['study']}" if searched else plan["study"]
    print(f"{what} at scale {plan['scale']} on {plan['data']['spec']}")
    arms: dict[str, Counter[str]] = {}
    finished: set[tuple[str, int]] = set()
    for about, cell in sweep.started():
        standing = _standing(cell)
        arms.setdefault(about["arm"], Counter())[standing] += 1
        if standing in FINISHED:
            finished.add((about["arm"], about["seed"]))
    for arm, counts in arms.items():
        words = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
        print(f"  {arm:40} {words}")
    if searched:
        print(f"{sum(arms[arm][word] for arm in arms for word in FINISHED)} runs are finished")
    else:
        wanted = {(arm, seed) for arm in plan["arms"] for seed in plan["seeds"]}
        print(f"{len(wanted & finished)} of {len(wanted)} runs of the arms are finished")
    return DONE


def _standing(cell: CellFolder) -> str:
    """How a cell stands, in a word."""
    try:
        outcome = cell.outcome()
    except UsageError:
        return "unreadable"
    return outcome["status"] if outcome else "unfinished"


def table(folder: Folder, form: Literal["md", "tex", "csv"] = "md") -> int:
    """The tables of a finished study, or of the search for its knobs."""
    summary, search = concluded(folder / SUMMARY), concluded(folder / SEARCH)
    made = [*(tables(summary) if summary else ()), *([search_table(search)] if search else ())]
    if not made:
        raise UsageError(f"{folder} has no {SUMMARY}; is the study finished?")
    for each in made:
        print(each.write(form))
    return DONE


def lr_find(
    data: Annotated[str, arg(help="reef[:KNOBS], folder:PATH, f4k:PATH or tfds:NAME")] = "reef",
    set: Annotated[
        tuple[tuple[str, ...], ...],
        UseAppendAction,
        arg(metavar="KEY=VALUE ...", help="change the run"),
    ] = (),
    seeds: Annotated[str, arg(help="1000:1004, 1003 or 1000,1002; from 1000 on")] = "1000:1004",
    low: Annotated[float, arg(help="the first rate")] = 1e-5,
    high: Annotated[float, arg(help="the last rate")] = 1.0,
    out: Annotated[pathlib.Path | None, arg(help="None: runs/lr-find/DATA-SET-LOW-HIGH")] = None,
) -> int:
    """The rates that a range test suggests: a net trained while its rate rises, seed by seed."""
    from fishjax.lrfind import find  # it needs JAX, and the other verbs do not

    print(find(data, [*chain.from_iterable(set)], seeds, low, high, out))
    return DONE


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses a verb, runs it and exits.

    With `arguments` it is part of another program, to which signals are left.
    """
    Stop(SIGNALS if arguments is None else (), LOST).at_once()
    verbs = {"status": status, "table": table, "lr-find": lr_find}
    parse = tyro.extras.subcommand_cli_from_dict
    sys.exit(guarded(lambda: parse(verbs, prog="fishjax", args=arguments)))
