"""The layers a CNN is made of, each cheap inside a scan and mapped over runs."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fishjax.nn.axes import along_units
from fishjax.nn.conv import conv2d
from fishjax.nn.lowering import Epilogue


class Conv(nn.Module):
    """A square convolution, SAME; its kernel is drawn with unit deviation.

    Called with `then`, it gives `then(x, None, bias)` of the convolved images instead.
    """

    channels: int
    use_bias: bool
    size: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, then: Callable[..., Epilogue] | None = None) -> Any:
        shape = (self.size, self.size, x.shape[-1], self.channels)
        y = conv2d(x, self.param("kernel", nn.initializers.normal(1.0), shape), self.stride)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        return _add(y, bias) if then is None else then(y, None, bias)


class Dense(nn.Module):
    """An affine map of the last axis; its kernel is drawn with unit deviation."""

    units: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1], self.units)
        y = x @ self.param("kernel", nn.initializers.normal(1.0), shape)
        if not self.use_bias:
            return y
        return _add(y, self.param("bias", nn.initializers.zeros, (self.units,)))


def max_pool(x: jax.Array) -> jax.Array:
    """2x2 maximum with stride 2 of `[batch, height, width, channel]`; an odd edge is cropped.

    The maximum of four strided slices: its gradient needs no scatter. Among equal values the
    gradient is shared.
    """
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    rows = jnp.maximum(x[:, 0:height:2, :width], x[:, 1:height:2, :width])
    return jnp.maximum(rows[:, :, 0::2], rows[:, :, 1::2])


def dropout(x: jax.Array, rate: jax.Array | float, key: jax.Array) -> jax.Array:
    """Zeroes a share `rate` in [0, 1) of `x` and scales the rest up by `1 / (1 - rate)`."""
    kept = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(kept, x / (1.0 - rate), 0.0)


def _add(y: jax.Array, bias: jax.Array) -> jax.Array:
    return y + along_units(bias, y)
