"""The parts of a network beside PyTorch and SciPy."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.flatten_util import ravel_pytree
from scipy import stats

from experiments.parts import torch_net
from experiments.parts.part import Pair, Part
from fishjax.config import Config
from fishjax.nn import init
from fishjax.nn.layers import dropout
from fishjax.nn.models import build
from fishjax.sections import Model
from fishjax.settings import override
from fishjax.setup import Hyper, choices, lower

SIZE, CLASSES, BATCH = 12, 3, 6
SMALL = {
    "model.depth": 3,
    "model.widths": (4, 8),
    "model.dense": (8,),
    "data.image_size": SIZE,
}
EXACT = 2e-6
ROUNDED = 1e-5
"""Batch norm of six images' ReLU outputs divides by small deviations; in float64 it is 4e-15."""
FAN_IN, FAN_OUT = 9 * 16, 9 * 32


def _hyper(settings: Mapping[str, Any]) -> Hyper:
    return jax.tree.map(jnp.float32, lower(override(Config(), settings), CLASSES)[1])


def whole_network(settings: Mapping[str, Any]) -> Pair:
    """Logits and every parameter's gradient, of a network whose biases and scales are not plain."""
    config = override(Config(), {**SMALL, **settings})
    setup, hyper = lower(config, CLASSES)
    model, hyper = build(setup), jax.tree.map(jnp.float32, hyper)
    variables = model.init(jax.random.key(0), hyper)
    flat, unravel = ravel_pytree(variables.params)
    flat = flat + 0.1 * jax.random.normal(jax.random.key(1), flat.shape)
    images = jax.random.normal(jax.random.key(2), (BATCH, SIZE, SIZE, 3))
    weights = jax.random.normal(jax.random.key(3), (BATCH, CLASSES))

    def loss(flat: jax.Array) -> tuple[jax.Array, jax.Array]:
        now = variables._replace(params=unravel(flat))
        out = model.apply(now, images, hyper, train=True).logits
        return jnp.sum(weights * out), out

    gradient, out = jax.jit(jax.grad(loss, has_aux=True))(flat)
    leaves = jax.tree.map(
        lambda x: torch.tensor(np.asarray(x, np.float64), requires_grad=True), unravel(flat)
    )
    pixels = torch.tensor(np.asarray(images, np.float64)).permute(0, 3, 1, 2)
    theirs = torch_net.logits(config.model, leaves, pixels, SIZE)
    (theirs * torch.tensor(np.asarray(weights, np.float64))).sum().backward()
    gradients = [x.grad.numpy().ravel() for x in jax.tree.leaves(leaves)]
    return (
        np.concatenate([np.ravel(out), gradient]),
        np.concatenate([theirs.detach().numpy().ravel(), *gradients]),
    )


def initialisation(kind: str) -> Pair:
    """A kernel beside the same draws put through SciPy's quantiles, or its defining property."""
    draw = jax.random.normal(jax.random.key(0), (3, 3, 16, 32))
    ours = np.asarray(init.kernels({"it": draw}, _hyper({"model.init": kind}))["it"], np.float64)
    if kind == "orthogonal":
        matrix = ours.reshape(FAN_IN, 32)
        return matrix.T @ matrix, np.eye(32)
    if kind == "constant":
        return ours, np.full(draw.shape, 0.01)
    kernel = torch.empty(32, 16, 3, 3)
    deviation = {
        "he": np.sqrt(2 / FAN_IN),
        "glorot": np.sqrt(2 / (FAN_IN + FAN_OUT)),
        "lecun": 1 / np.sqrt(FAN_IN),
        "normal": 0.01,
    }[kind.removesuffix("_uniform")]
    assert torch.nn.init._calculate_fan_in_and_fan_out(kernel) == (FAN_IN, FAN_OUT)
    share = stats.norm.cdf(np.asarray(draw, np.float64))
    width = np.sqrt(3) * deviation
    uniform = stats.uniform(-width, 2 * width)
    law = uniform if kind.endswith("uniform") else stats.norm(0, deviation)
    return ours, law.ppf(share)


def dropped() -> Pair:
    """Dropout of a quarter keeps nothing or 4/3 of its input, of as many units as a binomial may.

    The 1 that follows stands for a share kept within the middle 0.9999 of the binomial's law.
    """
    x = jax.random.normal(jax.random.key(0), (64, 64)) + 3.0
    kept = np.asarray(dropout(x, 0.25, jax.random.key(1)))
    low, high = stats.binom(x.size, 0.75).interval(0.9999)
    ours = np.append(kept.ravel(), low <= np.count_nonzero(kept) <= high)
    theirs = np.where(kept == 0, 0.0, np.asarray(x, np.float64) / 0.75)
    return ours, np.append(theirs.ravel(), 1.0)


def _net(
    name: str,
    settings: Mapping[str, Any],
    timed: Mapping[str, Any],
    limit: float = EXACT,
    beside: Mapping[str, Any] | None = None,
) -> Part:
    check = functools.partial(whole_network, settings)
    reference = "PyTorch: logits, all gradients"
    return Part("network", name, reference, check, limit, timed, beside or {})


def _simple(name: str, setting: Mapping[str, Any]) -> Part:
    return _net(name, setting, setting)


_ODD = {"model.depth": 5}
NETWORK: tuple[Part, ...] = (
    _net("plain", {}, {}),
    *(
        _simple(kind, {"model.activation": kind})
        for kind in choices(Model, "activation")[1:]
        if kind != "leaky_relu"
    ),
    _net(
        "leaky_relu",
        {"model.activation": "leaky_relu", "hyper.leaky_slope": 0.1},
        {"model.activation": "leaky_relu"},
    ),
    *(_simple(f"{kind} norm", {"model.norm": kind}) for kind in choices(Model, "norm")[1:]),
    _net(
        "batch norm, after",
        {"model.norm": "batch", "model.norm_place": "after"},
        {"model.norm": "batch", "model.norm_place": "after"},
        ROUNDED,
    ),
    _net(
        "batch norm, one layer",
        {"model.norm": "batch", "model.norm_at": (1,)},
        {"model.norm": "batch", "model.norm_at": (1,)},
    ),
    _net(
        "batch norm, logits",
        {"model.norm": "batch", "model.norm_at": (4,)},
        {"model.norm": "batch", "model.norm_at": (5,)},
        limit=ROUNDED,
    ),
    _net("residual", {"model.block": "residual"}, {"model.block": "residual"}, beside=_ODD),
    _net(
        "residual, batch norm, stride",
        {"model.block": "residual", "model.norm": "batch", "model.downsample": "stride"},
        {"model.block": "residual", "model.norm": "batch", "model.downsample": "stride"},
        beside=_ODD,
    ),
    _simple("stride", {"model.downsample": "stride"}),
    _simple("flattened head", {"model.head": "flatten"}),
    _net("two dense layers", {"model.dense": (8, 8)}, {"model.dense": (32, 32)}),
    Part("network", "dropout", "its definition", dropped, EXACT, {"hyper.dropout": 0.5}),
    *(
        Part(
            "initialisation",
            kind,
            {"orthogonal": "QᵀQ = I", "constant": "its definition"}.get(kind, "SciPy's quantiles"),
            functools.partial(initialisation, kind),
            EXACT,
            {"model.init": kind},
        )
        for kind in choices(Model, "init")
    ),
)
