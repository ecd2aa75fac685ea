"""Draws fish: what a fish, a view of it and its scene are in numbers, and the pixels they make.

Lengths of a fish are in half body lengths: the nose at 1, the root of the tail near -1, the back
at negative heights. Positions in the image run from -1 to 1, the second axis down. Every edge is
anti-aliased by its distance in pixels, so a fish keeps its form at every image size.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fishjax.data.species import PARAMETERS

LENGTH = 0.66
"""Half the body's length, in half image widths, of a fish seen at scale 1."""

# Name: (value with the nuisance off, change at one end of its range, change at the other).
VIEW = {
    "x": (0.0, -0.45, 0.45),
    "y": (0.0, -0.45, 0.45),
    "scale": (1.0, -0.25, 0.15),
    "rotation": (0.0, -0.4, 0.4),
    "foreshortening": (1.0, -0.25, 0.0),
    "turbidity": (0.0, 0.0, 0.2),
    "blur": (0.0, 0.0, 0.06),
    "grain": (0.0, 0.01, 0.04),
    "gain_red": (1.0, -0.12, 0.1),
    "gain_green": (1.0, -0.1, 0.1),
    "gain_blue": (1.0, -0.1, 0.1),
}
OCCLUDERS = 4
"""Two blades of weed and two bubbles, each four uniform numbers."""

# Name: (colour at the surface, colour in the depth).
WATERS = {
    "blue": ((0.36, 0.56, 0.66), (0.14, 0.34, 0.46)),
    "green": ((0.4, 0.58, 0.54), (0.18, 0.38, 0.36)),
}
# Name: (colour, height over the bottom of the image, radius of the growths on it).
FLOORS = {
    "open": ((0.2, 0.4, 0.5), -0.2, 0.05),
    "sand": ((0.76, 0.68, 0.5), 0.5, 0.12),
    "rock": ((0.33, 0.32, 0.33), 0.5, 0.4),
    "coral": ((0.75, 0.42, 0.42), 0.4, 0.3),
}
SCENES = tuple(f"{floor} {water}" for floor in FLOORS for water in WATERS)
GROWTHS = 4
SCENE_NUMBERS = 4 + 5 * GROWTHS
"""Uniform numbers behind one scene."""
_WARM, _WEED, _FOAM = np.array([[0.5, 0.2, -0.2], [0.18, 0.36, 0.12], [0.9, 0.96, 1]], np.float32)

Columns = Mapping[str, np.ndarray]
"""Each number of a fish or a view by its name, `[example, 1, 1]`."""


class Grid(NamedTuple):
    """Where the pixels are: x `[1, 1, column]`, y `[1, row, 1]`, and the size of one."""

    x: np.ndarray
    y: np.ndarray
    pixel: np.ndarray


class Batch(NamedTuple):
    """Everything about some pictures but the grain.

    fish: `[example, parameter]` in the order of PARAMETERS. view: `[example, view]` in the order
    of VIEW. flip: -1 or 1, `[example]`. occluders: uniform `[example, occluder, 4]`. present: which
    occluders are there, bool `[example, occluder]`. kind: indices into SCENES, `[example]`.
    scene: uniform `[example, SCENE_NUMBERS]`.
    """

    fish: np.ndarray
    view: np.ndarray
    flip: np.ndarray
    occluders: np.ndarray
    present: np.ndarray
    kind: np.ndarray
    scene: np.ndarray


def draw(batch: Batch, grain: np.ndarray) -> np.ndarray:
    """The pictures, uint8 `[example, size, size, 3]`; `grain` is uniform in [0, 1), so shaped."""
    size = grain.shape[1]
    axis = (2 * np.arange(size, dtype=np.float32) + 1) / size - 1
    grid = Grid(axis[None, None, :], axis[None, :, None], np.array(2 / size, np.float32))
    fish, view = _columns(batch.fish, PARAMETERS), _columns(batch.view, VIEW)
    image = np.broadcast_to(_water(batch, grid.y), grain.shape).copy()
    _floor(image, batch, grid)
    _fish(image, batch.flip, fish, view, _water(batch, view["y"]), grid)
    _occlude(image, batch, grid)
    image *= _colour(view, "gain")
    image += view["grain"][..., None] * (grain - np.float32(0.5)) * np.float32(np.sqrt(12))
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _water(batch: Batch, y: np.ndarray) -> np.ndarray:
    """Light that fades with depth, `[example, row, 1, 3]`."""
    colours = np.array(list(WATERS.values()), np.float32)[batch.kind % len(WATERS)]
    surface, deep = colours[:, 0], colours[:, 1]
    numbers = batch.scene.astype(np.float32)
    surface = surface + 0.2 * (numbers[:, :1] - np.float32(0.5))
    depth = np.clip((y[..., None] + 1) * (0.3 + 0.4 * numbers[:, 1, None, None, None]), 0, 1)
    return surface[:, None, None] + depth * (deep - surface)[:, None, None]


def _floor(image: np.ndarray, batch: Batch, grid: Grid) -> None:
    """Lays an uneven bottom and what grows on it over the water."""
    x, y, pixel = grid
    colours, heights, radii = zip(*FLOORS.values(), strict=True)
    floor = batch.kind // len(WATERS)
    colour = np.array(colours, np.float32)[floor][:, None, None]
    height, radius = (_pick(numbers, floor) for numbers in (heights, radii))
    u = batch.scene.astype(np.float32).T[..., None, None]
    line = 1 - height * (0.6 + 0.8 * u[2]) + 0.1 * np.sin(5 * x + 6.3 * u[3])
    _paint(image, colour, _cover(line - y, pixel))
    for growth in range(GROWTHS):
        across, up, wide, tall, light = u[4 + 5 * growth : 9 + 5 * growth]
        width, rise = radius * (0.5 + wide), radius * (0.5 + 1.2 * tall)
        outside = np.hypot((x - 2.4 * across + 1.2) / width, (y - line - 0.2 * up) / rise) - 1
        tint = colour * (0.5 + light[..., None]) + (wide - tall)[..., None] * _WARM
        _paint(image, tint, _cover(outside * np.minimum(width, rise), pixel))


def _fish(
    image: np.ndarray, flip: np.ndarray, fish: Columns, view: Columns, water: np.ndarray, grid: Grid
) -> None:
    """Paints fins, body, pattern and eye as seen through the water before them."""
    length = np.float32(LENGTH) * view["scale"]
    cosine, sine = np.cos(view["rotation"]), np.sin(view["rotation"])
    ahead, down = grid.x - view["x"], grid.y - view["y"]
    along = flip.astype(np.float32)[:, None, None] * (cosine * ahead + sine * down)
    u = along / (length * view["foreshortening"]) - 0.2
    v = (cosine * down - sine * ahead) / length
    soft = grid.pixel / length + view["blur"]
    haze = water * view["turbidity"][..., None]
    clear = 1 - view["turbidity"][..., None]

    half = fish["aspect"] * (1 + fish["taper"] * u)
    fins = np.maximum(_tail(fish, u, v, soft), _crests(fish, half, u, v, soft))
    _paint(image, _colour(fish, "fin") * clear + haze, fins)
    body, height = _body(half, u, v, soft)
    shade = (0.99 + 0.12 * height)[..., None]
    mark = _pattern(fish, u, v, soft)[..., None]
    skin = _colour(fish, "body")
    skin = (skin + mark * (_colour(fish, "mark") - skin)) * shade
    _paint(image, skin * clear + haze, body)
    eye = np.hypot(u - 0.66, v + 0.2 * fish["aspect"])
    for radius, colour in ((0.15, 0.9), (0.095, 0.05)):
        _paint(image, colour * clear + haze, _cover(eye - np.float32(radius), soft) * body)


def _body(
    half: np.ndarray, u: np.ndarray, v: np.ndarray, soft: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cover of the tapered ellipse, and the height in it from -1 (back) to 1 (belly)."""
    height = v / half
    outside = u * u + height * height - 1
    slope = 2 * np.hypot(u, height / half) + np.float32(1e-3)
    return _cover(outside / slope, soft), np.clip(height, -1, 1)


def _tail(fish: Columns, u: np.ndarray, v: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """Cover of a fan whose hind edge is cut in (`fork`, `curve` above 0) or bulges (below)."""
    back = (-0.8 - u) / fish["reach"]
    beside = np.abs(v)
    out = np.minimum(beside / fish["span"], 1)
    edge = 1 + fish["fork"] * (out - 0.6) + fish["curve"] * (out * out - 0.45)
    side = (beside - 0.1 - fish["span"] * np.clip(back, 0, 1)) * np.float32(0.8)
    return _cover(np.maximum(side, np.maximum(back - edge, -back) * fish["reach"]), soft)


def _crests(
    fish: Columns, half: np.ndarray, u: np.ndarray, v: np.ndarray, soft: np.ndarray
) -> np.ndarray:
    """Cover of the dorsal fin, highest at `peak`, and of a smaller anal fin behind it."""
    body = half * np.sqrt(np.clip(1 - u * u, 0, 1))
    along = (u + 0.75) / np.float32(1.25)
    roof = np.minimum(along / fish["peak"], (1 - along) / (1 - fish["peak"]))
    dorsal = -v - body - fish["crest"] * roof
    dorsal = np.maximum(dorsal, np.maximum(-along, along - 1) + 0 * v)
    rear = (u + 0.75) / np.float32(0.7)
    anal = v - body - 0.6 * fish["crest"] * np.minimum(4 * rear, 1 - rear)
    anal = np.maximum(anal, np.maximum(-rear, rear - 1) + 0 * v)
    return np.maximum(_cover(np.maximum(dorsal, v), soft), _cover(np.maximum(anal, -v), soft))


def _pattern(fish: Columns, u: np.ndarray, v: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """Strength of the marking colour: stripes across `angle`, spots where two gratings cross."""
    wave = np.float32(2 * np.pi) * fish["frequency"]
    cosine, sine = np.cos(fish["angle"]), np.sin(fish["angle"])
    first = np.cos(wave * (u * cosine + v * sine + fish["phase"]))
    second = np.cos(wave * (v * cosine - u * sine))
    edge = 0.6 * wave * soft + 0.15
    stripes = fish["stripe"] * _cover(-first - 0.1, edge)
    spots = fish["spot"] * _cover(0.25 - first * second, 0.6 * edge)
    return np.maximum(stripes, spots)


def _occlude(image: np.ndarray, batch: Batch, grid: Grid) -> None:
    """Paints the weed and the bubbles that hide a part of the view."""
    x, y, pixel = grid
    for place in range(OCCLUDERS):
        there = batch.present[:, place]
        if not there.any():
            continue
        a, b, c, d = batch.occluders[there, place].T.astype(np.float32)[..., None, None]
        part = image[there]
        if place < 2:
            lean = 2 * a - 1 + 0.5 * (b - 0.5) * (1 - y) + 0.06 * np.sin(6 * y + 6 * d)
            blade = np.maximum(np.abs(x - lean) - 0.04 - 0.05 * c, -y - 0.2 - 0.8 * d)
            _paint(part, _WEED * (0.6 + 0.8 * c[..., None]), _cover(blade, pixel))
        else:
            reach = np.hypot(x - 1.6 * a + 0.8, y - 1.6 * b + 0.8) - 0.08 - 0.12 * c
            rim = _cover(np.abs(reach) - 0.03, pixel)
            _paint(part, _FOAM, 0.75 * rim + 0.25 * _cover(reach, pixel) * (1 - rim))
        image[there] = part


def _cover(outside: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """Share of a pixel inside a form, of the signed distance from it; `soft` wide at the edge."""
    return np.clip(0.5 - outside / soft, 0, 1)


def _paint(image: np.ndarray, colour: np.ndarray, cover: np.ndarray) -> None:
    image += cover[..., None] * (colour - image)


def _columns(table: np.ndarray, names: Mapping[str, object]) -> dict[str, np.ndarray]:
    """Each column of `[example, name]` as `[example, 1, 1]`."""
    columns = table.astype(np.float32).T[..., None, None]
    return dict(zip(names, columns, strict=True))


def _colour(columns: Columns, name: str) -> np.ndarray:
    return np.stack([columns[f"{name}_{part}"] for part in ("red", "green", "blue")], axis=-1)


def _pick(numbers: tuple[float, ...], index: np.ndarray) -> np.ndarray:
    return np.array(numbers, np.float32)[index][:, None, None]
