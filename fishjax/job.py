"""A study, or the search for its knobs, as a command line asks for it, and one start of that."""

import json
import pathlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

import tyro
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, UseAppendAction, arg

from fishjax.engine import devices
from fishjax.engine.kernels import AUTO, ENGINES
from fishjax.engine.runner import Runner, Tick
from fishjax.exits import AGAIN, DONE, Stop
from fishjax.fitting import Fitting
from fishjax.present.progress import Aside, bar
from fishjax.session import Session
from fishjax.settings import parse_settings
from fishjax.study import Request, Study
from fishjax.sweep import parse_seeds, parse_shard, slug
from fishjax.turned import keeping
from fishjax.workplace import Stage

Job = Session | Fitting


@dataclass(frozen=True)
class Options:
    """Run a study and print its verdicts; the same command again resumes it."""

    scale: Annotated[str, arg(help="smoke, laptop or paper")] = "laptop"
    data: Annotated[
        str | None, arg(help="reef[:KNOBS], folder:PATH, f4k:PATH or tfds:NAME; None: the study's")
    ] = None
    seeds: Annotated[str | None, arg(help="0:8, 3 or 0,2,5; None: the scale's")] = None
    out: Annotated[pathlib.Path | None, arg(help="None: runs/STUDY/SCALE-DATA-SET")] = None
    set: Annotated[
        tuple[tuple[str, ...], ...],
        UseAppendAction,
        arg(metavar="KEY=VALUE ...", help="change the base run"),
    ] = ()
    shard: Annotated[str, arg(help="i/n: this process's share of the packs")] = "0/1"
    engine: Annotated[str, arg(help=", ".join((AUTO, *ENGINES)))] = AUTO
    dry_run: Annotated[bool, FlagCreatePairsOff, arg(help="say what it would run")] = False
    json: Annotated[bool, FlagCreatePairsOff, arg(help="print summary.json instead")] = False
    fit: Annotated[bool, FlagCreatePairsOff, arg(help="search the scenario's knobs instead")] = (
        False
    )


def run(study: Study, arguments: Sequence[str] | None, stop: Stop, start: float) -> int:
    """Parses the command line, runs the study and prints what came of it; returns the exit code.

    start: on the monotonic clock, what its seconds count from. Raises UsageError for a request that
    cannot be met, Stopped where a signal came while it trained.
    """
    prog = _command() if arguments is None else study.name
    options = tyro.cli(Options, prog=prog, args=arguments)
    devices.prepare()
    request = _request(study, options)
    job = Fitting(study, request) if options.fit else Session(study, request)
    console = Aside()
    console.print(_announcement(job), soft_wrap=True, highlight=False, markup=False)
    if options.dry_run:
        return DONE
    with job.place.alone(job.seeds):
        job.pin()
        for line in job.place.engine.said:
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        found = _concluded(job, console, stop, start)
    if found is None:
        console.print("This shard is done, others are not: run the same command again.")
        return AGAIN
    stop.never()
    print(json.dumps(found) if options.json else job.render(found))
    return DONE


def _command() -> str:
    """How this program was started: `python -m experiments.dying_relu`, `python my_study.py`."""
    module = sys.modules["__main__"].__spec__
    return f"python -m {module.name}" if module else f"python {sys.argv[0]}"


def _concluded(job: Job, console: Console, stop: Stop, start: float) -> dict[str, Any] | None:
    """What came of the job, once this process's share is run; None where others are not done."""
    runner = job.place.runner(job.stages())
    found = None
    stop.in_time()
    try:
        with bar(_steps_left(job), console) as tick:
            if _run_stages(job, runner, _heeding(tick, stop)):
                found = job.conclude()
    finally:
        job.place.engine.programs.stop()
        job.place.spent(runner.usage, time.monotonic() - start)
    return found and job.place.sign(found, job.file)


def _heeding(tick: Tick, stop: Stop) -> Tick:
    """What tells `tick`, then stops where a signal asked for it."""

    def both(steps: int) -> None:
        tick(steps)
        stop.heed()

    return both


def _run_stages(job: Job, runner: Runner, tick: Tick) -> bool:
    """Runs this process's share, stage after stage; False where one waits for other shards.

    The stages are asked for anew, since the second depends on what came of the first.
    """
    for position in range(len(job.stages())):
        stage, *later = job.stages()[position:]
        if not job.place.run(stage, runner, tick, later):
            return False
    return True


def _request(study: Study, options: Options) -> Request:
    settings = parse_settings(chain.from_iterable(options.set))
    data = study.data if options.data is None else options.data
    changed = "".join(f"-{key}={value}" for key, value in sorted(settings.items()))
    name = slug(f"{'fit-' * options.fit}{options.scale}-{data}{changed}")
    default = pathlib.Path("runs") / study.name / name
    return Request(
        scale=options.scale,
        data=data,
        out=options.out or default,
        seeds=None if options.seeds is None else parse_seeds(options.seeds),
        settings=settings,
        shard=parse_shard(options.shard),
        engine=options.engine,
    )


def _announcement(job: Job) -> str:
    """What is about to run, before anything is compiled."""
    place = job.place
    costs = ", ".join(
        f"{_steps_missing(job, stage)} run-steps of {stage.name}" for stage in job.stages()
    )
    lines = [
        f"{place.study.name} at scale {place.request.scale} on {place.dataset.spec}: "
        f"{job.extent()}, {len(place.dataset.species)} species",
        *keeping(job.compared, place.request.settings),
        f"to run: {costs}, into {place.sweep.path}",
    ]
    return "\n".join(lines)


def _steps_missing(job: Job, stage: Stage) -> int:
    return sum(pack.run_steps for pack in job.place.missing(stage))


def _steps_left(job: Job) -> int:
    return sum(_steps_missing(job, stage) for stage in job.stages())
