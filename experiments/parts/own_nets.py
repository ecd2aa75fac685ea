"""The dying-ReLU study's network as a user would write it: with Flax linen, nnx, and by hand."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from experiments.dying_relu import BASE
from fishjax.nn.conv import conv2d
from fishjax.nn.layers import max_pool

CHANNELS, UNITS = BASE.model.channels, BASE.model.dense[0]
Params = Mapping[str, Mapping[str, jax.Array]]


class Linen(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, channels in enumerate(CHANNELS):
            x = max_pool(nn.relu(nn.Conv(channels, (3, 3), name=f"conv{i}")(x)))
        x = nn.relu(nn.Dense(UNITS, name="dense0")(x.mean((1, 2))))
        return nn.Dense(self.classes, name="head")(x)


class Nnx(nnx.Module):
    def __init__(self, classes: int, *, rngs: nnx.Rngs) -> None:
        self.conv0 = nnx.Conv(3, CHANNELS[0], (3, 3), rngs=rngs)
        self.conv1 = nnx.Conv(CHANNELS[0], CHANNELS[1], (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(CHANNELS[1], CHANNELS[2], (3, 3), rngs=rngs)
        self.conv3 = nnx.Conv(CHANNELS[2], CHANNELS[3], (3, 3), rngs=rngs)
        self.dense0 = nnx.Linear(CHANNELS[3], UNITS, rngs=rngs)
        self.head = nnx.Linear(UNITS, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for conv in (self.conv0, self.conv1, self.conv2, self.conv3):
            x = max_pool(nnx.relu(conv(x)))
        return self.head(nnx.relu(self.dense0(x.mean((1, 2)))))


def pair(classes: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`init` and `apply` without a library."""
    fans = {f"conv{i}": 9 * c for i, c in enumerate((3, *CHANNELS[:-1]))}
    fans |= {"dense0": CHANNELS[-1], "head": UNITS}
    widths = dict(zip(fans, (*CHANNELS, UNITS, classes), strict=True))

    def kernel(key: jax.Array, name: str) -> jax.Array:
        fan, width = fans[name], widths[name]
        shape = (3, 3, fan // 9, width) if name.startswith("conv") else (fan, width)
        return jax.random.normal(key, shape) * (2 / fan) ** 0.5

    def init(key: jax.Array, images: jax.Array) -> Params:
        keys = jax.random.split(key, len(fans))
        return {
            name: {"kernel": kernel(each, name), "bias": jnp.zeros(widths[name])}
            for name, each in zip(fans, keys, strict=True)
        }

    def apply(params: Params, images: jax.Array, watch: Callable[..., jax.Array]) -> jax.Array:
        x = images
        for i in range(len(CHANNELS)):
            leaves = params[f"conv{i}"]
            y = conv2d(x, leaves["kernel"]) + leaves["bias"][None, None, None]
            x = max_pool(jax.nn.relu(watch(f"conv{i}", y)))
        dense, head = params["dense0"], params["head"]
        h = watch("dense0", x.mean((1, 2)) @ dense["kernel"] + dense["bias"][None])
        return jax.nn.relu(h) @ head["kernel"] + head["bias"][None]

    return init, apply
