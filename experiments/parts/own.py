"""What a user brings: networks of one's own, `fishjax.watch` in a loop, a line between networks."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.flatten_util import ravel_pytree
from torch.nn import functional

import fishjax
from experiments.dying_relu import BASE
from experiments.parts import torch_net
from experiments.parts.part import Pair, Part
from fishjax.barrier import barrier
from fishjax.config import Config
from fishjax.nn.model import Variables
from fishjax.nn.models import build
from fishjax.settings import override
from fishjax.setup import Hyper, Setup, lower
from fishjax.trained import Trained

CLASSES, IMAGES, POINTS = 3, 6, 5
NETS = {"linen": "Linen", "nnx": "Nnx", "pair of functions": "pair"}
SPECIES = ("a", "b", "c")
EXACT = 2e-6
ROUNDED = 1e-5


def network_of_ones_own(factory: str) -> Pair:
    """Logits, every activation and every parameter's gradient, beside the plain network's."""
    setup, hyper = lower(BASE, CLASSES)
    owned, _ = lower(override(BASE, {"model.own": factory}), CLASSES)
    hyper = jax.tree.map(jnp.float32, hyper)
    params = build(setup).init(jax.random.key(0), hyper).params
    return _answers(owned, hyper, params), _answers(setup, hyper, params)


def watched() -> Pair:
    """The statistics of a jitted step of two layers beside NumPy in double precision."""
    x, first, second = (
        jax.random.normal(key, (8, 8)) for key in jax.random.split(jax.random.key(0), 3)
    )
    params = {"a": {"kernel": first}, "b": {"kernel": second}}

    def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        h = jnp.tanh(x @ params["a"]["kernel"])
        return jnp.sum(jnp.square(h @ params["b"]["kernel"])), {"a": h}

    def step(params: Any) -> tuple[Any, Any]:
        grads, taps = jax.grad(loss, has_aux=True)(params)
        updates = jax.tree.map(lambda g: -0.1 * g, grads)
        return (grads, taps), fishjax.watch(params, grads, updates, taps, activation="tanh")

    (grads, taps), seen = jax.jit(step)(params)
    weights, gradients = (
        np.array([np.linalg.norm(np.asarray(tree[layer]["kernel"], float)) for layer in "ab"])
        for tree in (params, grads)
    )
    flow = gradients / weights
    flat = (np.abs(np.asarray(taps["a"], float)) > 0.95).mean()
    ours = [seen.flow["flow"], seen.flow["update_ratio"], seen.units["saturated_share"]]
    ours += [jnp.stack([seen.depth["flow_ratio"], seen.depth["flow_slope"]])]
    depth = [flow[0] / flow[1], np.log10(flow[1] / flow[0])]
    return np.concatenate(ours), np.concatenate([flow, 0.1 * flow, [flat], depth])


def line() -> Pair:
    """Losses between two networks with batch norm, its statistics taken anew at each point."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, 20)
    a, b = _ends()
    losses = []
    for share in np.linspace(0, 1, POINTS):

        def at(x: Any, y: Any, share: float = share) -> torch.Tensor:
            mixed = (1 - share) * np.asarray(x, float) + share * np.asarray(y, float)
            return torch.tensor(mixed)

        params = jax.tree.map(at, a.variables.params, b.variables.params)
        centred = torch.tensor(pixels / 255.0) - at(a.mean, b.mean)
        images = (centred / at(a.deviation, b.deviation)).permute(0, 3, 1, 2)
        logits = torch_net.logits(a.config.model, params, images, 8)
        losses.append(functional.cross_entropy(logits, torch.tensor(labels)).item())
    found = barrier(a, b, pixels, labels, POINTS)
    height = max(losses) - (losses[0] + losses[-1]) / 2
    return np.append(found.loss, found.height), [*losses, height]


def _answers(setup: Setup, hyper: Hyper, params: Any) -> np.ndarray:
    """One vector of what a network says of some images."""
    model, size = build(setup), setup.data.image_size
    images = jax.random.normal(jax.random.key(1), (IMAGES, size, size, 3))

    def loss(params: Any) -> tuple[jax.Array, Any]:
        out = model.apply(Variables(params, {}), images, hyper, train=True)
        return jnp.sum(jnp.sin(out.logits)), (out.logits, dict(out.taps))

    grads, out = jax.jit(jax.grad(loss, has_aux=True))(dict(params))
    return np.asarray(ravel_pytree((out, grads))[0])


def _ends() -> list[Trained]:
    """Two networks at their starts, of unlike centring."""
    settings = {"model.depth": 2, "model.widths": (4, 6), "model.dense": (8,)}
    settings |= {"model.norm": "batch", "data.image_size": 8}
    config = override(Config(), settings)
    setup, hyper = lower(config, CLASSES)
    start = jax.jit(build(setup).init)
    return [
        Trained(
            config,
            SPECIES,
            start(jax.random.key(seed), jax.tree.map(jnp.float32, hyper)),
            jnp.full(3, 0.4 + 0.05 * seed),
            jnp.full(3, 0.3),
        )
        for seed in (0, 1)
    ]


def _own(name: str, attribute: str) -> Part:
    factory = f"experiments.parts.own_nets:{attribute}"
    check = functools.partial(network_of_ones_own, factory)
    reference = "the plain network: logits, activations, gradients"
    return Part("network", f"own, {name}", reference, check, EXACT, {"model.own": factory})


OWN: tuple[Part, ...] = (
    *(_own(name, attribute) for name, attribute in NETS.items()),
    Part("measure", "fishjax.watch", "NumPy norms and shares", watched, EXACT, None),
    Part("measure", "loss barrier", "PyTorch: the losses on the line", line, ROUNDED, None),
)
