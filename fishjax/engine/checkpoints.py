"""Final networks on disk: the one module that knows orbax."""

import contextlib
import logging
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import orbax.checkpoint as ocp


class Saver:
    """Saves trees of arrays in the background; `wait` returns when all are on disk.

    Both raise OSError where the disk takes no more; what orbax's threads would log, they raise.
    """

    def __init__(self) -> None:
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self._checkpointer = ocp.StandardCheckpointer()

    def save(self, folder: pathlib.Path, tree: Any) -> None:
        """Replaces what an unfinished start may have left in `folder`."""
        with _system_errors():
            self._checkpointer.save(folder.absolute(), tree, force=True)

    def wait(self) -> None:
        with _system_errors():
            self._checkpointer.wait_until_finished()


@contextlib.contextmanager
def _system_errors() -> Iterator[None]:
    """The system's own errors, which tensorstore raises as a ValueError with their number."""
    try:
        yield
    except ValueError as error:
        if found := re.search(r"os_error_code='(\d+)'", str(error)):
            number = int(found[1])
            raise OSError(number, os.strerror(number)) from error
        raise


def restore(folder: pathlib.Path) -> Any:
    """The saved tree, its leaves NumPy arrays."""
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder.absolute())
