"""The optimiser of a run: optax transformations whose every coefficient is traced."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fishjax.schedules import height, momentum_at
from fishjax.sections import Optim
from fishjax.setup import Hyper

Rule = Callable[[Hyper, jax.Array], optax.GradientTransformation]


class Timed(NamedTuple):
    """step: of the schedule, the next one; inner: the state of the transformations."""

    step: jax.Array
    inner: optax.OptState


def optimiser(
    optim: Optim,
    hyper: Hyper,
    steps_per_epoch: int,
    place: Mapping[str, int] = MappingProxyType({}),
) -> optax.GradientTransformationExtraArgs:
    """`optim.kind` after clipping by the run's global norm, with weight decay of the kernels.

    The rules are those of `torch.optim` after `clip_grad_norm_`: SGD with undamped momentum, SGD
    with `nesterov`, Adam, AdamW and RMSprop. Decay "coupled" adds L2 to the clipped gradient, as
    torch does, "loss" adds it before the clip, as if it were part of the loss, and "decoupled"
    takes rate x decay x weight off the weight (Loshchilov & Hutter 2019), as adamw always does.

    The parts of the parameters whose `place` (see `nn.model.Model`) is below `hyper.frozen` get
    updates of 0, and their gradients do not count in the norm that is clipped. `update` takes the
    step of the schedule as `at`; without it, the one after that of the last update.
    """
    open_ = _Open(hyper.frozen, place)

    def rules(step: jax.Array) -> optax.GradientTransformation:
        epoch = step / steps_per_epoch
        momentum = momentum_at(hyper, epoch, optim.epochs)
        rate = hyper.lr * height(hyper.schedule, epoch, optim.epochs)
        parts = _ordered(
            "decoupled" if optim.kind == "adamw" else optim.decay,
            optax.add_decayed_weights(hyper.weight_decay, mask=_kernels),
            open_.clipped(hyper.clip),
            _RULES[optim.kind](hyper, momentum),
        )
        return optax.chain(*parts, open_.scaled(-rate))

    def init(params: optax.Params) -> Timed:
        first = jnp.int32(0)
        return Timed(first, rules(first).init(params))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        at: jax.Array | None = None,
        **others: Any,
    ) -> tuple[optax.Updates, Timed]:
        step = state.step if at is None else at
        updates, inner = rules(step).update(updates, state.inner, params)
        return updates, Timed(step + 1, inner)

    return optax.GradientTransformationExtraArgs(init, update)


class _Open(NamedTuple):
    """Which parts of the parameters are updated: not those placed below `frozen`.

    As one factor for each part, 1 or 0, on numbers that there is one of for each part anyway.
    """

    frozen: jax.Array | float
    place: Mapping[str, int]

    def clipped(self, largest: jax.Array | float) -> optax.GradientTransformation:
        """As `optax.clip_by_global_norm`, by the norm of what is updated."""

        def update(updates: Any, params: Any) -> Any:
            squares = jax.tree.map(lambda g: jnp.sum(jnp.square(g)), updates)
            norm = jnp.sqrt(sum(jax.tree.leaves(self._times(squares))))
            within = norm < largest
            return jax.tree.map(lambda g: jnp.where(within, g, g / norm * largest), updates)

        return optax.stateless(update)

    def scaled(self, factor: jax.Array) -> optax.GradientTransformation:
        """As `optax.scale`, by 0 where nothing is updated."""

        def update(updates: Any, params: Any) -> Any:
            factors = self._times({name: factor for name in updates})
            return {
                name: jax.tree.map(lambda u, f=factors[name]: f * u, part)
                for name, part in updates.items()
            }

        return optax.stateless(update)

    def _times(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """The scalars of each part, or 0 where it is frozen."""

        def open_(name: str) -> Any:
            return self.place.get(name, jnp.inf) >= self.frozen

        return {
            name: jax.tree.map(lambda x, name=name: jnp.where(open_(name), x, 0.0), part)
            for name, part in parts.items()
        }


def _ordered(
    place: str,
    decay: optax.GradientTransformation,
    clip: optax.GradientTransformation,
    rule: optax.GradientTransformation,
) -> Sequence[optax.GradientTransformation]:
    orders = {
        "loss": (decay, clip, rule),
        "coupled": (clip, decay, rule),
        "decoupled": (clip, rule, decay),
    }
    return orders[place]


def _sgd(hyper: Hyper, momentum: jax.Array) -> optax.GradientTransformation:
    return optax.trace(momentum)


def _nesterov(hyper: Hyper, momentum: jax.Array) -> optax.GradientTransformation:
    return optax.trace(momentum, nesterov=True)


def _adam(hyper: Hyper, momentum: jax.Array) -> optax.GradientTransformation:
    """optax raises a float to a whole power, which strict promotion of types refuses."""
    adam = optax.scale_by_adam(b1=momentum, b2=hyper.beta2, eps=hyper.epsilon)

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        with jax.numpy_dtype_promotion("standard"):
            return adam.update(updates, state, params)

    return optax.GradientTransformation(adam.init, update)


def _rmsprop(hyper: Hyper, momentum: jax.Array) -> optax.GradientTransformation:
    scaled = optax.scale_by_rms(hyper.beta2, hyper.epsilon, eps_in_sqrt=False)
    return optax.chain(scaled, optax.trace(momentum))


_RULES: dict[str, Rule] = {
    "sgd": _sgd,
    "nesterov": _nesterov,
    "adam": _adam,
    "adamw": _adam,
    "rmsprop": _rmsprop,
}


def _kernels(params: optax.Params) -> optax.Params:
    """True at the leaves that weight decay applies to: kernels, not biases or norms."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
