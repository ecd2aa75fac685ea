"""Normalisations: by statistics of the minibatch, or of each image over groups of channels."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from fishjax import sections

EPSILON = 1e-5


class BatchNorm(nn.Module):
    """Every channel by its mean and variance over batch and pixels (Ioffe & Szegedy 2015).

    In training by those of the minibatch, else by running ones, of which every step keeps the
    traced share `momentum`. The running variance is the biased one, as in Flax; PyTorch keeps the
    unbiased one, and its momentum is 1 minus ours.
    """

    @nn.compact
    def __call__(self, x: jax.Array, momentum: jax.Array | float, train: bool) -> jax.Array:
        mean = self.variable("batch_stats", "mean", jnp.zeros, x.shape[-1])
        variance = self.variable("batch_stats", "var", jnp.ones, x.shape[-1])
        if not train:
            return _affine(self, _standard(x, _last(mean.value, x), _last(variance.value, x)))
        of_batch = _moments(x, tuple(range(x.ndim - 1)))
        for running, now in zip((mean, variance), of_batch, strict=True):
            running.value = momentum * running.value + (1.0 - momentum) * now.reshape(-1)
        return _affine(self, _standard(x, *of_batch))


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
        return _affine(self, _standard(grouped, *_moments(grouped, over)).reshape(x.shape))


def norm(model: sections.Model, channels: int, name: str) -> BatchNorm | GroupNorm:
    """The norm of a configuration for `[batch, ..., channels]`, called with the share that running
    statistics keep and whether this is training; its `scale` and `bias` are learned per channel.
    """
    if model.norm == "batch":
        return BatchNorm(name=name)
    groups = {"layer": 1, "group": model.groups, "instance": channels}
    return GroupNorm(groups[model.norm], name=name)


def _moments(x: jax.Array, over: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance over some axes, which are kept with size 1."""
    mean = jnp.mean(x, over, keepdims=True)
    return mean, jnp.mean(jnp.square(x - mean), over, keepdims=True)


def _standard(x: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
    return (x - mean) * lax.rsqrt(variance + EPSILON)


def _affine(module: nn.Module, x: jax.Array) -> jax.Array:
    scale = module.param("scale", nn.initializers.ones, (x.shape[-1],))
    bias = module.param("bias", nn.initializers.zeros, (x.shape[-1],))
    return x * _last(scale, x) + _last(bias, x)


def _last(values: jax.Array, x: jax.Array) -> jax.Array:
    """`[channel]` shaped to meet the last axis of `x`."""
    return values.reshape((1,) * (x.ndim - 1) + (-1,))
