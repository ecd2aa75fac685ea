"""The network of a workload in PyTorch, and what it is fed. Needs PyTorch and NumPy only."""

import numpy as np
import torch
from torch import nn

from experiments.benchmark.workload import CLASSES, EPSILON, Job

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


def wait() -> None:
    """Until the device has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
