"""A study's outcome as plain text for a terminal of 80 columns or more."""

import io
import pathlib
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import xarray as xr
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid

from fishjax.present import phrases
from fishjax.present.strips import layers
from fishjax.present.table import Table
from fishjax.present.tables import ablation_table, counts, scenario_table, versions
from fishjax.present.wording import P_VALUE, plain

NARROWEST, WIDEST = 80, 100
HEADING = 17
FILLER = "\0"
TIMES = {"compile_s": "waiting for compilation", "run_s": "running", "total_s": "in all"}
FILES = ("summary.json", "results.parquet", "tables", "figures", "samples", "cells")


def render(
    summary: Mapping[str, Any],
    results: xr.Dataset,
    folder: pathlib.Path,
    width: int | None = None,
) -> str:
    """Scenario, ablation, layers, verdicts, placebos and files.

    width: in columns, at least 80; None is the terminal's, 80 to 100.
    """
    if width is None:
        columns = shutil.get_terminal_size((WIDEST, 24)).columns
        width = min(WIDEST, max(NARROWEST, columns))
    sections = (
        _heading(summary, width),
        *_scenarios(summary, width),
        _ablation(summary, width),
        layers(results, width),
        _claims(summary, width),
        _placebos(summary, width),
        _ending(summary, folder, width),
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _heading(summary: Mapping[str, Any], width: int) -> list[str]:
    data, seeds = summary["data"], summary["seeds"]
    about = f"{summary['study']} on {data['spec']}, {len(seeds)} seeds, data {data['hash'][:8]}"
    warned = [line for said in phrases.caveats(summary) for line in _wrapped(plain(said), width)]
    chosen = [*_search(summary, width), *_tuning(summary, width)]
    return [*_wrapped(plain(about), width), *chosen, *warned]


def _search(summary: Mapping[str, Any], width: int) -> list[str]:
    """How many settings of the scenario's knobs were tried before these were taken."""
    search = summary.get("search")
    if not search:
        return []
    tries = f"{search['settings_tried']} settings tried, the last on {len(search['seeds'])}"
    return _wrapped(f"scenario's knobs searched: {tries} other seeds", width)


def _tuning(summary: Mapping[str, Any], width: int) -> list[str]:
    """Which rate each tuned arm got, from how many tries."""
    tuning = summary.get("tuning")
    if not tuning or not tuning["chosen"]:
        return []
    return _wrapped(f"rates, {plain(phrases.tuned(tuning))}", width)


def _scenarios(summary: Mapping[str, Any], width: int) -> Iterator[list[str]]:
    for scenario in summary["scenarios"]:
        outcome = "reproduced" if scenario["reproduced"] else "not reproduced"
        table = scenario_table({**summary, "scenarios": [scenario]})
        title = plain(f"Scenario {scenario['id']}, {outcome}: {scenario['text']}")
        grid = _grid(table, range(1, len(table.columns)), width)
        advice = [line for said in phrases.advice(scenario) for line in _wrapped(said, width, 2, 4)]
        yield [*_wrapped(title, width), *grid, *advice]


def _ablation(summary: Mapping[str, Any], width: int) -> list[str]:
    """The ablation table, in as many blocks below one another as its columns need."""
    table = ablation_table(summary)
    broken = [
        f"{arm['n_diverged']} of {arm['n']} runs of {plain(arm['name'])}"
        for arm in summary["arms"]
        if arm["n_diverged"]
    ]
    fixed = [0, 1, 2] if broken else [0, 1]
    lines = ["Ablation: mean over n seeds [95 % interval]"]
    for block in _blocks(table, fixed, width):
        lines += [*_grid(table, [*fixed, *block], width), ""]
    diverged = f"Diverged, counted as chance: {', '.join(broken)}." if broken else ""
    notes = filter(None, (diverged, phrases.left_out(summary)))
    below = [line for note in notes for line in _wrapped(note, width)]
    return [*lines, *below] if below else lines[:-1]


def _claims(summary: Mapping[str, Any], width: int) -> list[str]:
    claims = list(versions(summary))
    if not claims:
        return []
    lines = _wrapped(
        "Claims: arm minus control, paired by seed [simultaneous 95 % interval], Holm's p over "
        f"m contrasts; {counts(claims)}",
        width,
    )
    for version, claim in claims:
        needed = f"  needs {claim['seeds_needed']} seeds" if claim["seeds_needed"] else ""
        verdict = (
            f"{plain(claim['id']):<7} {claim['verdict'].upper():<15} {phrases.estimate(claim)}  "
            f"Holm p {P_VALUE.text(claim['p_holm'])}  n {claim['n']}{needed}"
        )
        moved = f"Mechanism: {phrases.mechanism(claim)}." if claim["mechanism"] else ""
        members = [
            f"{phrases.contrast(each)}: {phrases.estimate(each)}, p {P_VALUE.text(each['p'])}"
            for each in claim.get("members", ())
        ]
        besides = [f"{said}." for said in phrases.besides(claim)]
        read = members or [phrases.contrast(claim)]
        says = ": ".join(filter(None, (version, claim["part"], claim["text"])))
        details = (says, *read, moved, *besides, claim["note"])
        lines += _entry(verdict, details, width)
    return lines


def _placebos(summary: Mapping[str, Any], width: int) -> list[str]:
    placebos = summary["placebos"]
    lines = ["Placebos: what should not matter [95 % interval]"] if placebos else []
    for placebo in placebos:
        kind = phrases.margin_kind(placebo)
        finding = (
            f"{plain(placebo['id'])}: {phrases.finding(placebo)}, {phrases.estimate(placebo)}, "
            f"margin {kind.with_unit(kind.text(placebo['delta']))}, n {placebo['n']}"
        )
        lines += _entry(finding, (placebo["text"], placebo["note"]), width)
    return lines


def _ending(summary: Mapping[str, Any], folder: pathlib.Path, width: int) -> list[str]:
    """Time spent and where the files are."""
    timing = summary["timing"]
    spent = [f"{timing[key]:.1f} s {word}" for key, word in TIMES.items() if key in timing]
    if timing.get("run_steps_per_s"):
        spent.append(f"{timing['run_steps_per_s']:,.0f} run-steps per second")
    names = [name + "/" * (folder / name).is_dir() for name in FILES if (folder / name).exists()]
    lines = _wrapped(f"Time: {', '.join(spent)}", width) if spent else []
    return [*lines, f"Files in {plain(str(folder))}:", *_wrapped(" ".join(names), width, 2)]


def _blocks(table: Table, fixed: Sequence[int], width: int) -> list[list[int]]:
    """The columns after the first three, in groups that fit beside the fixed ones."""
    room = width - sum(_widest(table, column) + 2 for column in fixed) - 2
    blocks: list[list[int]] = [[]]
    left = room
    for column in range(3, len(table.columns)):
        needed = _widest(table, column) + 2
        if needed > left and blocks[-1]:
            blocks.append([])
            left = room
        blocks[-1].append(column)
        left -= needed
    return blocks


def _widest(table: Table, column: int) -> int:
    heading = textwrap.wrap(table.columns[column].title, HEADING)
    return max(map(cell_len, [*heading, *(texts[column] for texts in table.texts)]))


def _grid(table: Table, columns: Sequence[int], width: int) -> list[str]:
    """Some columns of a table, indented; only the first and prose give way where it is too wide."""
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for column in columns:
        heading = table.columns[column]
        grid.add_column(
            textwrap.fill(heading.title, HEADING),
            justify="right" if table.numeric[column] else "left",
            no_wrap=column != columns[0] and not heading.prose,
            overflow="fold",
        )
    for texts in table.texts:
        grid.add_row(*(texts[column] for column in columns))
    file = io.StringIO()
    console = Console(
        file=file,
        width=width - 2,
        markup=False,
        emoji=False,
        highlight=False,
        color_system=None,
        force_terminal=False,
        legacy_windows=False,
    )
    console.print(grid)
    return ["  " + line.rstrip() for line in file.getvalue().splitlines()]


def _entry(first: str, details: Sequence[str], width: int) -> list[str]:
    """A line, and under it, further in, each detail that there is."""
    lines = _wrapped(first, width, 2, 10)
    for detail in filter(None, details):
        lines += _wrapped(plain(detail), width, 10, 12)
    return lines


def _wrapped(text: str, width: int, indent: int = 0, further: int = 2) -> list[str]:
    """Lines of at most `width` cells; a wide character counts as two while it is wrapped."""
    filled = "".join(c + FILLER * (cell_len(c) - 1) for c in text)
    lines = textwrap.wrap(
        filled, width, initial_indent=" " * indent, subsequent_indent=" " * further
    )
    return [line.replace(FILLER, "") for line in lines]
