"""The devices runs are spread over, and what to record of them."""

import math
import os
import pathlib
import platform
from importlib import metadata
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fishjax.engine import cache, groups
from fishjax.engine.folders import cache_folder

PACKAGES = ("fishjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def prepare() -> None:
    """One CPU device per core and a persistent compilation cache, unless the user has set them.

    To be called before JAX starts. See `cache.enable` for what the cache warns of.
    """
    asked = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not asked and jax.config.values["jax_num_cpu_devices"] < 0:
        jax.config.update("jax_num_cpu_devices", cores())
    if not jax.config.values["jax_compilation_cache_dir"]:
        cache.enable(cache_folder("xla"))


def run_mesh(width: int) -> Mesh:
    """As many local devices as divide `width` runs evenly, along one axis, `run`."""
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if width % n == 0)
    return Mesh(np.asarray(devices[:count]), ("run",), axis_types=(AxisType.Auto,))


def replicate(tree: Any, width: int) -> Any:
    """The arrays of `tree` on every device that packs of `width` runs are spread over."""
    return jax.device_put(tree, NamedSharding(run_mesh(width), PartitionSpec()))


def spread(tree: Any, width: int) -> Any:
    """The arrays of `tree`, `[run, ...]`, over those devices, each with its share of the runs."""
    return jax.device_put(tree, NamedSharding(run_mesh(width), PartitionSpec("run")))


def describe() -> dict:
    """Versions, backend and devices, as plain JSON values."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    device = jax.local_devices()[0]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "backend": jax.default_backend(),
        "device_kind": device.device_kind,
        "devices": jax.local_device_count(),
        "cpus": cores(),
    }


_PROCESSOR = ("model name", "flags", "Features", "CPU implementer", "CPU variant", "CPU part")
"""How the lines of /proc/cpuinfo begin that tell one x86 or ARM processor from another."""


def processor() -> str:
    """What compiled kernels and their speed depend on, as text."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(_PROCESSOR)}))


def cores() -> int:
    """The processors this process may use, as its affinity and its control groups have it."""
    affinity = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    granted = groups.processors(pathlib.Path("/"))
    return max(1, math.floor(min(len(affinity(0)), granted)))
