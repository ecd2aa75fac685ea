"""The control groups over this process, versions 1 and 2, and the processors they grant."""

import math
import pathlib
from collections.abc import Iterator


def above(root: pathlib.Path, controller: str) -> Iterator[tuple[str, pathlib.Path]]:
    """Version, `v1` or `v2`, and folder of this process's groups and of all above them.

    root: where `proc` and `sys` are.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder != top and top not in folder.parents:
                break
            yield "v1" if controllers else "v2", folder


def number(file: pathlib.Path) -> int | None:
    """What the file holds; None for `max` or where it is missing."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def processors(root: pathlib.Path) -> float:
    """How many processors' time the groups grant; infinite where none of them limits it."""
    granted = math.inf
    for version, folder in above(root, "cpu"):
        quota, period = _bandwidth(version, folder)
        if quota is not None and period and quota > 0:
            granted = min(granted, quota / period)
    return granted


def _bandwidth(version: str, folder: pathlib.Path) -> tuple[int | None, int | None]:
    """Microseconds of processor time in each period of so many; None where there is no limit."""
    if version == "v1":
        return number(folder / "cpu.cfs_quota_us"), number(folder / "cpu.cfs_period_us")
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota), int(period)
    except (OSError, ValueError):
        return None, None
