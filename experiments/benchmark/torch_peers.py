"""The workloads in PyTorch, one way after another. Needs PyTorch and NumPy only."""

import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from experiments.benchmark.remote import Remote
from experiments.benchmark.torch_net import DEVICE, Data, loaded, wait
from experiments.benchmark.torch_together import Fused, Mapped
from experiments.benchmark.worker import Peer, products, seconds_of
from experiments.benchmark.workload import MOMENTUM, Job


class Sequential:
    """Eager PyTorch, run after run."""

    compile_s: float | None = None

    def __init__(self, job: Job, layout: torch.memory_format) -> None:
        self._job, self._layout, self._data = job, layout, Data(job)
        self._runs = [self._started(run) for run in range(job.runs)]
        self._done = 0

    def losses(self, runs: Sequence[int], steps: int) -> list[list[float]]:
        found = []
        for run in runs:
            net, rule = self._started(run)
            taken = [self._step(run, step, net, rule) for step in range(steps)]
            found.append([loss.item() for loss in taken])
        return found

    def run(self, chunks: int) -> None:
        steps = range(self._done, self._done + chunks * self._job.workload.chunk)
        for run, (net, rule) in enumerate(self._runs):
            for step in steps:
                self._step(run, step, net, rule)
        self._done = steps.stop
        wait()

    def _started(self, run: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        net = loaded(self._job, run).to(memory_format=self._layout)  # type: ignore[call-overload]
        rate = float(self._job["rates"][run])
        return net, torch.optim.SGD(net.parameters(), rate, MOMENTUM, fused=True)

    def _step(
        self, run: int, step: int, net: nn.Module, rule: torch.optim.Optimizer
    ) -> torch.Tensor:
        images, labels = self._data.batch(run, step)
        rule.zero_grad(set_to_none=True)
        loss = self._loss(net, images.contiguous(memory_format=self._layout), labels)
        loss.backward()
        rule.step()
        return loss.detach()

    def _loss(self, net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(net(images), labels)


class Compiled(Sequential):
    """`torch.compile` of network and loss, once for all runs; the rest as in `Sequential`."""

    def __init__(self, job: Job) -> None:
        torch._dynamo.config.error_on_recompile = True
        self._compiled = torch.compile(super()._loss)
        super().__init__(job, torch.channels_last)
        start = time.perf_counter()
        self._step(0, 0, *self._started(0))
        wait()
        first = time.perf_counter() - start
        self._step(0, 0, *self._started(0))
        wait()
        self.compile_s = 2 * first - (time.perf_counter() - start)

    def _loss(self, net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self._compiled(net, images, labels)


class Processes:
    """One single-threaded process per core, each with its share of the runs.

    They start a call together, and it ends with the last of them.
    """

    compile_s: float | None = None

    def __init__(self, job: Job) -> None:
        count = min(torch.get_num_threads(), job.runs)
        self._shares = [list(range(job.runs))[first::count] for first in range(count)]
        self._folder = tempfile.TemporaryDirectory()
        path = pathlib.Path(self._folder.name) / "job.npz"
        job.save(path)
        command = [sys.executable, "-m", "experiments.benchmark.torch_worker", "--job", str(path)]
        self._workers = [
            Remote(
                [*command, "--peer", "torch-eager", "--runs", ",".join(map(str, share))],
                {"FISHJAX_BENCHMARK_THREADS": "1"},
            )
            for share in self._shares
        ]
        for worker in self._workers:
            worker.receive()

    def losses(self, runs: Sequence[int], steps: int) -> Any:
        found = {}
        for worker, share in zip(self._workers, self._shares, strict=True):
            own = [run for run in runs if run in share]
            places = [share.index(run) for run in own]
            answer = worker.ask(do="losses", runs=places, steps=steps)
            found |= dict(zip(own, answer["losses"], strict=True))
        return [found[run] for run in runs]

    def run(self, chunks: int) -> None:
        self._all(do="run", chunks=chunks)

    def peak_rss_mb(self) -> float:
        """Of the workers together, without the one that waits for them."""
        return sum(answer["peak_rss_mb"] for answer in self._all(do="memory"))

    def _all(self, **ask: Any) -> list[dict]:
        for worker in self._workers:
            worker.send(**ask)
        return [worker.receive() for worker in self._workers]


PEERS: dict[str, Callable[[Job], Peer]] = {
    "torch-eager": lambda job: Sequential(job, torch.channels_last),
    "torch-contiguous": lambda job: Sequential(job, torch.contiguous_format),
    "torch-processes": Processes,
    "torch-compile": Compiled,
    "torch-vmap": Mapped,
    "torch-grouped": Fused,
}


def layers(job: Job, least_s: float) -> list[dict]:
    """Each convolution alone with its gradients, channels last: seconds and GFLOP/s."""
    rows, batch = [], job.workload.batch
    for i, layer in enumerate(job.workload.layers):
        shape = (batch, layer.channels_in, layer.side, layer.side)
        x = torch.randn(shape, device=DEVICE).contiguous(memory_format=torch.channels_last)
        conv = nn.Conv2d(layer.channels_in, layer.channels_out, 3, padding=1, bias=False)
        conv = conv.to(DEVICE).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x.requires_grad_(i > 0)
        wanted = [conv.weight, x] if i else [conv.weight]
        g = torch.randn_like(conv(x))

        def pass_(conv: Any = conv, x: Any = x, wanted: Any = wanted, g: Any = g) -> None:
            torch.autograd.grad(conv(x), wanted, g)
            wait()

        seconds = seconds_of(pass_, least_s)
        flops = (3 if i else 2) * batch * layer.forward_flops
        rows.append({"layer": layer.name, "seconds": seconds, "gflops": flops / seconds / 1e9})
    return rows


def peaks(job: Job, least_s: float) -> dict:
    """GFLOP/s of PyTorch's products, see `worker.products`."""

    def multiply(a: np.ndarray, b: np.ndarray) -> Callable[[], Any]:
        x, y = torch.from_numpy(a).to(DEVICE), torch.from_numpy(b).to(DEVICE)

        def product() -> None:
            torch.matmul(x, y)
            wait()

        return product

    return products(job, {"torch": multiply}, {"torch": multiply}, least_s)


def threads() -> int:
    """As many as this process may use cores, unless the parent says how many."""
    asked = os.environ.get("FISHJAX_BENCHMARK_THREADS")
    return int(asked) if asked else len(os.sched_getaffinity(0))
