"""A network as pure functions: `Model(init, apply)`, and what goes into and comes out of it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

Taps = Mapping[str, jax.Array]


class Variables(NamedTuple):
    """What a network holds: trained parameters, and running statistics of its norms."""

    params: Mapping[str, Any]
    stats: Mapping[str, Any]


class Output(NamedTuple):
    """logits `[batch, class]`; taps: activations `[batch, ..., unit]` by hidden layer.

    Of a layer that one kernel computes in training, the tap is its largest magnitude over all
    samples and pixels, `[1, 1, 1, unit]`.
    """

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
    layers: every layer with a kernel, input first, but for the 1x1 convolutions on a residual
    network's skips, whose flow is not read; hidden: those with an activation.
    units: units of each hidden layer. deep: how many layers, from the input on, the flow along
    depth is read over: the convolutions, or of a user's network all but the last layer.
    place: the position in `layers` of the layer that each part of the parameters belongs to, a norm
    to the one before it and a skip to the one it ends at; empty for a user's network.
    """

    init: Callable[..., Variables]
    apply: Callable[..., Output]
    layers: tuple[str, ...]
    hidden: tuple[str, ...]
    units: tuple[int, ...]
    deep: int
    place: Mapping[str, int] = MappingProxyType({})
