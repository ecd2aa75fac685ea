"""The command line of a study: `python -m experiments.NAME`."""

import contextlib
import json
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tyro.conf import FlagCreatePairsOff, arg

from fishjax.engine import devices
from fishjax.exits import AGAIN, DONE, guarded
from fishjax.present.terminal import render
from fishjax.session import Session, Stage
from fishjax.settings import parse_settings
from fishjax.study import Request, Study
from fishjax.sweep import parse_seeds, parse_shard, slug


@dataclass(frozen=True)
class Options:
    """Run a study and print its verdicts; the same command again resumes it."""

    scale: Annotated[str, arg(help="smoke, laptop or paper")] = "laptop"
    data: Annotated[str, arg(help="reef[:KNOBS], folder:PATH, f4k:PATH or tfds:NAME")] = "reef"
    seeds: Annotated[str | None, arg(help="0:8, 3 or 0,2,5; None: the scale's")] = None
    out: Annotated[pathlib.Path | None, arg(help="None: runs/STUDY/SCALE-DATA-SET")] = None
    set: Annotated[tuple[str, ...], arg(metavar="KEY=VALUE ...", help="change the base run")] = ()
    shard: Annotated[str, arg(help="i/n: this process's share of the packs")] = "0/1"
    dry_run: Annotated[bool, FlagCreatePairsOff, arg(help="say what it would run")] = False
    json: Annotated[bool, FlagCreatePairsOff, arg(help="print summary.json instead")] = False


def main(study: Study, arguments: Sequence[str] | None = None) -> None:
    """Parses the command line, runs the study, prints what came of it and exits."""
    options = tyro.cli(Options, prog=f"python -m experiments.{study.name}", args=arguments)
    sys.exit(guarded(lambda: _run(study, options)))


def _run(study: Study, options: Options) -> int:
    start = time.monotonic()
    devices.prepare()
    session = Session(study, _request(study, options))
    console = Console(stderr=True)
    console.print(_announcement(session), soft_wrap=True, highlight=False)
    if options.dry_run:
        return DONE
    session.pin()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    runner = session.runner()
    try:
        with _progress(session, console) as tick:
            stage = session.tuning_stage()
            whole = session.run(stage, runner, tick)
            if whole:
                stage = session.arm_stage()
                whole = session.run(stage, runner, tick)
    except BaseException:
        session.spent(runner.usage, time.monotonic() - start)
        raise
    session.spent(runner.usage, time.monotonic() - start)
    if not whole:
        console.print("This shard is done, others are not: run the same command again.")
        return AGAIN
    summary, results = session.conclude(stage)
    print(json.dumps(summary) if options.json else render(summary, results, session.sweep.path))
    return DONE


def _request(study: Study, options: Options) -> Request:
    settings = parse_settings(options.set)
    changed = "".join(f"-{key}={value}" for key, value in sorted(settings.items()))
    name = slug(f"{options.scale}-{options.data}{changed}")
    default = pathlib.Path("runs") / study.name / name
    return Request(
        scale=options.scale,
        data=options.data,
        out=options.out or default,
        seeds=None if options.seeds is None else parse_seeds(options.seeds),
        settings=settings,
        shard=parse_shard(options.shard),
    )


def _announcement(session: Session) -> str:
    """What is about to run, in two lines, before anything is compiled."""
    tuning, arms = (_steps_missing(session, stage) for stage in session.stages())
    kept = len(session.study.arms)
    return (
        f"{session.study.name} at scale {session.request.scale} on {session.dataset.spec}: "
        f"{kept} arms x {len(session.seeds)} seeds, {len(session.dataset.species)} species\n"
        f"to run: {tuning} run-steps of tuning, up to {arms} of arms, into {session.sweep.path}"
    )


def _steps_missing(session: Session, stage: Stage) -> int:
    return sum(pack.run_steps for pack in session.missing(stage))


@contextlib.contextmanager
def _progress(session: Session, console: Console) -> Iterator[Callable[[int], None]]:
    """A bar over the run-steps that are missing, on a terminal; yields what advances it."""
    total = sum(_steps_missing(session, stage) for stage in session.stages())
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} run-steps"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=total)
        yield lambda steps: progress.advance(task, steps)
