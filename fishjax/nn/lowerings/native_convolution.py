"""Convolutions called in a compiled CPU program: the handlers of `engine.native`."""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from fishjax.nn.lowering import Geometry, Lowering

Library = Literal["onednn", "winograd"]
TARGETS: dict[Library, tuple[str, str, str]] = {
    "onednn": ("fishjax_convolution", "fishjax_input_gradient", "fishjax_kernel_gradient"),
    "winograd": (
        "fishjax_winograd",
        "fishjax_winograd_input_gradient",
        "fishjax_winograd_kernel_gradient",
    ),
}
_KERNEL, _LANES, _WIDEST = 3, 16, 4096


@functools.cache
def native_convolution(library: Library, version: str, threads: int) -> Lowering:
    """The lowering whose every call uses `threads` threads of this version of the handlers.

    TARGETS must be registered, an underscore and the version behind each. Arrays are float32.
    Mapped over runs, the calls follow one another.
    """
    shapes = (_output, _images, _kernel)
    names = [f"{target}_{version}" for target in TARGETS[library]]
    return Lowering(*(_caller(*each, threads) for each in zip(names, shapes, strict=True)))


def computes(library: Library, geometry: Geometry) -> bool:
    """Whether the handlers can compute this convolution; calling them else is an error.

    Winograd's: 3x3 kernels at stride 1 with at most 2 zeros on a side and whole vectors of
    channels, at most 4096.
    """
    channels, pads = geometry.kernel[2:], sum(geometry.pads, ())
    return library == "onednn" or (
        geometry.kernel[:2] == (_KERNEL, _KERNEL)
        and geometry.stride == 1
        and all(0 <= pad < _KERNEL for pad in pads)
        and all(count % _LANES == 0 and 0 < count <= _WIDEST for count in channels)
    )


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
