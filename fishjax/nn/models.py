"""Plain CNNs behind `Model(init, apply)`: pure functions with named taps."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fishjax import sections
from fishjax.nn.init import rescale
from fishjax.nn.layers import Conv, Dense, dropout, leaky_relu, max_pool
from fishjax.setup import Hyper, Setup

Taps = Mapping[str, jax.Array]


class Variables(NamedTuple):
    """What a network holds: trained parameters, and running statistics of its norms."""

    params: Mapping[str, Any]
    stats: Mapping[str, Any]


class Output(NamedTuple):
    """logits `[batch, class]`; taps: activations `[batch, ..., unit]` by hidden layer."""

    logits: jax.Array
    taps: Taps
    stats: Mapping[str, Any]


class Probe(NamedTuple):
    """Interventions on hidden layers, for measures that need one.

    nudge: added to the pre-activation; mask: multiplied into the activation.
    """

    nudge: Taps = MappingProxyType({})
    mask: Taps = MappingProxyType({})


class Model(NamedTuple):
    """A network as pure functions.

    init(key, hyper) -> Variables.
    apply(variables, images, hyper, *, train, key=None, probe=Probe()) -> Output, where images are
    float `[batch, height, width, 3]`, `train` is static, and `key` is needed to drop units.
    layers: every layer with a kernel, input first; hidden: those with an activation.
    units: units of each hidden layer.
    """

    init: Callable[..., Variables]
    apply: Callable[..., Output]
    layers: tuple[str, ...]
    hidden: tuple[str, ...]
    units: tuple[int, ...]


class PlainCNN(nn.Module):
    """Conv, norm, activation, pool, repeated; global average pool; dense layers; linear head."""

    setup_: sections.Model
    classes: int
    image_size: int

    @nn.compact
    def __call__(
        self, x: jax.Array, hyper: Hyper, train: bool, key: jax.Array | None, probe: Probe
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        taps: dict[str, jax.Array] = {}

        def activate(name: str, pre: jax.Array) -> jax.Array:
            if name in probe.nudge:
                pre = pre + probe.nudge[name]
            h = leaky_relu(pre, hyper.slope)
            taps[name] = h
            return h * _along_units(probe.mask[name], h) if name in probe.mask else h

        for i, channels in enumerate(self.setup_.channels):
            normed = i in self.setup_.normed
            x = Conv(channels, use_bias=not normed, name=f"conv{i}")(x)
            if normed:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name=f"norm{i}")(x)
            x = activate(f"conv{i}", x)
            if i in self.setup_.halved_after(self.image_size):
                x = max_pool(x)
        x = jnp.mean(x, axis=(1, 2))
        for i, units in enumerate(self.setup_.dense):
            x = activate(f"dense{i}", Dense(units, name=f"dense{i}")(x))
            if train and key is not None:
                x = dropout(x, hyper.dropout, jax.random.fold_in(key, i))
        return Dense(self.classes, name="head")(x), taps


def build(setup: Setup) -> Model:
    """The network of a setup for uint8-range images of `setup.data.image_size`."""
    net = PlainCNN(setup.model, setup.classes, setup.data.image_size)
    convs = tuple(f"conv{i}" for i in range(setup.model.depth))
    hidden = convs + tuple(f"dense{i}" for i in range(len(setup.model.dense)))
    norms = {f"conv{i}": f"norm{i}" for i in setup.model.normed}
    biased = {norms.get(layer, layer) for layer in hidden}
    size = setup.data.image_size

    def init(key: jax.Array, hyper: Hyper) -> Variables:
        images = jnp.zeros((1, size, size, 3))
        drawn: Any = net.init(key, images, hyper, False, None, Probe())
        return Variables(rescale(drawn["params"], hyper, biased), drawn.get("batch_stats", {}))

    def apply(
        variables: Variables,
        images: jax.Array,
        hyper: Hyper,
        *,
        train: bool,
        key: jax.Array | None = None,
        probe: Probe = Probe(),  # noqa: B008
    ) -> Output:
        tree = {"params": variables.params, "batch_stats": variables.stats}
        mutable = ["batch_stats"] if train else []
        result: Any = net.apply(tree, images, hyper, train, key, probe, mutable=mutable)
        (logits, taps), new = result
        return Output(logits, taps, new.get("batch_stats", variables.stats))

    return Model(init, apply, (*hidden, "head"), hidden, setup.model.channels + setup.model.dense)


def _along_units(mask: jax.Array, h: jax.Array) -> jax.Array:
    return mask.reshape((1,) * (h.ndim - 1) + (-1,))
