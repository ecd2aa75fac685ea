"""Final networks on disk: the one module that knows orbax."""

import pathlib
from typing import Any

import orbax.checkpoint as ocp


class Saver:
    """Saves trees of arrays in the background; `wait` returns when all are on disk."""

    def __init__(self) -> None:
        self._checkpointer = ocp.StandardCheckpointer()

    def save(self, folder: pathlib.Path, tree: Any) -> None:
        """Replaces what an unfinished start may have left in `folder`."""
        self._checkpointer.save(folder.absolute(), tree, force=True)

    def wait(self) -> None:
        self._checkpointer.wait_until_finished()


def restore(folder: pathlib.Path) -> Any:
    """The saved tree, its leaves NumPy arrays."""
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder.absolute())
