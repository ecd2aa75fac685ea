"""The memory that is free: a device's own, or on a CPU what machine and control group leave."""

import pathlib

import jax

from fishjax.engine import groups

_UNLIMITED = 1 << 60


def is_of_memory(error: Exception) -> bool:
    """Whether the memory of the host or of a device was too small."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def free_per_device() -> int | None:
    """Bytes that each local device can still take, the least of all; None where nothing says so.

    CPU devices share the machine's memory evenly.
    """
    stats = [device.memory_stats() for device in jax.local_devices()]
    known = [s["bytes_limit"] - s["bytes_in_use"] for s in stats if s and "bytes_limit" in s]
    if known:
        return min(known)
    host = free_of_host(pathlib.Path("/"))
    return None if host is None else host // jax.local_device_count()


def free_of_host(root: pathlib.Path) -> int | None:
    """The least of MemAvailable and what every control group over this process leaves, in bytes.

    root: where `proc` and `sys` are. Page cache that can be dropped counts as free. None where the
    system has neither.
    """
    found = [*_available(root / "proc/meminfo"), *_left_by_groups(root)]
    return max(0, min(found)) if found else None


def _available(meminfo: pathlib.Path) -> list[int]:
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return []
    return [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]


def _left_by_groups(root: pathlib.Path) -> list[int]:
    """Limit less usage of this process's groups and of all above them, of version 2 and 1."""
    left = []
    for version, folder in groups.above(root, "memory"):
        limit, usage, idle = _FILES[version]
        allowed, used = groups.number(folder / limit), groups.number(folder / usage)
        if allowed is not None and used is not None and allowed < _UNLIMITED:
            left.append(allowed - used + _entry(folder / "memory.stat", idle))
    return left


_FILES = {
    "v1": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    "v2": ("memory.max", "memory.current", "inactive_file"),
}


def _entry(file: pathlib.Path, name: str) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)
