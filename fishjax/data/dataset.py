"""A data set in memory: uint8 images, labels, and the groups that must not straddle a split."""

import functools
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fishjax.fields import UsageError


class DataError(UsageError):
    """Images that cannot be used as they are; the message names the file or the class."""


@dataclass(frozen=True)
class Dataset:
    """Every example of a source, decoded and resized once.

    images: uint8 `[example, height, width, 3]`. labels: int32 `[example]`, indices into `species`.
    groups: int32 `[example]`; examples of one group never stand on both sides of a split.
    fixed_test: bool `[example]`; the source's own test examples, none of them where it has none.
    factors: what is known of each example besides its species, arrays `[example, ...]`.
    """

    spec: str
    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    species: tuple[str, ...]
    fixed_test: np.ndarray
    factors: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[3] != 3:
            raise ValueError(f"images are {self.images.dtype}{list(self.images.shape)}")
        for name in ("labels", "groups", "fixed_test"):
            if getattr(self, name).shape != self.images.shape[:1]:
                raise ValueError(f"{name} does not have one entry per image")
        if len(self.species) < 2:
            raise DataError(f"{self.spec} has {len(self.species)} species; at least 2 are needed")
        if "" in self.species:
            raise DataError(f"{self.spec} has a species without a name")
        for name, count in Counter(self.species).items():
            if count > 1:
                raise DataError(f"{self.spec} has {count} species called {name!r}")

    def digest(self) -> str:
        """sha256 over pixels, labels, groups, split and names: equal digests train equal runs."""
        state = hashlib.sha256(repr((self.images.shape, self.species)).encode())
        for array in (self.images, self.labels, self.groups, self.fixed_test):
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()

    @functools.cached_property
    def mean_images(self) -> np.ndarray:
        """Each species' mean image, float64 `[species, height, width, 3]`, 0 to 255.

        Like `deviation` without the source's own test images; NaN for a species with no other.
        """
        images = (self._images_of(species) for species in range(len(self.species)))
        empty = np.full(self.images.shape[1:], np.nan)
        return np.stack([some.mean(0) if len(some) else empty for some in images])

    @functools.cached_property
    def deviation(self) -> np.ndarray:
        """The standard deviation of each channel's pixels, float64 `[3]`, in 0 to 255."""
        counts = np.zeros((3, 256), np.int64)
        for species in range(len(self.species)):
            pixels = self._images_of(species).reshape(-1, 3)
            counts += [np.bincount(channel, minlength=256) for channel in pixels.T]
        levels = np.arange(256)
        total = counts.sum(1)
        return np.sqrt(counts @ levels**2 / total - (counts @ levels / total) ** 2)

    def _images_of(self, species: int) -> np.ndarray:
        return self.images[(self.labels == species) & ~self.fixed_test]
