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


Choice = Callable[[Geometry], Lowering]
_chosen: contextvars.ContextVar[Choice | None] = contextvars.ContextVar("lowering", default=None)


@contextlib.contextmanager
def lowered_by(choice: Choice) -> Iterator[None]:
    """What is traced in this block computes every convolution as `choice` says of its shape."""
    token = _chosen.set(choice)
    try:
        yield
    finally:
        _chosen.reset(token)


def chosen(geometry: Geometry, default: Lowering) -> Lowering:
    """The lowering for a convolution that is being traced."""
    choice = _chosen.get()
    return default if choice is None else choice(geometry)
