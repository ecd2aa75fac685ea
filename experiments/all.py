"""Every study of the seed document, one after the other, and what they say together.

    python -m experiments.all                        # each study's generated images
    python -m experiments.all --data f4k:PATH        # and the same on photographs

Each study runs by its own command in a process of its own, below the folder `--out`; running this
again resumes. At the end one table of claims and one of scenarios are printed and written as
Markdown, LaTeX and CSV. `--dry-run` says how many run-steps that takes.
"""

import itertools
import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tyro
from tyro.conf import FlagCreatePairsOff, UseAppendAction, arg

from fishjax.data.source import open_source
from fishjax.exits import DONE, SIGNALS, Stop, guarded
from fishjax.fields import UsageError
from fishjax.present.sources import claims_by_source, scenarios_by_source
from fishjax.present.tables import write_table
from fishjax.store import SUMMARY
from fishjax.sweep import slug

STUDIES = (
    "vanishing_gradient",
    "batchnorm_placement",
    "stagnation",
    "dying_relu",
    "minority_class",
    "capacity",
)
GENERATED = "reef"
CHECKED_AT = 16
"""Pixels of the images as which the sources named are read before the first study."""


def main(
    scale: Annotated[str, arg(help="smoke, laptop or paper")] = "laptop",
    data: Annotated[
        tuple[tuple[str, ...], ...], UseAppendAction, arg(help="sources besides the generated one")
    ] = (),
    seeds: Annotated[str | None, arg(help="0:8, 3 or 0,2,5; None: each study's")] = None,
    out: Annotated[pathlib.Path, arg(help="folder of all studies")] = pathlib.Path("runs/all"),
    engine: Annotated[str, arg(help="how it computes")] = "auto",
    dry_run: Annotated[bool, FlagCreatePairsOff, arg(help="say what it would run")] = False,
) -> None:
    """Runs the studies and prints their claims and scenarios."""
    options = ["--scale", scale, "--engine", engine]
    options += [] if seeds is None else ["--seeds", seeds]
    options += ["--dry-run"] * dry_run
    stop = Stop(SIGNALS)
    stop.at_once()
    sources = (GENERATED, *itertools.chain.from_iterable(data))
    names = [source_name(source) for source in sources]

    def command() -> int:
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"two sources would both be called {twice!r} in the tables")
        for source in sources[1:]:
            open_source(source, CHECKED_AT)  # a mistyped one would be told after hours
        for source in sources:
            for study in STUDIES:
                if code := _wait(_command(study, source, out / scale, options), stop):
                    return code
        if not dry_run:
            _conclude({source: out / scale / slug(source) for source in sources}, out / scale)
        return DONE

    sys.exit(guarded(command))


def _command(study: str, source: str, out: pathlib.Path, options: Sequence[str]) -> list[str]:
    chosen = [] if source == GENERATED else ["--data", source]
    folder = str(out / slug(source) / study)
    return [sys.executable, "-m", f"experiments.{study}", "--out", folder, *chosen, *options]


def _wait(command: Sequence[str], stop: Stop) -> int:
    """Runs a study to its end; a signal to stop is passed on to it, and its exit code says so.

    It is in a session of its own, so that Ctrl-C reaches it once.
    """
    study = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    stop.pass_on(study.send_signal)
    code = study.wait()
    stop.at_once()
    return code


def _conclude(folders: Mapping[str, pathlib.Path], out: pathlib.Path) -> None:
    """Writes and prints the two tables."""
    found: dict[str, list[dict[str, Any]]] = {
        source_name(source): [
            json.loads((folder / study / SUMMARY).read_bytes()) for study in STUDIES
        ]
        for source, folder in folders.items()
    }
    for table in (claims_by_source(found), scenarios_by_source(found)):
        write_table(table, out / "tables")
        print(table.write("md"))


def source_name(source: str) -> str:
    """`f4k:PATH` by the last part of its path."""
    kind, _, rest = source.partition(":")
    return f"{kind} {pathlib.Path(rest).name}" if rest else source


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.all")
