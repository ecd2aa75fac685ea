"""How a convolution and its gradients are computed: a `Lowering` for each shape, chosen from above.

Whoever compiles a program says which (`lowered_by`); a network only says `conv2d`.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import jax


@dataclass(frozen=True)
class Geometry:
    """Sizes of a convolution: images `[batch, height, width, in]`, kernel `[kh, kw, in, out]`.

    pads: zeros before and after each of height and width.
    """

    images: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int
    pads: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        sizes = ("x".join(map(str, each)) for each in (self.images, self.kernel))
        pads = ",".join(f"{low}+{high}" for low, high in self.pads)
        return f"{' * '.join(sizes)} / {self.stride} pad {pads}"

    @property
    def output(self) -> tuple[int, ...]:
        """`[batch, height', width', out]`."""
        spatial = (
            (size + sum(pad) - reach) // self.stride + 1
            for size, pad, reach in zip(self.images[1:3], self.pads, self.kernel[:2], strict=True)
        )
        return (self.images[0], *spatial, self.kernel[3])


class Lowering(NamedTuple):
    """Three bilinear maps, each to be differentiated by the other two, never by JAX.

    forward(images, kernel, geometry) -> output; input_gradient(gradient, kernel, geometry) ->
    images; kernel_gradient(images, gradient, geometry) -> kernel.
    """

    forward: Callable[[jax.Array, jax.Array, Geometry], jax.Array]
    input_gradient: Callable[[jax.Array, jax.Array, Geometry], jax.Array]
    kernel_gradient: Callable[[jax.Array, jax.Array, Geometry], jax.Array]


class Epilogue(NamedTuple):
    """The outputs of a block: see `Block`."""

    out: jax.Array
    peak: jax.Array
    mean: jax.Array
    variance: jax.Array


Block = Callable[..., Epilogue]
"""What follows a convolution in training, in one: block(x, scale, bias, slope, pool).

x `[batch, height, width, channel]` is normed by its moments over all but the channels, scaled and
shifted, where there is a scale `[channel]`, else only shifted by the bias; then rectified with a
leak of `slope`; then, where `pool` says so, max-pooled. out is what goes on; peak `[channel]` the
largest magnitude of each channel's activation, mean and variance `[channel]` its moments (0 and 1
where nothing is normed). Only out is differentiated, and only by x, scale and bias.
"""


class Kernels(NamedTuple):
    """How a program computes: a lowering for each convolution, a block, or None: by parts."""

    convolution: Callable[[Geometry], Lowering]
    block: Block | None = None


_chosen: contextvars.ContextVar[Kernels | None] = contextvars.ContextVar("kernels", default=None)


@contextlib.contextmanager
def lowered_by(kernels: Kernels) -> Iterator[None]:
    """What is traced in this block computes as `kernels` say."""
    token = _chosen.set(kernels)
    try:
        yield
    finally:
        _chosen.reset(token)


def chosen(geometry: Geometry, default: Lowering) -> Lowering:
    """The lowering for a convolution that is being traced."""
    kernels = _chosen.get()
    return default if kernels is None else kernels.convolution(geometry)


def chosen_block() -> Block | None:
    """What follows a convolution that is being traced, where one kernel does it all."""
    kernels = _chosen.get()
    return None if kernels is None else kernels.block
