"""Losses, sampling and augmentation beside PyTorch, SciPy and their formulas in float64."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from scipy import stats

from experiments.parts.part import Pair, Part
from fishjax import augment
from fishjax.config import Config
from fishjax.feed import Feed, class_counts, drawn
from fishjax.nn.losses import training_loss
from fishjax.settings import override
from fishjax.setup import lower

COUNTS = np.array([90, 30, 9, 3])
BATCH, CLASSES, SIZE = 32, len(COUNTS), 12
EXACT, LAW = 2e-6, 0.02
"""LAW: a distribution's largest distance from its law, over 20,000 draws."""
DRAWS = 20_000


def loss(settings: Mapping[str, Any], theirs: Callable[[torch.Tensor, torch.Tensor], Any]) -> Pair:
    """The loss of a batch and its gradient in the logits."""
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.normal(size=(BATCH, CLASSES)), rng.integers(0, CLASSES, BATCH)
    shape = jax.tree.map(jnp.float32, lower(override(Config(), settings), CLASSES)[1].loss)
    targets = jax.nn.one_hot(jnp.asarray(labels, jnp.int32), CLASSES)
    value, gradient = jax.jit(jax.value_and_grad(training_loss))(
        jnp.asarray(logits, jnp.float32), targets, shape, jnp.asarray(COUNTS, jnp.float32)
    )
    x = torch.tensor(logits.astype(np.float32).astype(np.float64), requires_grad=True)
    reference = theirs(x, torch.tensor(labels))
    reference.backward()
    assert x.grad is not None
    return np.append(gradient, value), np.append(x.grad.numpy(), reference.item())


def weighted(raw: np.ndarray, smoothing: float = 0.0) -> Callable:
    """PyTorch's cross-entropy with weights of mean 1, averaged over the images."""
    weight = torch.tensor(raw / raw.mean())

    def theirs(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        targets = torch.nn.functional.one_hot(labels, CLASSES).double()
        return torch.nn.CrossEntropyLoss(weight, label_smoothing=smoothing)(x, targets)

    return theirs


def focal(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Lin et al. 2017, equation 4, gamma 2."""
    log_p = torch.log_softmax(x, 1)[torch.arange(BATCH), labels]
    return (-((1 - log_p.exp()) ** 2) * log_p).mean()


def adjusted(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Menon et al. 2021, equation 10, tau 1.5."""
    prior = torch.tensor(np.log(COUNTS / COUNTS.sum()))
    return torch.nn.functional.cross_entropy(x + 1.5 * prior, labels)


def sampled() -> Pair:
    """The share of every species among balanced draws."""
    labels = np.repeat(np.arange(CLASSES), COUNTS)
    index = np.arange(len(labels), dtype=np.int32)
    pixels, colour = jnp.zeros((len(labels), 8, 8, 3), jnp.uint8), jnp.zeros(3)
    known = jnp.asarray(labels, jnp.int32)
    feed = Feed(pixels, known, jnp.asarray(index), known[:0], known[:0], colour, colour)
    config = override(Config(), {"optim.sampling": "balanced"})
    hyper = jax.tree.map(jnp.float32, lower(config, CLASSES)[1])
    counts = class_counts(feed, CLASSES)
    epochs = jnp.arange(DRAWS // len(labels))
    orders = jax.vmap(lambda e: drawn(feed, hyper, jax.random.key(0), e, counts))(epochs)
    share = np.bincount(labels[np.ravel(orders)], minlength=CLASSES) / orders.size
    return share, np.full(CLASSES, 1 / CLASSES)


def _images() -> jax.Array:
    return jax.random.normal(jax.random.key(5), (64, SIZE, SIZE, 3))


def flip() -> Pair:
    """Every image is itself or NumPy's mirror image of itself."""
    images = _images()
    ours = np.asarray(augment.flipped(jax.random.key(0), images, jnp.float32(0.5)))
    mirrored = np.stack([np.fliplr(image) for image in np.asarray(images)])
    same = (ours == np.asarray(images)).all((1, 2, 3))
    assert 0 < same.sum() < len(same)
    return ours, np.where(same[:, None, None, None], images, mirrored)


def shift() -> Pair:
    """Every image is a window of NumPy's reflected padding of itself."""
    images, far = np.asarray(_images()), 3
    ours = np.asarray(augment.shifted(jax.random.key(0), jnp.asarray(images), jnp.float32(0.25)))
    theirs = np.empty_like(ours)
    for i, image in enumerate(np.pad(images, ((0, 0), (far, far), (far, far), (0, 0)), "reflect")):
        windows = [
            image[row : row + SIZE, column : column + SIZE]
            for row in range(2 * far + 1)
            for column in range(2 * far + 1)
        ]
        theirs[i] = min(windows, key=lambda window, i=i: np.abs(window - ours[i]).sum())
    assert (ours != images).any((1, 2, 3)).sum() > len(images) // 2
    return ours, theirs


def cutout() -> Pair:
    """What is cut is a rectangle of zeros, of the side asked or cropped by the edge."""
    images = np.asarray(_images())
    ours = np.asarray(augment.cut_out(jax.random.key(0), jnp.asarray(images), jnp.float32(0.5)))
    theirs = images.copy()
    for i in range(len(images)):
        rows, columns = np.nonzero((ours[i] == 0).all(-1))
        theirs[i, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 0
        assert max(np.ptp(rows), np.ptp(columns)) < SIZE // 2
    return ours, theirs


def colour() -> Pair:
    """Each image is an affine map of itself, channel by channel: what least squares finds."""
    images = np.asarray(_images(), np.float64)
    ours = augment.coloured(jax.random.key(0), jnp.asarray(images, jnp.float32), jnp.float32(0.3))
    ours, theirs = np.asarray(ours, np.float64), np.empty_like(images)
    for i in range(len(images)):
        for c in range(3):
            x = np.stack([images[i, :, :, c].ravel(), np.ones(SIZE**2)], axis=1)
            found = np.linalg.lstsq(x, ours[i, :, :, c].ravel(), rcond=None)[0]
            theirs[i, :, :, c] = (x @ found).reshape(SIZE, SIZE)
    assert (np.abs(ours - images).max((1, 2, 3)) > 0.01).mean() > 0.9
    return ours, theirs


def mixup() -> Pair:
    """Mixup's shares beside SciPy's beta distribution: the Kolmogorov distance from it."""
    keys = jax.random.split(jax.random.key(0), DRAWS)
    shares = jax.vmap(lambda key: augment.mixup_share(key, jnp.float32(0.4)))(keys)
    ordered = np.sort(np.asarray(shares, np.float64))
    return np.arange(DRAWS) / DRAWS, stats.beta(0.4, 0.4).cdf(ordered)


def _loss(name: str, settings: Mapping[str, Any], theirs: Callable, reference: str) -> Part:
    return Part("loss", name, reference, functools.partial(loss, settings, theirs), EXACT, settings)


def _augmentation(
    name: str, strength: float, check: Callable, reference: str, limit: float = EXACT
) -> Part:
    return Part("augmentation", name, reference, check, limit, {f"augment.{name}": strength})


_TORCH = "torch CrossEntropyLoss, its gradient"
OBJECTIVE: tuple[Part, ...] = (
    _loss("cross-entropy", {}, weighted(np.ones(CLASSES)), _TORCH),
    _loss(
        "label smoothing",
        {"hyper.label_smoothing": 0.2},
        weighted(np.ones(CLASSES), 0.2),
        _TORCH,
    ),
    _loss("weights, inverse", {"loss.class_weight": "inverse"}, weighted(1 / COUNTS), _TORCH),
    _loss("weights, sqrt", {"loss.class_weight": "sqrt"}, weighted(COUNTS**-0.5), _TORCH),
    _loss(
        "weights, effective",
        {"loss.class_weight": "effective", "loss.effective_beta": 0.99},
        weighted(0.01 / (1 - 0.99**COUNTS)),
        _TORCH,
    ),
    _loss(
        "weights, to a power",
        {"loss.class_weight": "inverse", "loss.class_weight_power": 0.3},
        weighted(COUNTS**-0.3),
        _TORCH,
    ),
    _loss(
        "weights, swapped",
        {
            "loss.class_weight": "inverse",
            "loss.class_weight_shift": 1,
            "loss.class_weight_swap": 1,
        },
        weighted((1 / COUNTS)[[3, 1, 2, 0]]),
        _TORCH,
    ),
    _loss("focal", {"loss.kind": "focal"}, focal, "its formula under PyTorch's autograd"),
    _loss("logit adjustment", {"loss.logit_adjustment": 1.5}, adjusted, _TORCH),
    Part(
        "sampling",
        "balanced",
        f"equal shares, {DRAWS:,} draws",
        sampled,
        LAW,
        {"optim.sampling": "balanced"},
    ),
    _augmentation("flip", 0.5, flip, "numpy.fliplr"),
    _augmentation("shift", 0.25, shift, "windows of numpy.pad"),
    _augmentation("cutout", 0.5, cutout, "rectangles of zeros"),
    _augmentation("colour", 0.3, colour, "least squares per channel"),
    _augmentation("mixup", 0.4, mixup, "SciPy's beta, Kolmogorov distance", LAW),
)
