"""All runs of a workload in one PyTorch call: mapped, or fused into groups of channels."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from experiments.benchmark.torch_net import DEVICE, Data, Net, loaded, wait
from experiments.benchmark.workload import CLASSES, EPSILON, MOMENTUM, Job


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
        wait()

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
        stacked = torch.func.stack_module_state(nets)[0]
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
