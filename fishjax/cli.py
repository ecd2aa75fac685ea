"""The `fishjax` command: a look into a study's folder, without JAX, and a search for a rate."""

import json
import pathlib
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro
from tyro.conf import arg

from fishjax.exits import DONE, SIGNALS, Stop, guarded
from fishjax.fields import UsageError
from fishjax.present.tables import tables
from fishjax.store import SUMMARY, SweepFolder

Folder = Annotated[pathlib.Path, tyro.conf.Positional]


def status(folder: Folder) -> int:
    """Which cells of a study's folder are done, diverged or not finished."""
    sweep = SweepFolder(folder)
    plan = sweep.plan()
    wanted = len(plan["arms"]) * len(plan["seeds"])
    print(f"{plan['study']} at scale {plan['scale']} on {plan['data']['spec']}")
    arms: dict[str, Counter[str]] = {}
    for about, cell in sweep.started():
        outcome = cell.outcome()
        words = outcome["status"] if outcome else "unfinished"
        arms.setdefault(about["arm"], Counter())[words] += 1
    for arm, counts in arms.items():
        words = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
        print(f"  {arm:40} {words}")
    done = sum(arms[arm].total() - arms[arm]["unfinished"] for arm in arms if arm in plan["arms"])
    print(f"{done} of {wanted} runs of the arms are finished")
    return DONE


def table(folder: Folder, form: Literal["md", "tex", "csv"] = "md") -> int:
    """The tables of a finished study."""
    try:
        summary = json.loads((folder / SUMMARY).read_bytes())
    except OSError:
        raise UsageError(f"{folder} has no {SUMMARY}; is the study finished?") from None
    for each in tables(summary):
        print(each.write(form))
    return DONE


def lr_find(
    data: Annotated[str, arg(help="reef[:KNOBS], folder:PATH, f4k:PATH or tfds:NAME")] = "reef",
    set: Annotated[tuple[str, ...], arg(metavar="KEY=VALUE ...", help="change the run")] = (),
    seeds: Annotated[str, arg(help="1000:1004, 1003 or 1000,1002; from 1000 on")] = "1000:1004",
    low: Annotated[float, arg(help="the first rate")] = 1e-5,
    high: Annotated[float, arg(help="the last rate")] = 1.0,
    out: Annotated[pathlib.Path | None, arg(help="None: runs/lr-find/DATA-SET-LOW-HIGH")] = None,
) -> int:
    """The rates that a range test suggests: a net trained while its rate rises, seed by seed."""
    from fishjax.lrfind import find  # it needs JAX, and the other verbs do not

    print(find(data, set, seeds, low, high, out))
    return DONE


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses a verb, runs it and exits.

    With `arguments` it is part of another program, to which signals are left.
    """
    Stop(SIGNALS if arguments is None else ()).at_once()
    verbs = {"status": status, "table": table, "lr-find": lr_find}
    parse = tyro.extras.subcommand_cli_from_dict
    sys.exit(guarded(lambda: parse(verbs, prog="fishjax", args=arguments)))
