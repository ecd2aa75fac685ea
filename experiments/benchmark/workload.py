"""What every peer trains: networks, images, weights, rates and minibatches, as NumPy arrays.

Needs NumPy only: the peers' interpreters may have nothing else in common.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CLASSES, IMAGES = 8, 256
MOMENTUM, EPSILON = 0.9, 1e-5
RATES = (0.0001, 0.001)
"""The first and the last run's; those between are spread evenly in logarithm.

Higher ones are chaotic: at 0.03 the losses of M and L in float32 are 1e-3 off those in float64
after 20 steps, whoever computes them; at 0.001 they are 5e-6 off.
"""


@dataclass(frozen=True)
class Layer:
    """A convolution of `side` x `side` images, stride 1, SAME, 3x3; pooled: a max-pool follows."""

    side: int
    channels_in: int
    channels_out: int
    pooled: bool

    @property
    def name(self) -> str:
        return f"{self.channels_in}->{self.channels_out} at {self.side}x{self.side}"

    @property
    def forward_flops(self) -> int:
        """Of one image; a multiplication and an addition are 2."""
        return 2 * self.side**2 * 9 * self.channels_in * self.channels_out


@dataclass(frozen=True)
class Workload:
    """A plain CNN of 3x3 convolutions without bias, batch norm, ReLU and 2x2 max-pools, a global
    average pool and a linear head, trained with momentum on minibatches of `batch` images.

    A pool follows every second convolution or, of three, each. chunk: the steps of one compiled
    call, where a peer compiles several.
    """

    name: str
    widths: tuple[int, ...]
    batch: int
    chunk: int
    size: int = 32

    @property
    def pool_every(self) -> int:
        return 1 if len(self.widths) <= 3 else 2

    @property
    def layers(self) -> list[Layer]:
        """The convolutions, input first."""
        found, side, channels = [], self.size, 3
        for i, width in enumerate(self.widths):
            pooled = (i + 1) % self.pool_every == 0
            found.append(Layer(side, channels, width, pooled))
            side, channels = side // 2 if pooled else side, width
        return found

    @property
    def flops(self) -> int:
        """Of one step of one run: convolutions and head, forward and both gradients.

        A multiplication and an addition are 2; the first layer needs no input gradient; what
        SAME pads is counted as it is in the usual formula.
        """
        first, *others = (layer.forward_flops for layer in self.layers)
        head = 2 * self.widths[-1] * CLASSES
        return self.batch * (2 * first + 3 * sum(others) + 3 * head)


WORKLOADS: dict[str, Workload] = {
    each.name: each
    for each in (
        Workload("T", (8, 16, 32), 32, 20),
        Workload("S", (16, 32, 64), 32, 20),
        Workload("M", (16, 16, 32, 32, 64, 64), 64, 5),
        Workload("L", (32, 32, 64, 64, 128, 128), 64, 2),
        Workload("smoke", (4, 8, 8), 8, 2, size=8),
    )
}


@dataclass(frozen=True)
class Job:
    """A workload and the arrays its runs are fed.

    images: uint8 `[IMAGES, size, size, 3]`; labels: int32 `[IMAGES]`; mean, deviation: `[3]`, of
    pixels scaled to [0, 1]. Of every run: rates `[run]`; seeds `[run]`; train `[run, image]`, the
    images it sees; batches `[run, step, batch]`, its minibatches in order (a peer that needs more
    starts again). kernel0, kernel1, ... `[run, 3, 3, in, out]` and head `[run, in, CLASSES]` are
    its initial weights; norms start at scale 1 and shift 0, the head's bias at 0.
    """

    workload: Workload
    arrays: Mapping[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    @property
    def runs(self) -> int:
        return len(self["rates"])

    @property
    def kernels(self) -> list[np.ndarray]:
        return [self[f"kernel{i}"] for i in range(len(self.workload.widths))]

    def only(self, runs: Sequence[int]) -> "Job":
        """The job of some of its runs."""
        shared = ("images", "labels", "mean", "deviation")
        kept = {
            name: array if name in shared else array[list(runs)]
            for name, array in self.arrays.items()
        }
        return Job(self.workload, kept)

    def save(self, path: pathlib.Path) -> None:
        about = json.dumps(dataclasses.asdict(self.workload))
        np.savez(path, **{"workload": np.array(about), **self.arrays})  # type: ignore[arg-type]

    @staticmethod
    def load(path: pathlib.Path) -> "Job":
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("workload")))
        return Job(Workload(**{**about, "widths": tuple(about["widths"])}), arrays)


def draw(workload: Workload, runs: int) -> Job:
    """The job but for its `batches`, which come from fishjax's own order (see `order`)."""
    rng = np.random.default_rng(20_260_801)
    size, widths = workload.size, workload.widths
    labels = (np.arange(IMAGES) % CLASSES).astype(np.int32)
    pattern = rng.integers(60, 196, (CLASSES, size, size, 3))
    noise = rng.normal(0, 40, (IMAGES, size, size, 3))
    images = np.clip(pattern[labels] + noise, 0, 255).astype(np.uint8)
    pixels = images.reshape(-1, 3) / 255.0
    seen = 2 * workload.batch - 1
    train = [rng.permutation(IMAGES)[:seen] for _ in range(runs)]
    arrays = {
        "images": images,
        "labels": labels,
        "mean": pixels.mean(0).astype(np.float32),
        "deviation": pixels.std(0).astype(np.float32),
        "rates": np.geomspace(*RATES, runs).astype(np.float32),
        "seeds": np.arange(runs, dtype=np.uint32),
        "train": np.stack(train).astype(np.int32),
        "head": _normal(rng, (runs, widths[-1], CLASSES), 1 / widths[-1]),
    }
    for i, layer in enumerate(workload.layers):
        shape = (runs, 3, 3, layer.channels_in, layer.channels_out)
        arrays[f"kernel{i}"] = _normal(rng, shape, 2 / (9 * layer.channels_in))
    return Job(workload, arrays)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], variance: float) -> np.ndarray:
    return rng.normal(0, np.sqrt(variance), shape).astype(np.float32)
