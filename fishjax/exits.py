"""How a command ends: its exit code, and one clear line where it could not go on."""

import os
import sys
from collections.abc import Callable

from fishjax.fields import UsageError

DONE, USAGE, AGAIN = 0, 2, 75


def guarded(command: Callable[[], int]) -> int:
    """The command's own code; 2 for a request that cannot be met; 75 for an interrupt.

    A reader that closes its end of the pipe has what it wanted.
    """
    try:
        return command()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        print("\nstopped; finished cells are kept: run the same command again", file=sys.stderr)
        return AGAIN
