"""The statistics that every step and every evaluation reads, beside NumPy."""

import numpy as np
from jax import numpy as jnp
from jax import tree

from experiments.parts.part import Pair, Part
from fishjax.measure import activations, flow, units

EXACT = 2e-6
SHAPE = (32, 5, 5, 12)
NAMES = ("a", "b", "c", "d")
OFF = {"watch.flow": "off", "watch.units": "off"}


def _draws() -> np.ndarray:
    """`[image, height, width, unit]`, units of very different sizes; two are never positive."""
    h = np.random.default_rng(0).normal(size=SHAPE) * np.geomspace(0.01, 10, SHAPE[-1])
    h[..., :2] = -np.abs(h[..., :2])
    return h.astype(np.float32)


def flowing() -> Pair:
    """Norms layer by layer, the first over the last, NumPy's straight line through the logs."""
    rng = np.random.default_rng(0)
    trees = [
        {name: {"kernel": rng.normal(size=(3, 4)) * 10**-k} for k, name in enumerate(NAMES)}
        for _ in range(3)
    ]
    params, grads, updates = (tree.map(jnp.float32, each) for each in trees)
    seen = flow.relative(flow.flow(params, grads, updates, NAMES))
    depth = flow.along_depth(seen["flow"])
    weight, gradient, update = (
        np.array([np.linalg.norm(each[name]["kernel"]) for name in NAMES]) for each in trees
    )
    share = gradient / weight
    slope = np.polyfit(np.arange(len(NAMES)), np.log10(share), 1)[0]
    ours = np.concatenate([seen["flow"], seen["update_ratio"], [*depth.values()]])
    return ours, np.concatenate([share, update / weight, [share[0] / share[-1], slope]])


def active() -> Pair:
    """On how many images each unit is active, image by image."""
    h = np.maximum(_draws(), 0)
    ours = units.activity(jnp.asarray(h), jnp.ones(SHAPE[0]))
    return ours, [sum((image[..., k] != 0).any() for image in h) for k in range(SHAPE[-1])]


def gradient_dormant() -> Pair:
    g = _draws()
    sizes = np.array([np.abs(g[..., k].astype(float)).mean() for k in range(SHAPE[-1])])
    return units.dormant_share(jnp.asarray(g)), np.mean(sizes <= 0.01 * sizes.mean())


def saturated() -> Pair:
    h = _draws()
    taps = {"relu": np.maximum(h, 0), "tanh": np.tanh(h), "sigmoid": 1 / (1 + np.exp(-h))}
    ours = [activations.saturated_share(jnp.asarray(x), kind) for kind, x in taps.items()]
    outside = (h <= 0, abs(taps["tanh"]) > 0.95, abs(taps["sigmoid"] - 0.5) > 0.45)
    return ours, [share.mean() for share in outside]


WATCHED = (
    Part(
        "measure",
        "gradient flow, every step",
        "NumPy norm, polyfit",
        flowing,
        EXACT,
        {"watch.flow": "step", "watch.units": "off"},
        OFF,
    ),
    Part(
        "measure",
        "silent units, every step",
        "a count image by image",
        active,
        0.0,
        {"watch.flow": "off", "watch.units": "step"},
        OFF,
    ),
    Part(
        "measure", "gradient-dormant units", "unit by unit in NumPy", gradient_dormant, EXACT, None
    ),
    Part("measure", "saturated share", "NumPy", saturated, EXACT, None),
)
