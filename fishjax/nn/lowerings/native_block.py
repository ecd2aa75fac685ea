"""The native `Block` of a CPU: batch norm or bias, rectifier and max-pool in one call."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fishjax.nn.activations import leaky_relu
from fishjax.nn.layers import max_pool
from fishjax.nn.lowering import Block, Epilogue
from fishjax.nn.norms import standardised

TARGETS = ("fishjax_block", "fishjax_block_gradient")


class _Native(NamedTuple):
    version: str
    threads: int

    def call(self, which: int, results: list[jax.ShapeDtypeStruct]) -> Callable[..., Any]:
        """One of the handlers, to be called with arrays and attributes."""
        target = f"{TARGETS[which]}_{self.version}"
        return jax.ffi.ffi_call(target, results, vmap_method="sequential")


@functools.cache
def native_block(version: str, threads: int) -> Block:
    """The block whose every call uses `threads` threads of this version of the handlers.

    TARGETS must be registered, an underscore and the version behind each. Arrays are float32.
    Its gradient is a native call too; the derivatives of that are those of `composed`.
    """

    def block(
        x: jax.Array, scale: jax.Array | None, bias: jax.Array, slope: Any, pool: bool
    ) -> Epilogue:
        norm = scale is not None
        gain = scale if norm else jnp.ones_like(bias)
        leak = jnp.asarray(slope, jnp.float32)
        found: Any = _forward(x, gain, bias, leak, norm, pool, _Native(version, threads))
        return Epilogue(found.out, *map(lax.stop_gradient, found[1:]))

    return block


def composed(
    x: jax.Array, scale: jax.Array, bias: jax.Array, slope: jax.Array, norm: bool, pool: bool
) -> jax.Array:
    """What goes on from a block, put together from the parts of `nn`."""
    shift = bias.reshape(1, 1, 1, -1)
    z = standardised(x)[0] * scale.reshape(1, 1, 1, -1) + shift if norm else x + shift
    h = leaky_relu(z, slope)
    return max_pool(h) if pool else h


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    slope: jax.Array,
    norm: bool,
    pool: bool,
    native: _Native,
) -> Epilogue:
    batch, height, width, channels = x.shape
    out = (batch, height // 2, width // 2, channels) if pool else x.shape
    results = [_float(shape) for shape in (out, *[(channels,)] * 3)]
    call = native.call(0, results)
    return Epilogue(*call(x, scale, bias, slope, norm=norm, pool=pool, threads=native.threads))


def _keep(*arguments: Any) -> tuple[Epilogue, tuple]:
    found: Any = _forward(*arguments)
    return found, (*arguments[:4], found.mean, found.variance)


def _back(norm: bool, pool: bool, native: _Native, saved: tuple, of: Epilogue) -> tuple:
    x, scale, bias, slope, mean, variance = saved
    gradients: Any = _gradient(x, scale, bias, slope, mean, variance, of.out, norm, pool, native)
    return *gradients, jnp.zeros_like(slope)


_forward.defvjp(_keep, _back)


@functools.partial(jax.custom_vjp, nondiff_argnums=(7, 8, 9))
def _gradient(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    slope: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    gradient: jax.Array,
    norm: bool,
    pool: bool,
    native: _Native,
) -> tuple[jax.Array, ...]:
    """Gradients of x, scale and bias, given that of what goes on."""
    results = [_float(each.shape) for each in (x, scale, bias)]
    call = native.call(1, results)
    arrays = (x, scale, bias, slope, mean, variance, gradient)
    return tuple(call(*arrays, norm=norm, pool=pool, threads=native.threads))


def _keep_gradient(*arguments: Any) -> tuple[Any, tuple]:
    x, scale, bias, slope, _, _, gradient = arguments[:7]
    return _gradient(*arguments), (x, scale, bias, slope, gradient)


def _back_gradient(norm: bool, pool: bool, native: _Native, saved: tuple, of: Any) -> tuple:
    """By the composed block, whose gradient this is; its moments are functions of x."""
    del native
    *point, slope, gradient = saved

    def first(x: jax.Array, scale: jax.Array, bias: jax.Array, gradient: jax.Array) -> tuple:
        def out(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
            return composed(x, scale, bias, slope, norm, pool)

        return jax.vjp(out, x, scale, bias)[1](gradient)

    x, scale, bias, along = jax.vjp(first, *point, gradient)[1](of)
    none = jnp.zeros_like(bias)
    return x, scale, bias, jnp.zeros_like(slope), none, none, along


_gradient.defvjp(_keep_gradient, _back_gradient)


def _float(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)
