"""What a command says aside, on stderr, and a bar over run-steps while runs train."""

import contextlib
import os
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Aside(Console):
    """Stderr, whose reader may leave: what is asked for goes on without it."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def on_broken_pipe(self) -> None:
        """Rich would end the process, and Python at its exit tell of what could not be flushed."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


@contextlib.contextmanager
def bar(total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """Shows how many of `total` run-steps are done, alive on a terminal; yields what adds some."""
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
