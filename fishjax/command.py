"""The command line of a study: `python -m experiments.NAME`."""

import sys
import time
from collections.abc import Sequence

from fishjax.clock import STARTED
from fishjax.exits import SIGNALS, Stop, guarded
from fishjax.study import Study


def main(study: Study, arguments: Sequence[str] | None = None) -> None:
    """Runs the study as the command line asks for it, prints what came of it and exits.

    With `arguments` it is part of another program: its seconds count from here, not from the start
    of the process, and signals are left to that program.
    """
    alone = arguments is None
    start = STARTED if alone else time.monotonic()
    stop = Stop(SIGNALS if alone else ())
    stop.at_once()

    def command() -> int:
        from fishjax.job import run  # it needs JAX, whose import is long, and a signal may come

        return run(study, arguments, stop, start)

    code = guarded(command)
    stop.never()
    sys.exit(code)
