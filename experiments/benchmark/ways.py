"""Every way to train the workloads: its name, what it is, and which process knows it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from experiments.benchmark.fishjax_peers import MAPPED, fishjax_engines

TORCH, JAX = "torch_worker", "jax_worker"
SHIPPED, PROBES, NAIVE = "fishjax", "fishjax-probes", "jax-vmap"
BARE = "fishjax-bare"


@dataclass(frozen=True)
class Way:
    """few: if not 0, so slow on a CPU that as many runs and one call of a few steps must do.

    environment: what its process sees otherwise than the others'.
    """

    name: str
    title: str
    worker: str
    few: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, torch_python: str) -> list[str]:
        """How its process is started, but for the job."""
        python = torch_python if self.worker == TORCH else sys.executable
        return [python, "-m", f"experiments.benchmark.{self.worker}", "--peer", self.name]


WAYS: dict[str, Way] = {
    way.name: way
    for way in (
        Way("torch-eager", "PyTorch eager, channels last", TORCH),
        Way("torch-contiguous", "PyTorch eager, contiguous", TORCH),
        Way("torch-processes", "PyTorch eager, a process per core", TORCH),
        Way("torch-compile", "torch.compile", TORCH),
        Way("torch-vmap", "torch.func.vmap over stacked models", TORCH),
        Way("torch-grouped", "PyTorch, runs as groups (HFTA)", TORCH),
        Way("jax-loop", "JAX, jit of a step in a loop", JAX),
        Way("jax-scan", "JAX, scan with plain lax.conv", JAX, few=2),
        Way(NAIVE, "jax.vmap over flax.linen.Conv in a scan", JAX, few=2),
        *(
            Way(f"fishjax-{name}", f"fishjax, engine {name}", JAX, few=4 if name in MAPPED else 0)
            for name in fishjax_engines()
        ),
        Way(BARE, "fishjax where no compiler is found", JAX, environment={"PATH": ""}),
        Way(SHIPPED, "fishjax as shipped, probes off", JAX),
        Way(PROBES, "fishjax as shipped, all probes every step", JAX),
    )
}


def is_torch(name: str) -> bool:
    return WAYS[name].worker == TORCH
