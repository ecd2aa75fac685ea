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
from experiments.benchmark.worker import Peer, products, seconds_of
from experiments.benchmark.workload import CLASSES, EPSILON, MOMENTUM, Job

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Net(nn.Module):
    """The CNN of a workload as PyTorch's own layers say it."""

    def __init__(self, job: Job, running: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for layer in job.workload.layers:
            layers += [
                nn.Conv2d(layer.channels_in, layer.channels_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(layer.channels_out, EPSILON, track_running_stats=running),
                nn.ReLU(),
            ]
            layers += [nn.MaxPool2d(2)] if layer.pooled else []
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(job.workload.widths[-1], CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


def loaded(job: Job, run: int, running: bool = True) -> Net:
    """The network with the run's initial weights."""
    net = Net(job, running)
    convs = [layer for layer in net.body if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        for conv, kernels in zip(convs, job.kernels, strict=True):
            conv.weight.copy_(torch.from_numpy(kernels[run].transpose(3, 2, 0, 1).copy()))
        net.head.weight.copy_(torch.from_numpy(job["head"][run].T.copy()))
        net.head.bias.zero_()
    return net.to(DEVICE)


class Data:
    """The pool of images on the device and the runs' minibatches of it."""

    def __init__(self, job: Job) -> None:
        self._images = torch.from_numpy(job["images"]).to(DEVICE)
        self._labels = torch.from_numpy(job["labels"].astype(np.int64)).to(DEVICE)
        self._batches = torch.from_numpy(job["batches"].astype(np.int64)).to(DEVICE)
        self._mean = torch.from_numpy(job["mean"]).to(DEVICE)
        self._deviation = torch.from_numpy(job["deviation"]).to(DEVICE)

    def batch(self, run: int | slice, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images `[..., batch, 3, side, side]`, channels last in memory, and labels."""
        index = self._batches[run, step % self._batches.shape[1]]
        images = (self._images[index].float() / 255.0 - self._mean) / self._deviation
        return images.movedim(-1, -3), self._labels[index]


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
        _wait()

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
        _wait()
        first = time.perf_counter() - start
        self._step(0, 0, *self._started(0))
        _wait()
        self.compile_s = 2 * first - (time.perf_counter() - start)

    def _loss(self, net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self._compiled(net, images, labels)


class Stacked:
    """All runs in one call; `_loss` sums over them, so that each gradient is its own run's."""

    compile_s: float | None = None

    def __init__(self, job: Job) -> None:
        self._job, self._data = job, Data(job)
        self._rates = torch.from_numpy(job["rates"]).to(DEVICE)
        self._params = self._initial()
        self._velocity = [torch.zeros_like(p) for p in self._params]
        self._done = 0

    def losses(self, runs: Sequence[int], steps: int) -> Any:
        params = self._initial()
        velocity = [torch.zeros_like(p) for p in params]
        found = [self._step(step, params, velocity) for step in range(steps)]
        return torch.stack(found, 1)[list(runs)].tolist()

    def run(self, chunks: int) -> None:
        steps = range(self._done, self._done + chunks * self._job.workload.chunk)
        for step in steps:
            self._step(step, self._params, self._velocity)
        self._done = steps.stop
        _wait()

    def _step(
        self, step: int, params: list[torch.Tensor], velocity: list[torch.Tensor]
    ) -> torch.Tensor:
        images, labels = self._data.batch(slice(None), step)
        gradients, losses = self._gradients(params, images, labels)
        with torch.no_grad():
            for p, v, g in zip(params, velocity, gradients, strict=True):
                v.mul_(MOMENTUM).add_(g)
                p.sub_(v * self._rates.view(-1, *(1,) * (p.ndim - 1)))
        return losses

    def _initial(self) -> list[torch.Tensor]:
        raise NotImplementedError

    def _gradients(
        self, params: list[torch.Tensor], images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        raise NotImplementedError


class Mapped(Stacked):
    """`torch.func.vmap` of `torch.func.grad` over `stack_module_state`."""

    def __init__(self, job: Job) -> None:
        self._net = Net(job, running=False).to("meta")
        super().__init__(job)

    def _initial(self) -> list[torch.Tensor]:
        nets = [loaded(self._job, run, running=False) for run in range(self._job.runs)]
        stacked = torch.func.stack_module_state(nets)[0]  # type: ignore[arg-type]
        self._names = list(stacked)
        return [p.detach() for p in stacked.values()]

    def _gradients(
        self, params: list[torch.Tensor], images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        def loss(params: dict, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            logits = torch.func.functional_call(self._net, params, (images,))
            return functional.cross_entropy(logits, labels)

        named = dict(zip(self._names, params, strict=True))
        found, losses = torch.func.vmap(torch.func.grad_and_value(loss))(named, images, labels)
        return list(found.values()), losses


class Fused(Stacked):
    """Runs side by side as groups of channels of one network (HFTA, Wang et al. 2021).

    Grouped convolutions, batch norm over runs x channels, `baddbmm` for the head.
    """

    def _initial(self) -> list[torch.Tensor]:
        params = []
        for kernels in self._job.kernels:
            runs, channels = len(kernels), kernels.shape[-1]
            weight = kernels.transpose(0, 4, 3, 1, 2).copy()
            params.append(torch.from_numpy(weight))
            params += [torch.ones(runs, channels), torch.zeros(runs, channels)]
        params.append(torch.from_numpy(self._job["head"].copy()))
        params.append(torch.zeros(self._job.runs, 1, CLASSES))
        return [p.to(DEVICE).requires_grad_() for p in params]

    def _gradients(
        self, params: list[torch.Tensor], images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        losses = self._losses(params, images, labels)
        return list(torch.autograd.grad(losses.sum(), params)), losses.detach()

    def _losses(
        self, params: list[torch.Tensor], images: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        runs, batch = images.shape[:2]
        side = images.shape[-1]
        x = images.transpose(0, 1).reshape(batch, runs * 3, side, side)
        x = x.contiguous(memory_format=torch.channels_last)
        parts = iter(params)
        for layer in self._job.workload.layers:
            weight, scale, shift = next(parts), next(parts), next(parts)
            x = functional.conv2d(x, weight.flatten(0, 1), padding=1, groups=runs)
            x = functional.batch_norm(
                x, None, None, scale.flatten(), shift.flatten(), training=True, eps=EPSILON
            )
            x = functional.relu(x)
            x = functional.max_pool2d(x, 2) if layer.pooled else x
        features = x.mean((2, 3)).view(batch, runs, -1).transpose(0, 1)
        weight, bias = next(parts), next(parts)
        logits = torch.baddbmm(bias, features, weight)
        each = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return each.view(runs, batch).mean(1)


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


def layers(job: Job) -> list[dict]:
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
            _wait()

        seconds = seconds_of(pass_)
        flops = (3 if i else 2) * batch * layer.forward_flops
        rows.append({"layer": layer.name, "seconds": seconds, "gflops": flops / seconds / 1e9})
    return rows


def peaks(job: Job) -> dict:
    """GFLOP/s of PyTorch's products, see `worker.products`."""

    def multiply(a: np.ndarray, b: np.ndarray) -> Callable[[], Any]:
        x, y = torch.from_numpy(a).to(DEVICE), torch.from_numpy(b).to(DEVICE)

        def product() -> None:
            torch.matmul(x, y)
            _wait()

        return product

    return products(job, {"torch": multiply}, {"torch": multiply})


def threads() -> int:
    """As many as this process may use cores, unless the parent says how many."""
    asked = os.environ.get("FISHJAX_BENCHMARK_THREADS")
    return int(asked) if asked else len(os.sched_getaffinity(0))


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
