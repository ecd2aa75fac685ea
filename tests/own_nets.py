"""Networks as a user would write them, for `model.own`."""

import itertools
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from fishjax.nn.layers import max_pool


class Plain(nn.Module):
    """The plain net of `tests.runs.TINY` in Flax's own layers."""

    classes: int

    @nn.compact
    def __call__(self, x):
        for i, channels in enumerate((4, 6)):
            x = nn.relu(nn.Conv(channels, (3, 3), name=f"conv{i}")(x))
            x = max_pool(x)
        x = nn.relu(nn.Dense(8, name="dense0")(x.mean((1, 2))))
        return nn.Dense(self.classes, name="head")(x)


class Normed(nn.Module):
    """Batch norm, dropout, a strided convolution in a block, and gelu whose activation is sown."""

    classes: int

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Conv(4, (3, 3), use_bias=False, name="stem")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x))
        x = nn.gelu(nn.Conv(6, (3, 3), strides=2, name="body")(x))
        self.sow("intermediates", "body/gelu", x)
        x = nn.Dropout(0.5, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(self.classes)(x)


class Graph(nnx.Module):
    """The same with nnx; its convolutions are in a list."""

    def __init__(self, classes, *, rngs):
        self.convs = nnx.List(
            [nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Conv(4, 6, (3, 3), rngs=rngs)]
        )
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(6, classes, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.convs[0](x)))
        x = nnx.gelu(self.convs[1](max_pool(x)))
        self.sow(nnx.Intermediate, "convs/1/gelu", x)
        return self.head(self.drop(x.mean((1, 2))))


class Slow(nnx.Module):
    """Long in being traced, each time longer."""

    times = itertools.count()

    def __init__(self, classes, *, rngs):
        self.first = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.second = nnx.Conv(4, 4, (3, 3), rngs=rngs)
        self.head = nnx.Linear(4, classes, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.first(x))
        time.sleep(0.05 * next(self.times))
        return self.head(nnx.relu(self.second(x)).mean((1, 2)))


class Half(nn.Module):
    """A convolution in half precision, its logits in single."""

    classes: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), dtype=jnp.bfloat16)(x)).mean((1, 2))
        return nn.Dense(self.classes)(x.astype(jnp.float32))


def linen_net(classes):
    return Plain(classes)


def pair(classes):
    def init(key, images):
        keys = jax.random.split(key, 2)
        fan_in = images[0].size
        return {
            "wide": {"w": jax.random.normal(keys[0], (fan_in, 8)) * (2 / fan_in) ** 0.5},
            "answer": {"w": jax.random.normal(keys[1], (8, classes)), "b": jnp.zeros(classes)},
        }

    def apply(params, images, watch):
        h = watch("wide", images.reshape(len(images), -1) @ params["wide"]["w"])
        return jax.nn.relu(h) @ params["answer"]["w"] + params["answer"]["b"][None]

    return init, apply


class Rematted(nn.Module):
    """A convolution that is computed again on the way back."""

    classes: int

    @nn.compact
    def __call__(self, x):
        x = nn.remat(Block)(name="block")(x)
        return nn.Dense(self.classes)(x.mean((1, 2)))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(4, (3, 3))(x))


def mispair(classes):
    init, apply = pair(classes)
    return init, lambda params, images, watch: apply(params, images, lambda _, h: watch("wida", h))


def number(classes):
    return classes


def broken(classes):
    return classes / 0


def unseeded(classes):
    return Graph(classes, rngs=nnx.Rngs(0))


def too_wide(classes):
    return Plain(classes + 1)


class Wrong(Plain):
    """Adds arrays of different shapes."""

    def __call__(self, x):
        return x + jnp.ones((3, 3))


class Flat(nn.Module):
    """Logistic regression."""

    classes: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.classes)(x.reshape(len(x), -1))


class Missown(nn.Module):
    """Sows under a name that is no layer's."""

    classes: int
    name_sown = "conv/relu"

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3))(x))
        self.sow("intermediates", self.name_sown, self.kept(x))
        return nn.Dense(self.classes)(x.mean((1, 2)))

    def kept(self, x):
        return x


class Poolsown(Missown):
    """Sows what was pooled."""

    name_sown = "Conv_0/relu"

    def kept(self, x):
        return x.mean((1, 2))
