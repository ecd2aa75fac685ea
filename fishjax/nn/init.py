"""Initial weights: unit normals scaled to a distribution whose kind and gain are traced."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from fishjax.sections import Model
from fishjax.setup import Hyper, choices

PLAIN_DEVIATION = 0.01
_KINDS = choices(Model, "init")


def rescale(params: Mapping[str, Mapping[str, jax.Array]], hyper: Hyper, biased: set[str]) -> dict:
    """Gives unit-normal kernels the deviation of `hyper.init` and the layers `biased` their bias.

    he: sqrt(2 / fan_in) (He et al. 2015, eq. 10). normal: 0.01 (Krizhevsky et al. 2012).
    Both are multiplied by `hyper.init_gain`.
    """
    scaled = {}
    for layer, leaves in params.items():
        scaled[layer] = dict(leaves)
        if "kernel" in leaves:
            scaled[layer]["kernel"] = leaves["kernel"] * deviation(leaves["kernel"].shape, hyper)
        if layer in biased:
            scaled[layer]["bias"] = leaves["bias"] + hyper.bias_shift
    return scaled


def deviation(shape: tuple[int, ...], hyper: Hyper) -> jax.Array:
    """The standard deviation of a kernel `[..., in, out]` under a traced initialisation."""
    fan_in = math.prod(shape[:-1])
    by_kind = {"he": math.sqrt(2.0 / fan_in), "normal": PLAIN_DEVIATION}
    table = jnp.asarray([by_kind[kind] for kind in _KINDS[:2]], jnp.float32)
    return hyper.init_gain * table[jnp.asarray(hyper.init, jnp.int32)]
