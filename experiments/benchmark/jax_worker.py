"""The process of a JAX peer: `python -m experiments.benchmark.jax_worker --peer NAME ...`.

fishjax starts JAX as it does in a study; the others have JAX's own defaults and a cache.
"""

import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark import fishjax_peers, jax_peers
from experiments.benchmark.worker import products, serve
from experiments.benchmark.workload import Job
from fishjax.engine import devices


def main() -> None:
    if any(argument.startswith("fishjax") for argument in sys.argv):
        devices.prepare()
    else:
        cache = pathlib.Path(os.environ["XDG_CACHE_HOME"]) / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    peers = {**jax_peers.PEERS, **fishjax_peers.PEERS}
    serve(peers, devices.describe, {"peaks": _peaks, "layers": fishjax_peers.layers})


def _peaks(job: Job, least_s: float) -> dict:
    """GFLOP/s of JAX's and NumPy's products, see `worker.products`."""
    dot = jax.jit(jnp.matmul)

    def by_jax(a: np.ndarray, b: np.ndarray) -> Callable[[], Any]:
        x, y = jnp.asarray(a), jnp.asarray(b)
        return lambda: jax.block_until_ready(dot(x, y))

    def by_numpy(a: np.ndarray, b: np.ndarray) -> Callable[[], Any]:
        return lambda: a @ b

    return products(job, {"jax": by_jax, "numpy": by_numpy}, {"jax": by_jax}, least_s)


if __name__ == "__main__":
    main()
