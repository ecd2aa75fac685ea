"""How a command ends: its exit code, one clear line, and the signals that stop it."""

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import NoReturn

from fishjax.fields import UsageError

DONE, FAILED, USAGE, AGAIN = 0, 1, 2, 75
SIGNALS = (signal.SIGINT, signal.SIGTERM)
FULL = (errno.ENOSPC, errno.EDQUOT)
KEPT = "stopped; what is finished is kept: run the same command again"
LOST = "stopped before it was done"
_SHOW_CURSOR = "\x1b[?25h"


class Stopped(BaseException):
    """The command was asked to stop, and has come to a point where it can."""


class Stop:
    """What a signal does to a command: it ends it at once, or at the next `heed`, or not at all.

    No exception ever leaves a signal's handler. It would surface in whatever code is running, which
    may swallow it (a finaliser, a callback), and CPython ends a `python -m` by SIGINT where a
    KeyboardInterrupt has crossed an `exec` of text, as of every dataclass and named tuple, although
    it was caught. To end at once is no worse than to be killed, which a study survives at any
    moment. A signal that was ignored from the start, as SIGINT behind a script's `&`, stays so.

    signals: those that are listened to; none in a command that another program calls. said: the
    last words of a command that is ended at once.
    """

    def __init__(self, signals: Iterable[int] = (), said: str = KEPT) -> None:
        self._signals = [each for each in signals if signal.getsignal(each) != signal.SIG_IGN]
        self._wished, self._said = False, said

    def at_once(self) -> None:
        """From here on a signal ends the process: nothing is under way that could be finished."""
        self._answer(lambda number, frame: leave(self._said))

    def in_time(self) -> None:
        """From here on the first signal is a wish that `heed` meets, and the second ends it all."""
        self._answer(self._wish)

    def pass_on(self, send: Callable[[int], None]) -> None:
        """From here on a signal is for `send`: what is under way is another process's."""
        self._answer(lambda number, frame: send(number))

    def never(self) -> None:
        """From here on signals are ignored: everything is written."""
        self._answer(signal.SIG_IGN)

    def heed(self) -> None:
        """Raises Stopped where a signal has come."""
        if self._wished:
            raise Stopped

    def _answer(self, handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
        for each in self._signals:
            signal.signal(each, handler)

    def _wish(self, number: int, frame: FrameType | None) -> None:
        self._wished = True
        self.at_once()
        _tell("stopping after the epochs at hand; once more stops at once")


def leave(said: str = KEPT) -> NoReturn:
    """Ends the process with 75, without a wait for whatever its threads still compile."""
    _tell(f"{_SHOW_CURSOR if os.isatty(2) else ''}{said}")
    os._exit(AGAIN)


def guarded(command: Callable[[], int]) -> int:
    """The command's own code; 2 for a request that cannot be met. Leaves where it was stopped.

    A reader that closes its end of the pipe has what it wanted. 1, with a line, where a disk is
    full: what is finished is kept.
    """
    try:
        return command()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(f"error: {error}; make room and run the same command again", file=sys.stderr)
        return FAILED
    except Stopped:
        leave()


def _tell(line: str) -> None:
    """Writes past the buffers of stderr: a handler may run in the midst of a write to them."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{line}\n".encode())
