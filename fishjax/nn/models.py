"""Small CNNs behind `Model(init, apply)`: what `sections.Model` says, with named taps."""

from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fishjax import sections
from fishjax.nn import own
from fishjax.nn.activations import ACTIVATIONS
from fishjax.nn.axes import along_units
from fishjax.nn.init import rescale
from fishjax.nn.layers import Conv, Dense, dropout, max_pool
from fishjax.nn.lowering import Block, Epilogue, chosen_block
from fishjax.nn.model import Model, Output, Probe, Variables
from fishjax.nn.norms import BatchNorm, norm
from fishjax.setup import Hyper, Setup


class CNN(nn.Module):
    """Convolutions, a head, hidden dense layers, logits.

    A layer is an affine map, its norm and its activation, in the order of `norm_place`; the logits
    have no activation. `residual`: a first convolution, then pairs of them, each
    `act(norm(conv(act(norm(conv(x))))) + skip(x))` (He et al. 2016). A max-pool comes last.
    """

    model: sections.Model
    classes: int
    image_size: int

    @nn.compact
    def __call__(
        self, x: jax.Array, hyper: Hyper, train: bool, key: jax.Array | None, probe: Probe
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        model, walk = self.model, _Walk(self.model, hyper, train, probe)
        halved = set(model.halved_after(self.image_size))
        strided, pooled = (halved, set()) if model.downsample == "stride" else (set(), halved)
        entrance = x
        for i, channels in enumerate(model.channels):
            entrance = x if i % 2 else entrance
            stride = 2 if i in strided else 1
            conv = Conv(channels, _has_bias(model, i), stride=stride, name=f"conv{i}")
            if block := walk.block(i):
                x = walk.at_once(block, i, conv, x, i in pooled)
                continue
            pre = walk.before(f"norm{i}", i, conv(x))
            if model.block == "residual" and i and i % 2 == 0:
                halvings = {i - 1, i} & strided | {i - 1} & pooled
                pre = pre + walk.skip(i, entrance, pre.shape, 2 ** len(halvings))
            x = walk.activate(f"conv{i}", i, pre)
            x = max_pool(x) if i in pooled else x
        x = jnp.mean(x, axis=(1, 2)) if model.head == "global" else x.reshape(len(x), -1)
        for i, units in enumerate(model.dense):
            layer = model.depth + i
            y = Dense(units, _has_bias(model, layer), name=f"dense{i}")(x)
            x = walk.activate(f"dense{i}", layer, walk.before(f"norm{layer}", layer, y))
            if train and key is not None:
                x = dropout(x, hyper.dropout, jax.random.fold_in(key, i))
        last = model.layer_count - 1
        logits = Dense(self.classes, _has_bias(model, last), name="head")(x)
        return walk.before(f"norm{last}", last, logits), walk.taps


@dataclass(frozen=True)
class _Walk:
    """Norms, activations, taps and probes of one forward pass."""

    model: sections.Model
    hyper: Hyper
    train: bool
    probe: Probe
    taps: dict[str, jax.Array] = field(default_factory=dict)

    def before(self, name: str, layer: int, x: jax.Array) -> jax.Array:
        """The norm of `layer`, where that stands before the activation."""
        return self._norm(name, x) if _norm_place(self.model, layer) == "before" else x

    def activate(self, name: str, layer: int, pre: jax.Array) -> jax.Array:
        """The activation of `layer`, tapped, and its norm where that stands after it."""
        if name in self.probe.nudge:
            pre = pre + self.probe.nudge[name]
        h = self.taps[name] = ACTIVATIONS[self.model.activation](pre, self.hyper.slope)
        if name in self.probe.mask:
            h = h * along_units(self.probe.mask[name], h)
        return self._norm(f"norm{layer}", h) if _norm_place(self.model, layer) == "after" else h

    def block(self, layer: int) -> Block | None:
        """The kernel that does all that follows the convolution of `layer`, if there is one.

        It has to be in training, rectified and pooled, with batch norm before or none, no sum with
        a skip in between, and no intervention.
        """
        model, name = self.model, f"conv{layer}"
        plain = model.block == "plain" and model.activation in sections.RECTIFIERS
        norm = model.norm == "batch" and _norm_place(model, layer) == "before"
        touched = name in self.probe.nudge or name in self.probe.mask
        if not (self.train and plain and (norm or layer not in model.normed)) or touched:
            return None
        return chosen_block()

    def at_once(self, block: Block, layer: int, conv: Conv, x: jax.Array, pool: bool) -> jax.Array:
        """A convolution and, by `block`, its norm or bias, its activation, tapped, and its pool."""

        def then(y: jax.Array, scale: jax.Array | None, bias: jax.Array) -> Epilogue:
            return block(y, scale, bias, self.hyper.slope, pool)

        if layer in self.model.normed:
            y = conv(x)
            found = BatchNorm(name=f"norm{layer}")(y, self.hyper.norm_momentum, True, then)
        else:
            found = conv(x, then)
        self.taps[f"conv{layer}"] = along_units(found.peak, x)
        return found.out

    def skip(self, layer: int, x: jax.Array, shape: tuple[int, ...], stride: int) -> jax.Array:
        """`x` past the pair that ends at `layer`; where its shape changes by a strided 1x1
        convolution without a bias, normed like that layer (option B of He et al. 2016).

        What the pair's max-pool crops is cropped first.
        """
        if x.shape == shape:
            return x
        x = x[:, : shape[1] * stride, : shape[2] * stride]
        conv = Conv(shape[3], use_bias=False, size=1, stride=stride, name=f"skip{layer}")
        return self.before(f"skip{layer}_norm", layer, conv(x))

    def _norm(self, name: str, x: jax.Array) -> jax.Array:
        return norm(self.model, x.shape[-1], name)(x, self.hyper.norm_momentum, self.train)


def build(setup: Setup) -> Model:
    """The network of a setup for images of `setup.data.image_size`; see `own` for one's own."""
    if setup.model.own:
        return own.adapt(setup)
    model, size = setup.model, setup.data.image_size
    net = CNN(model, setup.classes, size)
    convs = tuple(f"conv{i}" for i in range(model.depth))
    hidden = convs + tuple(f"dense{i}" for i in range(len(model.dense)))
    biased = {
        name if _has_bias(model, layer) else f"norm{layer}" for layer, name in enumerate(hidden)
    }

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
        probe: Probe = Probe(),
    ) -> Output:
        tree = {"params": variables.params, "batch_stats": variables.stats}
        mutable = ["batch_stats"] if train else []
        result: Any = net.apply(tree, images, hyper, train, key, probe, mutable=mutable)
        (logits, taps), new = result
        return Output(logits, taps, new.get("batch_stats", variables.stats))

    layers, units = (*hidden, "head"), model.channels + model.dense
    place = {
        part: layer
        for layer, name in enumerate(layers)
        for part in (name, f"norm{layer}", f"skip{layer}", f"skip{layer}_norm")
    }
    return Model(init, apply, layers, hidden, units, model.depth, place)


def _norm_place(model: sections.Model, layer: int) -> str:
    """Where the norm of a layer stands: `before` or `after` its activation; empty where none."""
    if layer not in model.normed:
        return ""
    return "before" if layer == model.layer_count - 1 else model.norm_place


def _has_bias(model: sections.Model, layer: int) -> bool:
    """False where a norm follows at once, whose own bias takes its place."""
    return _norm_place(model, layer) != "before"
