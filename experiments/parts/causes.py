"""Corruptions beside SciPy and the counts they promise, on reef."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from experiments.parts.part import Pair, Part
from fishjax.config import Config
from fishjax.data.corruptions import View, distances, view
from fishjax.data.dataset import Dataset
from fishjax.data.pixels import Look, colours, render
from fishjax.data.source import open_source
from fishjax.settings import override

SPEC, SPECIES, SEED = "reef:classes=4,train=400,test=80", 4, 3
SIZES = {"data.train_size": 120, "data.val_size": 24, "data.image_size": 16}
LEVEL = 0.5 + 1e-9
"""Half a level of uint8."""
RARE = "Corallabris quadrifax"
"""The second species of SPEC."""
IMAGE = 1.0


@functools.cache
def source() -> Dataset:
    return open_source(SPEC, 16)


def shown(settings: Mapping[str, Any]) -> View:
    return view(source(), override(Config(), {**SIZES, **settings}).data, SEED)


def frequencies(settings: Mapping[str, Any], shares: np.ndarray) -> Pair:
    """Training images of every species beside the shares asked."""
    labels = source().labels[shown(settings).train.example]
    return np.bincount(labels, minlength=SPECIES), 120 * shares / shares.sum()


def nested() -> Pair:
    """The training set of size 60 is the first 60 of that of 120."""
    return shown({"data.train_size": 60}).train.example, shown({}).train.example[:60]


def noisy(settings: Mapping[str, Any], target: Callable[[np.ndarray], np.ndarray]) -> Pair:
    """How many labels are wrong, and where a wrong one leads."""
    part = shown({"data.label_noise": 0.25, **settings}).train
    truth = source().labels[part.example]
    wrong = part.label != truth
    return np.append(part.label[wrong], wrong.sum()), np.append(target(part.label)[wrong], 30)


def symmetric() -> Pair:
    """Any species but its own; the count is exact."""
    return noisy({}, lambda label: label)


def pair() -> Pair:
    truth = source().labels[shown({}).train.example]
    return noisy({"data.label_noise_kind": "pair"}, lambda _: (truth + 1) % SPECIES)


def similar() -> Pair:
    """Root mean squares between mean images, by SciPy, and the nearest species."""
    images, labels = source().images, source().labels
    own = ~source().fixed_test
    of_species = (images[own & (labels == k)].astype(float) for k in range(SPECIES))
    means = np.stack([some.mean(0).ravel() for some in of_species])
    apart = cdist(means, means) / np.sqrt(means.shape[1])
    np.fill_diagonal(apart, np.inf)
    ours, theirs = distances(source()), apart
    pairs = noisy(
        {"data.label_noise_kind": "similar"},
        lambda _: apart.argmin(1)[labels[shown({}).train.example]],
    )
    finite = np.isfinite(theirs)
    return np.append(ours[finite], pairs[0]), np.append(theirs[finite], pairs[1])


def repeated() -> Pair:
    """Distinct training images left."""
    part = shown({"data.duplicates": 0.25}).train
    return len(set(part.example.tolist())), 90


def leaked() -> Pair:
    """Test images that are trained on."""
    found = shown({"data.leakage": 0.25})
    return len(set(found.train.example) & set(found.test.example)), 20


def _rendered(look: Look, partner: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Some images as they look, and as they were, in float64."""
    example = np.arange(40)
    blended = np.zeros(40, int) if partner is None else partner
    return render(source(), look, example, blended).astype(float), source().images[:40].astype(
        float
    )


def _levels(ours: np.ndarray, theirs: np.ndarray) -> Pair:
    """Differences in levels, whatever the size of the numbers."""
    return (ours - theirs) / 255, np.zeros_like(ours)


def border() -> Pair:
    ours, images = _rendered(Look(cue="border"))
    colour = colours(SPECIES)[source().labels[:40]].astype(float)
    theirs = np.broadcast_to(colour[:, None, None], images.shape).copy()
    theirs[:, 1:-1, 1:-1] = images[:, 1:-1, 1:-1]
    return _levels(ours, theirs)


def background() -> Pair:
    """Pixels within 24 to 48 levels of the ring's colours are tinted, by SciPy's distances."""
    ours, images = _rendered(Look(cue="background"))
    colour = colours(SPECIES)[source().labels[:40]].astype(float)
    theirs = np.empty_like(images)
    for i, image in enumerate(images):
        ring = [image[0], image[1:, -1], image[-1, -2::-1], image[-2:0:-1, 0]]
        seen = np.concatenate(ring)[np.linspace(0, 60, 32, endpoint=False).astype(int)]
        away = cdist(image.reshape(-1, 3), seen).min(1).reshape(16, 16, 1)
        theirs[i] = image + 0.5 * np.clip((48 - away) / 24, 0, 1) * (colour[i] - image)
    return _levels(ours, theirs)


def twins() -> Pair:
    other = np.arange(40)[::-1]
    ours, images = _rendered(Look(twins=0.3), other)
    return _levels(ours, 0.7 * images + 0.3 * images[::-1])


def channel_shift() -> Pair:
    ours, images = _rendered(Look(shift=0.5))
    deviation = source().images.reshape(-1, 3).astype(float).std(0)
    return _levels(ours, np.clip(images + 0.5 * deviation * [-1, 1, -1], 0, 255))


def resolution() -> Pair:
    """Means of areas are kept: of 8 pixels, each the mean of 2 x 2, scaled up."""
    ours, images = _rendered(Look(resolution=8))
    means = images.reshape(40, 8, 2, 8, 2, 3).mean((2, 4))
    at = np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7)
    low, share = np.floor(at).astype(int), at - np.floor(at)
    high = np.minimum(low + 1, 7)

    def lifted(x: np.ndarray, axis: int) -> np.ndarray:
        shape = [1] * x.ndim
        shape[axis] = -1
        weight = share.reshape(shape)
        return (1 - weight) * x.take(low, axis) + weight * x.take(high, axis)

    return _levels(ours, lifted(lifted(means, 1), 2))


def _cause(
    name: str,
    reference: str,
    check: Callable[[], Pair],
    limit: float,
    settings: Mapping[str, Any],
) -> Part:
    return Part("corruption", name, reference, check, limit, settings)


def _imbalance(kind: str, shares: np.ndarray, **more: Any) -> Part:
    settings = {"data.imbalance": kind, "data.imbalance_ratio": 10.0}
    settings |= {f"data.{key}": value for key, value in more.items()}
    check = functools.partial(frequencies, settings, shares)
    name, reference = f"imbalance, {kind}", "the shares asked, rounded"
    largest = 120 * shares.max() / shares.sum()
    return _cause(name, reference, check, IMAGE / largest, settings)


CAUSES: tuple[Part, ...] = (
    _cause("nested train size", "a prefix", nested, 0.0, {}),
    _imbalance("exponential", 10.0 ** (-np.arange(4) / 3)),
    _imbalance("step", np.array([1.0, 1.0, 0.1, 0.1])),
    _imbalance("species", np.array([1.0, 0.1, 1.0, 1.0]), imbalance_species=RARE),
    _cause("label noise, symmetric", "exact counts", symmetric, 0.0, {"data.label_noise": 0.25}),
    _cause("label noise, pair", "the next species", pair, 0.0, {"data.label_noise": 0.25}),
    _cause("label noise, similar", "SciPy cdist", similar, 1e-9, {"data.label_noise": 0.25}),
    _cause("duplicates", "exact counts", repeated, 0.0, {"data.duplicates": 0.25}),
    _cause("leakage", "exact counts", leaked, 0.0, {"data.leakage": 0.25}),
    _cause("cue, border", "NumPy", border, LEVEL / 255, {"data.cue": "border"}),
    _cause(
        "cue, background",
        "SciPy cdist, rounded",
        background,
        LEVEL / 255,
        {"data.cue": "background"},
    ),
    _cause("twins", "float64, rounded", twins, LEVEL / 255, {"data.twins": 0.6}),
    _cause(
        "channel shift", "float64, rounded", channel_shift, LEVEL / 255, {"data.channel_shift": 0.5}
    ),
    _cause(
        "resolution",
        "area means, bilinear, rounded four times",
        resolution,
        4 * LEVEL / 255,
        {"data.resolution": 8},
    ),
)
