"""The optimiser of a run: optax transformations whose every coefficient is traced."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fishjax.setup import Hyper, ScheduleShape

Height = Callable[[ScheduleShape, jax.Array, float], jax.Array]


def optimiser(hyper: Hyper, steps_per_epoch: int, epochs: int) -> optax.GradientTransformation:
    """SGD with momentum: clip by the run's global norm, add L2 of kernels, accumulate, step.

    The order and the undamped momentum are those of `torch.optim.SGD` after `clip_grad_norm_`.
    """

    def rate(step: Any) -> Any:
        return -hyper.lr * height(hyper.schedule, step / steps_per_epoch, epochs)

    return optax.chain(
        optax.clip_by_global_norm(hyper.clip),
        optax.add_decayed_weights(hyper.weight_decay, mask=_kernels),
        optax.trace(hyper.momentum),
        optax.scale_by_schedule(rate),
    )


def height(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    """The rate at a time in epochs as a share of `hyper.lr`; `shape.kind` is traced."""
    heights = jnp.stack([_HEIGHTS[kind](shape, epoch, epochs) for kind in _HEIGHTS])
    falling = heights[jnp.asarray(shape.kind, jnp.int32)]
    ramp = jnp.where(shape.warmup > 0, epoch / jnp.maximum(shape.warmup, 1e-9), 1.0)
    return (shape.floor + (1.0 - shape.floor) * falling) * jnp.minimum(ramp, 1.0)


def _constant(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    return jnp.ones_like(epoch)


def _cosine(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    """Half a cosine from 1 after the warm-up to 0 at the end (Loshchilov & Hutter 2017, eq. 5)."""
    span = jnp.maximum(epochs - shape.warmup, 1e-9)
    return 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip((epoch - shape.warmup) / span, 0.0, 1.0)))


def _triangular(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    """0 to 1 to 0 in every `period` epochs (Smith 2017)."""
    position = epoch / shape.period
    return 1.0 - jnp.abs(2.0 * (position - jnp.floor(position)) - 1.0)


_HEIGHTS: dict[str, Height] = {
    "constant": _constant,
    "cosine": _cosine,
    "triangular": _triangular,
}


def _kernels(params: optax.Params) -> optax.Params:
    """True at the leaves that weight decay applies to: kernels, not biases or norms."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
