"""Norms: by statistics of the minibatch, of each image over groups of channels, or of nothing."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from fishjax import sections
from fishjax.nn.axes import along_units
from fishjax.nn.lowering import Epilogue

EPSILON = 1e-5


class BatchNorm(nn.Module):
    """Every channel by its mean and variance over batch and pixels (Ioffe & Szegedy 2015).

    In training by those of the minibatch, else by running ones, of which every step keeps the
    traced share `momentum`. The running variance is the biased one, as in Flax; PyTorch keeps the
    unbiased one, and its momentum is 1 minus ours.
    """

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        momentum: jax.Array | float,
        train: bool,
        then: Callable[..., Epilogue] | None = None,
    ) -> Any:
        """The normed images; in training `then(x, scale, bias)` that norms them, if it is given."""
        mean = self.variable("batch_stats", "mean", jnp.zeros, x.shape[-1])
        variance = self.variable("batch_stats", "var", jnp.ones, x.shape[-1])
        scale, bias = _scale_and_bias(self, x)
        if not train:
            now = _standard(x, along_units(mean.value, x), along_units(variance.value, x))
            return _affine(now, scale, bias)
        if then is None:
            now, *of_batch = standardised(x)
            found = _affine(now, scale, bias)
        else:
            found = then(x, scale, bias)
            of_batch = [found.mean, found.variance]
        for running, value in zip((mean, variance), of_batch, strict=True):
            running.value = momentum * running.value + (1.0 - momentum) * value.reshape(-1)
        return found


class GroupNorm(nn.Module):
    """Every image by its mean and variance over each group of channels and their pixels.

    Wu & He 2018. One group is the layer norm (Ba et al. 2016) over channels and pixels, a group
    for each channel the instance norm (Ulyanov et al. 2016).
    """

    groups: int

    @nn.compact
    def __call__(self, x: jax.Array, momentum: jax.Array | float, train: bool) -> jax.Array:
        grouped = x.reshape(*x.shape[:-1], self.groups, x.shape[-1] // self.groups)
        over = (*range(1, x.ndim - 1), x.ndim)
        normed = _standard(grouped, *_moments(grouped, over)).reshape(x.shape)
        return _affine(normed, *_scale_and_bias(self, x))


class Affine(nn.Module):
    """A norm's scale and bias per channel without its statistics: what a placebo of it keeps."""

    @nn.compact
    def __call__(self, x: jax.Array, momentum: jax.Array | float, train: bool) -> jax.Array:
        return _affine(x, *_scale_and_bias(self, x))


def norm(model: sections.Model, channels: int, name: str) -> BatchNorm | GroupNorm | Affine:
    """The norm of a configuration for `[batch, ..., channels]`, called with the share that running
    statistics keep and whether this is training; its `scale` and `bias` are learned per channel.
    """
    if model.norm == "batch":
        return BatchNorm(name=name)
    if model.norm == "affine":
        return Affine(name=name)
    groups = {"layer": 1, "group": model.groups, "instance": channels}
    return GroupNorm(groups[model.norm], name=name)


def standardised(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`x` by its own mean and biased variance over all axes but the last, and these two."""
    mean, variance = _moments(x, tuple(range(x.ndim - 1)))
    return _standard(x, mean, variance), mean, variance


def _moments(x: jax.Array, over: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance over some axes, which are kept with size 1."""
    mean = jnp.mean(x, over, keepdims=True)
    return mean, jnp.mean(jnp.square(x - mean), over, keepdims=True)


def _standard(x: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
    return (x - mean) * lax.rsqrt(variance + EPSILON)


def _scale_and_bias(module: nn.Module, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    scale = module.param("scale", nn.initializers.ones, (x.shape[-1],))
    return scale, module.param("bias", nn.initializers.zeros, (x.shape[-1],))


def _affine(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    return x * along_units(scale, x) + along_units(bias, x)
