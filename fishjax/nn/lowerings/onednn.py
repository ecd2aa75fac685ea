"""Convolutions by oneDNN, called in a compiled CPU program: the handlers of `engine.native`."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from fishjax.nn.lowering import Geometry, Lowering

TARGETS = ("fishjax_convolution", "fishjax_input_gradient", "fishjax_kernel_gradient")


@functools.cache
def onednn(version: str, threads: int) -> Lowering:
    """The lowering whose every call uses `threads` threads of this version of the handlers.

    TARGETS must be registered, an underscore and the version behind each. Arrays are float32.
    Mapped over runs, the calls follow one another.
    """
    shapes = (_output, _images, _kernel)
    names = [f"{target}_{version}" for target in TARGETS]
    return Lowering(*(_caller(*each, threads) for each in zip(names, shapes, strict=True)))


def _caller(target: str, shape_of: Callable[[Geometry], tuple[int, ...]], threads: int) -> Callable:
    def call(a: jax.Array, b: jax.Array, geometry: Geometry) -> jax.Array:
        shape = jax.ShapeDtypeStruct(shape_of(geometry), jnp.float32)
        (top, _), (left, _) = geometry.pads
        return jax.ffi.ffi_call(target, shape, vmap_method="sequential")(
            a, b, stride=geometry.stride, top=top, left=left, threads=threads
        )

    return call


def _output(geometry: Geometry) -> tuple[int, ...]:
    return geometry.output


def _images(geometry: Geometry) -> tuple[int, ...]:
    return geometry.images


def _kernel(geometry: Geometry) -> tuple[int, ...]:
    return geometry.kernel
