"""The workloads in float64 NumPy, gradients by hand: what every peer's losses are held to."""

from typing import NamedTuple

import numpy as np

from experiments.benchmark.workload import EPSILON, MOMENTUM, Job

_Params = dict[str, np.ndarray]


class _Passed(NamedTuple):
    """What a convolution, its norm, its ReLU and its pool leave for the way back."""

    patches: np.ndarray
    shape: tuple[int, ...]
    normed: np.ndarray
    root: np.ndarray
    out: np.ndarray
    winner: np.ndarray | None


def losses(job: Job, run: int, steps: int) -> np.ndarray:
    """Mean cross-entropy in nats of each of the run's first steps, `[step]`."""
    params = _initial(job, run)
    velocity = {name: np.zeros_like(value) for name, value in params.items()}
    rate, found = float(job["rates"][run]), []
    for batch in job["batches"][run][:steps]:
        pixels = job["images"][batch].astype(np.float64) / 255.0
        images = (pixels - job["mean"]) / job["deviation"]
        loss, gradients = loss_and_gradients(job, params, images, job["labels"][batch])
        found.append(loss)
        for name, gradient in gradients.items():
            velocity[name] = MOMENTUM * velocity[name] + gradient
            params[name] = params[name] - rate * velocity[name]
    return np.array(found)


def loss_and_gradients(
    job: Job, params: _Params, images: np.ndarray, labels: np.ndarray
) -> tuple[float, _Params]:
    """Of a minibatch of float64 `[batch, side, side, 3]`."""
    x, passed = images, []
    for i, layer in enumerate(job.workload.layers):
        left = _layer(x, params, i, layer.pooled)
        passed.append(left)
        x = left.out if left.winner is None else _windows(left.out).max(3)
    features = x.mean((1, 2))
    logits = features @ params["head"] + params["head bias"]
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    rows = np.arange(len(labels))
    delta = np.exp(log_p)
    delta[rows, labels] -= 1.0
    delta /= len(labels)
    found = {"head": features.T @ delta, "head bias": delta.sum(0)}
    spread = (delta @ params["head"].T)[:, None, None, :] / (x.shape[1] * x.shape[2])
    g = np.broadcast_to(spread, x.shape)
    for i in reversed(range(len(passed))):
        g = _back(g, passed[i], params, i, found)
    return float(-log_p[rows, labels].mean()), found


def _initial(job: Job, run: int) -> _Params:
    params = {
        "head": job["head"][run].astype(np.float64),
        "head bias": np.zeros(job["head"].shape[2]),
    }
    for i, kernels in enumerate(job.kernels):
        params[f"kernel{i}"] = kernels[run].astype(np.float64)
        params[f"scale{i}"] = np.ones(kernels.shape[-1])
        params[f"shift{i}"] = np.zeros(kernels.shape[-1])
    return params


def _layer(x: np.ndarray, params: _Params, i: int, pooled: bool) -> _Passed:
    kernel = params[f"kernel{i}"]
    patches = _patches(x)
    y = (patches @ kernel.reshape(-1, kernel.shape[-1])).reshape(*x.shape[:3], -1)
    root = np.sqrt(y.var((0, 1, 2)) + EPSILON)
    normed = (y - y.mean((0, 1, 2))) / root
    out = np.maximum(normed * params[f"scale{i}"] + params[f"shift{i}"], 0.0)
    winner = _windows(out).argmax(3) if pooled else None
    return _Passed(patches, x.shape, normed, root, out, winner)


def _back(g: np.ndarray, left: _Passed, params: _Params, i: int, found: _Params) -> np.ndarray:
    """Adds the layer's gradients to `found`; the gradient of its input (zeros for the images)."""
    if left.winner is not None:
        g = _unpool(g, left.winner)
    g = g * (left.out > 0)
    found[f"scale{i}"], found[f"shift{i}"] = (g * left.normed).sum((0, 1, 2)), g.sum((0, 1, 2))
    g = g * params[f"scale{i}"]
    mean, slope = g.mean((0, 1, 2)), (g * left.normed).mean((0, 1, 2))
    g = ((g - mean - left.normed * slope) / left.root).reshape(-1, g.shape[-1])
    kernel = params[f"kernel{i}"]
    found[f"kernel{i}"] = (left.patches.T @ g).reshape(kernel.shape)
    if i == 0:
        return np.zeros(left.shape)
    return _unpatch(g @ kernel.reshape(-1, kernel.shape[-1]).T, left.shape)


def _patches(x: np.ndarray) -> np.ndarray:
    """The 3x3 surroundings of every pixel, zeros outside: `[pixel, 9 in]`."""
    batch, height, width, channels = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    found = np.empty((batch, height, width, 9, channels))
    for place in range(9):
        down, right = divmod(place, 3)
        found[..., place, :] = padded[:, down : down + height, right : right + width]
    return found.reshape(-1, 9 * channels)


def _unpatch(patches: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The sum over all surroundings in which a pixel stands; `_patches` transposed."""
    batch, height, width, channels = shape
    parts = patches.reshape(batch, height, width, 9, channels)
    padded = np.zeros((batch, height + 2, width + 2, channels))
    for place in range(9):
        down, right = divmod(place, 3)
        padded[:, down : down + height, right : right + width] += parts[..., place, :]
    return padded[:, 1:-1, 1:-1]


def _windows(x: np.ndarray) -> np.ndarray:
    """`[batch, row, column, 4, channel]`: the four of each 2x2 window in reading order."""
    batch, height, width, channels = x.shape
    split = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2, width // 2, 4, channels)


def _unpool(g: np.ndarray, winner: np.ndarray) -> np.ndarray:
    """The gradient goes to the winner of each window."""
    batch, height, width, channels = g.shape
    four = np.zeros((batch, height, width, 4, channels))
    np.put_along_axis(four, winner[:, :, :, None], g[:, :, :, None], 3)
    split = four.reshape(batch, height, width, 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return split.reshape(batch, 2 * height, 2 * width, channels)
