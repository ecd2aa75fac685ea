"""The most this machine does: products, and convolutions alone, by whoever is fastest."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.benchmark.course import Course
from experiments.benchmark.remote import PeerError, Remote
from experiments.benchmark.ways import SHIPPED, WAYS, Way

Peaks = dict[str, dict[str, float]]
OF_A_CALL = 0.2
"""How long a timing here may be at least, of what a timed call of a racer must be."""


def measure(course: Course) -> tuple[Peaks, dict[str, list[dict]], dict[str, str]]:
    """GFLOP/s of products by name, each convolution alone by library, and who could not and why."""
    peaks: Peaks = {"plain": {}, "batched": {}, "convolution": {}}
    layers: dict[str, list[dict]] = {}
    left_out: dict[str, str] = {}
    for library, way, tasks in (
        ("torch", WAYS["torch-eager"], ("peaks", "layers")),
        ("jax", WAYS["jax-loop"], ("peaks",)),
        ("fishjax", WAYS[SHIPPED], ("layers",)),
    ):
        try:
            with _asked(way, course) as remote:
                for task in tasks:
                    found = remote.ask(do=task, least_s=OF_A_CALL * course.least_s)[task]
                    if task == "layers":
                        layers[library] = found
                        named = {f"{library} {row['layer']}": row["gflops"] for row in found}
                        peaks["convolution"] |= named
                    else:
                        peaks["plain"] |= found["plain"]
                        peaks["batched"] |= found["batched"]
        except PeerError as reason:
            left_out[f"{library} peaks"] = str(reason)
    return peaks, layers, left_out


def highest(peaks: Mapping[str, Mapping[str, float]]) -> tuple[float, str]:
    """The best GFLOP/s of all, and what reached it."""
    return max((value, name) for kind in peaks.values() for name, value in kind.items())


def costliest(layers: Mapping[str, list[dict]]) -> dict[str, Any] | None:
    """The convolution that takes fishjax longest, with its share of all of them together."""
    if "fishjax" not in layers:
        return None
    rows = layers["fishjax"]
    worst = max(rows, key=lambda row: row["seconds"])
    share = worst["seconds"] / sum(row["seconds"] for row in rows)
    return {**worst, "share_of_convolutions": share}


@contextlib.contextmanager
def _asked(way: Way, course: Course) -> Iterator[Remote]:
    """A process that makes no peer; its cache is that of the peer of this name, if it raced."""
    bare = [*way.command(course.torch_python), "--bare", "--job", str(course.file)]
    cache = str(course.folder / way.name)
    remote = Remote(bare, {"XDG_CACHE_HOME": cache, "JAX_COMPILATION_CACHE_DIR": ""})
    try:
        remote.receive()
        yield remote
    finally:
        remote.close()
