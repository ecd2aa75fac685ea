"""The tiny study, to which a signal comes while it writes a cell.

    python -m tests.interrupted SIGNAL METHOD N [OPTION ...]

At the Nth call of the `CellFolder`'s METHOD, inside an `exec` of text, as when the modules are
imported that are needed late. SIGINT is not ignored, though the tests may run in the background.
"""

import itertools
import signal
import sys
from typing import Any

from fishjax.cellfolder import CellFolder
from fishjax.command import main
from tests.tiny_study import STUDY

name, method, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
del sys.argv[1:4]
calls, original = itertools.count(1), getattr(CellFolder, method)


def interrupted(*args: Any) -> None:
    if next(calls) == number:
        exec(f"signal.raise_signal(signal.{name})", {"signal": signal})
    original(*args)


setattr(CellFolder, method, interrupted)
signal.signal(signal.SIGINT, signal.default_int_handler)
main(STUDY)
