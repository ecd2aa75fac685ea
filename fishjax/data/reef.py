"""Makes the data set `reef`: species, their individuals and views of them, from one seed.

A picture is a pure function of (seed, stream, index, knobs): every stream of random numbers has a
counter-based generator of its own and is read example by example, so a shorter pool is the
beginning of a longer one, and what only touches training leaves the test split as it was.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from fishjax.data.dataset import Dataset
from fishjax.data.fish import OCCLUDERS, SCENE_NUMBERS, SCENES, VIEW, Batch, draw
from fishjax.data.species import PARAMETERS, TRAITS, individuals, species_names, species_traits
from fishjax.fields import UsageError, check, nearest, parse, static

VERSION = 2
"""Changes whenever a pixel does."""

SIZES = (16, 128)
"""Smallest and largest image in pixels."""

_CHUNK = 1 << 18
"""Pixels drawn at once."""


@dataclass(frozen=True)
class Reef:
    """The knobs of the data set; at 0 (frames: at 1) a knob is off."""

    classes: int = static(8, "number of species", low=2, high=64)
    distance: float = static(1.0, "distance between species; 0 = identical", low=0.0, high=2.0)
    spread: float = static(1.0, "variation of individuals of a species", low=0.0, high=3.0)
    nuisance: float = static(1.0, "variation of views", low=0.0, high=2.0)
    background: float = static(
        0.0, "share of the pool's individuals at their species' home scene", low=0.0, high=1.0
    )
    twins: int = static(0, "pairs of species that differ in one trait", low=0, high=32)
    frames: int = static(1, "views of an individual of the pool", low=1, high=64)
    train: int = static(2048, "images of the pool", low=2, high=100_000)
    test: int = static(512, "images of the test split", low=2, high=100_000)
    seed: int = static(0, "seed of species, individuals and views", low=0, high=2**32 - 1)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check(f"reef:{field.name}", field, getattr(self, field.name))
        if self.twins > self.classes // 2:
            raise UsageError(
                f"reef:twins={self.twins} needs {2 * self.twins} species, "
                f"but reef:classes={self.classes}"
            )
        for split, least in (("train", self.classes * self.frames), ("test", self.classes)):
            if getattr(self, split) < least:
                raise UsageError(
                    f"reef:{split}={getattr(self, split)} is out of bounds: at least {least}, "
                    "an individual of every species"
                )

    @property
    def spec(self) -> str:
        """The canonical text, which `parse_reef` reads again after `reef:`."""
        knobs = dataclasses.asdict(self).items()
        return f"reef:v{VERSION}:" + ",".join(f"{name}={value}" for name, value in knobs)


def parse_reef(text: str) -> Reef:
    """The knobs of `classes=12,twins=1,...`; empty text is the default reef.

    A leading `v2:`, as in a canonical spec, must name this VERSION. Raises UsageError for another
    version, an unknown or repeated knob, a value of the wrong type and one out of bounds.
    """
    head, colon, rest = text.partition(":")
    if colon and head != f"v{VERSION}":
        raise UsageError(f"reef version {head!r} cannot be drawn; this one is 'v{VERSION}'")
    known = {field.name: field for field in dataclasses.fields(Reef)}
    knobs = {}
    for part in filter(None, (rest if colon else text).split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in known:
            raise UsageError(f"unknown knob {name!r} of reef{nearest(name, known)}")
        if not equals:
            raise UsageError(f"reef takes knob=value, not {part!r}")
        if name in knobs:
            raise UsageError(f"reef:{name} is given twice")
        knobs[name] = parse(f"reef:{name}", known[name], value)
    return Reef(**knobs)


def make_reef(knobs: Reef, image_size: int) -> Dataset:
    """The pool, then the test split, as `knobs` say; both balanced to within one individual.

    The pool's individuals go round the species in turn, so that every prefix is balanced. A group
    is an individual. `Dataset.factors` holds, per example: each trait's code (an index into the
    values of TRAITS), `individual` `[example, parameter]` in half ranges, each view parameter's
    value, `flip`, `occluders` (how many) and `scene` (an index into SCENES).

    Raises UsageError for an image size beyond SIZES.
    """
    low, high = SIZES
    if not low <= image_size <= high:
        raise UsageError(
            f"data.image_size={image_size} is out of bounds: reef draws {low} to {high}"
        )
    codes = species_traits(knobs.classes, knobs.twins, _stream(knobs.seed, "species"))
    pool = _split(knobs, codes, image_size, "train")
    test = _split(knobs, codes, image_size, "test")
    groups = pool["groups"], test["groups"] + pool["groups"][-1] + 1
    both = {name: np.concatenate([pool[name], test[name]]) for name in pool}
    return Dataset(
        spec=knobs.spec,
        images=both.pop("images"),
        labels=both.pop("labels"),
        groups=np.concatenate(groups),
        species=species_names(knobs.classes),
        fixed_test=np.arange(knobs.train + knobs.test) >= knobs.train,
        factors={name: values for name, values in both.items() if name != "groups"},
    )


def _split(knobs: Reef, codes: np.ndarray, image_size: int, split: str) -> dict[str, np.ndarray]:
    """Images, labels, groups and factors of one split, its streams read from their beginning."""
    training = split == "train"
    count = knobs.train if training else knobs.test
    groups = np.arange(count, dtype=np.int32) // (knobs.frames if training else 1)
    labels = groups % knobs.classes
    jitter = 2 * _uniform(knobs, split, "individuals", groups, len(PARAMETERS)) - 1
    place = _uniform(knobs, split, "places", groups, 2 + SCENE_NUMBERS)
    home = np.argsort(_stream(knobs.seed, "homes").random(len(SCENES)))[labels % len(SCENES)]
    anywhere = (place[:, 1] * len(SCENES)).astype(np.int64)
    at_home = training & (place[:, 0] < knobs.background)
    views = _uniform(knobs, split, "views", np.arange(count), len(VIEW) + 1 + 5 * OCCLUDERS)
    seen, flip, hiding = np.split(views, (len(VIEW), len(VIEW) + 1), axis=1)
    hiding = hiding.reshape(count, OCCLUDERS, 5)
    neutral, low, high = np.array(list(VIEW.values())).T
    batch = Batch(
        fish=individuals(codes[labels], knobs.distance, knobs.spread * jitter),
        view=neutral + knobs.nuisance * (low + (high - low) * seen),
        flip=np.where(flip[:, 0] < 0.5 * min(knobs.nuisance, 1), -1, 1),
        occluders=hiding[..., 1:],
        present=hiding[..., 0] < 0.3 * knobs.nuisance,
        kind=np.where(at_home, home, anywhere),
        scene=place[:, 2:],
    )
    return {
        "images": _draw(batch, image_size, _stream(knobs.seed, split, "grain")),
        "labels": labels,
        "groups": groups,
        **dict(zip(TRAITS, codes[labels].T.astype(np.int32), strict=True)),
        "individual": jitter * knobs.spread,
        **dict(zip(VIEW, batch.view.T, strict=True)),
        "flip": batch.flip,
        "occluders": batch.present.sum(1),
        "scene": batch.kind,
    }


def _draw(batch: Batch, image_size: int, rng: np.random.Generator) -> np.ndarray:
    """The pictures of a whole split, a bounded number of pixels at a time."""
    count, step = len(batch.kind), max(1, _CHUNK // image_size**2)
    images = np.empty((count, image_size, image_size, 3), np.uint8)
    for start in range(0, count, step):
        part = Batch(*(field[start : start + step] for field in batch))
        shape = images[start : start + step].shape
        images[start : start + step] = draw(part, rng.random(shape, dtype=np.float32))
    return images


def _uniform(knobs: Reef, split: str, purpose: str, rows: np.ndarray, width: int) -> np.ndarray:
    """Rows of the stream of uniform numbers `[row, width]` of a purpose."""
    return _stream(knobs.seed, split, purpose).random((rows[-1] + 1, width))[rows]


def _stream(seed: int, *names: str) -> np.random.Generator:
    """The generator of a stream, keyed by the seed and the bytes of its name."""
    key = int.from_bytes(" ".join(names).encode(), "big")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, key])))
