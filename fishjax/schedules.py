"""The rate and the momentum of a run over time; a schedule's kind and its numbers are traced."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from fishjax.setup import Hyper, ScheduleShape

Share = Callable[[ScheduleShape, jax.Array, float], jax.Array]

ONE_CYCLE_FIRST = 1 / 25
ONE_CYCLE_LAST = ONE_CYCLE_FIRST / 1e4
RANGE_TEST_FIRST = 1e-6


def height(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    """The rate at a time in epochs as a share of `hyper.lr`; `shape.kind` is traced.

    The kind's share is lifted to run from `floor` to 1 (a range test starts at `floor` instead),
    and multiplied by a linear ramp during the warm-up. cosine, one_cycle and range_test span the
    time after the warm-up; the others count their epochs from the start of the run. In the last
    `anneal` epochs it falls linearly from 1 to 0 instead, whatever the kind.
    """
    shares = [share(shape, epoch, epochs) for share in _SHARES.values()]
    share = _chosen(shape.kind, shares)
    ramp = jnp.where(shape.warmup > 0, epoch / jnp.maximum(shape.warmup, 1e-9), 1.0)
    lifted = jnp.where(_is(shape, "range_test"), share, shape.floor + (1.0 - shape.floor) * share)
    left = (epochs - epoch) / jnp.maximum(shape.anneal, 1e-9)
    return _chosen(_annealed(shape, epoch, epochs), [lifted * jnp.minimum(ramp, 1.0), left])


def times(shape: ScheduleShape, key: jax.Array, epochs: int, steps_per_epoch: int) -> jax.Array:
    """The step of the schedule that each step of the run is taken at, int32 `[step]`.

    Its own; where `shuffled` is k > 0, those before the anneal in the k-th random order of `key`:
    the rates of the run, and the momenta with them, are the same in another order.
    """
    steps = jnp.arange(epochs * steps_per_epoch)

    def mixed() -> jax.Array:
        order = jax.random.fold_in(key, jnp.asarray(shape.shuffled, jnp.int32))
        draws = jax.random.uniform(order, steps.shape)
        last = _annealed(shape, steps / steps_per_epoch, epochs)
        return jnp.argsort(jnp.where(last, 1.0, draws)).astype(steps.dtype)

    return lax.cond(jnp.asarray(shape.shuffled) > 0, mixed, lambda: steps)


def momentum_at(hyper: Hyper, epoch: jax.Array, epochs: float) -> jax.Array:
    """The momentum at a time in epochs: `hyper.momentum`, but in a one-cycle schedule.

    There it falls to `momentum_low` as the rate rises to its peak, and comes back with it (Smith &
    Topin 2018; `cycle_momentum` of `torch.optim.lr_scheduler.OneCycleLR`).
    """
    low = hyper.schedule.momentum_low
    swung = _swing(hyper.schedule, epoch, epochs, hyper.momentum, low, hyper.momentum)
    return _chosen(_is(hyper.schedule, "one_cycle"), [hyper.momentum, swung])


def _constant(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    return jnp.ones_like(epoch)


def _cosine(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    """Half a cosine from 1 after the warm-up to 0 at the end (Loshchilov & Hutter 2017, eq. 5)."""
    return _fall(_elapsed(shape, epoch, epochs))


def _triangular(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    """0 to 1 to 0 in every `period` epochs, which is 2 step sizes (Smith 2017)."""
    position = epoch / shape.period
    return 1.0 - jnp.abs(2.0 * (position - jnp.floor(position)) - 1.0)


def _step(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    """Times `factor` after every `period` epochs."""
    return jnp.power(shape.factor, _whole(epoch / shape.period))


def _exponential(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    """Times `factor` in the course of every epoch."""
    return jnp.power(shape.factor, epoch)


def _triangular2(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    """Triangles of which each is half as high as the one before (Smith 2017)."""
    cycle = jnp.floor(epoch / shape.period)
    return _triangular(shape, epoch, epochs) * jnp.exp2(-cycle)


def _exp_range(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    """Triangles under an exponential fall (Smith 2017; there `gamma` is per step)."""
    return _triangular(shape, epoch, epochs) * _exponential(shape, epoch, epochs)


def _sgdr(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    """Half cosines that restart at 1, each `growth` times as long (Loshchilov & Hutter 2017).

    From the second on they are `again` times as high.
    """
    excess = shape.growth - 1.0
    grows = excess > 0.0
    excess = jnp.where(grows, excess, 1.0)
    position = epoch / shape.period
    cycle = _whole(jnp.where(grows, jnp.log1p(position * excess) / jnp.log1p(excess), position))
    start = jnp.where(grows, jnp.expm1(cycle * jnp.log1p(excess)) / excess, cycle)
    height = jnp.where(cycle > 0.0, shape.again, 1.0)
    return height * _fall((position - start) / jnp.power(shape.growth, cycle))


def _one_cycle(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    """One rise to 1 and one fall far below where it began (Smith & Topin 2018).

    The form is that of `torch.optim.lr_scheduler.OneCycleLR`, cosines in two phases.
    """
    return _swing(shape, epoch, epochs, ONE_CYCLE_FIRST, 1.0, ONE_CYCLE_LAST)


def _range_test(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    """An exponential rise to 1 at the end, from `floor`, or 1e-6 without one (Smith 2017)."""
    first = jnp.where(shape.floor > 0.0, shape.floor, RANGE_TEST_FIRST)
    return jnp.power(first, 1.0 - _elapsed(shape, epoch, epochs))


_SHARES: dict[str, Share] = {
    "constant": _constant,
    "cosine": _cosine,
    "triangular": _triangular,
    "step": _step,
    "exponential": _exponential,
    "triangular2": _triangular2,
    "exp_range": _exp_range,
    "sgdr": _sgdr,
    "one_cycle": _one_cycle,
    "range_test": _range_test,
}


def _chosen(which: jax.Array | float, numbers: Sequence[jax.Array | float]) -> jax.Array:
    """`numbers[which]`, looked up in an array: XLA would copy a `where` into every consumer."""
    return jnp.stack(numbers)[jnp.asarray(which, jnp.int32)]


def _annealed(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    """Whether a time in epochs is one of the last `anneal`."""
    return epoch >= epochs - shape.anneal


def _is(shape: ScheduleShape, kind: str) -> jax.Array:
    return jnp.asarray(shape.kind, jnp.int32) == list(_SHARES).index(kind)


def _elapsed(shape: ScheduleShape, epoch: jax.Array, epochs: float) -> jax.Array:
    """The share of the time after the warm-up that has passed, in [0, 1]."""
    span = jnp.maximum(epochs - shape.warmup, 1e-9)
    return jnp.clip((epoch - shape.warmup) / span, 0.0, 1.0)


def _swing(
    shape: ScheduleShape, epoch: jax.Array, epochs: float, first: float, peak: float, last: float
) -> jax.Array:
    """Half a cosine from `first` to `peak` in the share `rise` of the time, and one to `last`."""
    elapsed = _elapsed(shape, epoch, epochs)
    rising = peak + (first - peak) * _fall(elapsed / shape.rise)
    falling = last + (peak - last) * _fall((elapsed - shape.rise) / (1.0 - shape.rise))
    return jnp.where(elapsed < shape.rise, rising, falling)


def _fall(share: jax.Array) -> jax.Array:
    """Half a cosine from 1 at 0 to 0 at 1."""
    return 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(share, 0.0, 1.0)))


def _whole(cycles: jax.Array) -> jax.Array:
    """The cycles that are over; one that float32 puts just before its end is over."""
    return jnp.floor(cycles + 1e-4)
