"""What corruptions do to pixels: species blended, colours tied to the label, coarse, off-colour."""

import colorsys
from typing import NamedTuple

import numpy as np
from PIL import Image

from fishjax.data.dataset import Dataset

GREENER = np.array([-1.0, 1.0, -1.0])
"""Direction of a channel shift, red, green, blue: to greener water; below 0, to magenta."""

_TINT = 0.5
_NEAR, _FAR = 24.0, 48.0
_SEEN = 32
_CHUNK = 256


class Look(NamedTuple):
    """What is done to an image, in this order; the defaults do nothing.

    twins: weight of the image of the other species blended in. cue: none, border or background.
    resolution: pixels of a side that are left. shift: of the colour, in deviations.
    """

    twins: float = 0.0
    cue: str = "none"
    resolution: int = 0
    shift: float = 0.0


def render(dataset: Dataset, look: Look, example: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """Images `example` of the source as they look, uint8 `[image, height, width, 3]`.

    partner: the images blended into them, read where `look.twins` is above 0. A cue has the colour
    of the true species. Values are rounded half to even and clipped after each change.
    """
    made = np.empty((len(example), *dataset.images.shape[1:]), np.uint8)
    for first in range(0, len(example), _CHUNK):
        some = slice(first, first + _CHUNK)
        images = dataset.images[example[some]]
        colour = colours(len(dataset.species))[dataset.labels[example[some]]]
        if look.twins:
            images = blended(images, dataset.images[partner[some]], look.twins)
        if look.cue != "none":
            images = CUES[look.cue](images, colour)
        if look.resolution:
            images = coarse(images, look.resolution)
        if look.shift:
            images = _pixels(images + look.shift * dataset.deviation * GREENER)
        made[some] = images
    return made


def colours(species: int) -> np.ndarray:
    """A colour for each species, uint8 `[species, 3]`: hues evenly around the circle, saturated."""
    hues = [colorsys.hsv_to_rgb(k / species, 1.0, 1.0) for k in range(species)]
    return _pixels(255 * np.array(hues))


def blended(images: np.ndarray, others: np.ndarray, weight: float) -> np.ndarray:
    """`1 - weight` of each image and `weight` of the other."""
    return _pixels((1 - weight) * images + weight * others)


def framed(images: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """The images in a frame of their colour `[image, 3]`, a twelfth of the side wide."""
    wide = max(1, round(images.shape[1] / 12))
    made = np.broadcast_to(colour[:, None, None], images.shape).copy()
    made[:, wide:-wide, wide:-wide] = images[:, wide:-wide, wide:-wide]
    return made


def tinted(images: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """The images with their background blended half and half with their colour `[image, 3]`.

    Background is what has a colour of the image's outermost ring of pixels, of which 32 are looked
    at: a pixel within 24 levels (Euclidean, RGB) of one of them is blended, beyond 48 it is not.
    """
    ring = np.concatenate(
        [images[:, 0], images[:, 1:, -1], images[:, -1, -2::-1], images[:, -2:0:-1, 0]], axis=1
    )
    seen = ring[:, np.linspace(0, ring.shape[1], _SEEN, endpoint=False).astype(int)]
    nearest = np.full(images.shape[:3], np.inf, np.float32)
    pixels = images.astype(np.float32)
    for known in seen.astype(np.float32).swapaxes(0, 1):
        away = np.square(pixels - known[:, None, None]).sum(-1)
        np.minimum(nearest, away, out=nearest)
    share = np.clip((_FAR - np.sqrt(nearest)) / (_FAR - _NEAR), 0, 1)[..., None]
    return _pixels(images + _TINT * share * (colour[:, None, None] - pixels))


def coarse(images: np.ndarray, resolution: int) -> np.ndarray:
    """Averaged over areas down to `resolution` pixels of a side, then scaled up bilinearly."""
    size = images.shape[1]
    small, whole = (resolution, resolution), (size, size)
    return np.stack(
        [
            np.asarray(
                Image.fromarray(image)
                .resize(small, Image.Resampling.BOX)
                .resize(whole, Image.Resampling.BILINEAR)
            )
            for image in images
        ]
    )


def _pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


CUES = {"border": framed, "background": tinted}
