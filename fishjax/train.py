"""One run as pure functions: `train(setup, hyper, key, feed)` and the pieces it is made of.

The engine maps `begin`, `advance`, `assess` and `finish` over runs; `train` is their composition.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fishjax.augment import augmented
from fishjax.evaluate import Evaluation, Examination, examine, read
from fishjax.feed import AUGMENT, DROPOUT, INIT, RATES, Feed, class_counts, drawn, images, stream
from fishjax.further import further, if_due
from fishjax.landscape import slope
from fishjax.measure.flow import along_depth, cosine, flow, relative
from fishjax.measure.units import History, follow, revival, silent_share, unit_shares, unseen
from fishjax.network import Network
from fishjax.nn.losses import training_loss
from fishjax.nn.model import Model, Output, Variables
from fishjax.nn.models import build
from fishjax.optim import optimiser
from fishjax.schedules import times
from fishjax.setup import Hyper, Setup


class State(NamedTuple):
    """Where a run stands.

    bad_step: the first step whose loss or update was not finite, from which on the network is
    frozen as it was before that step; -1 while there is none. when: the step of the schedule that
    the last step was taken at. last: the updates of the step before, gradient: of the probes at the
    evaluation before; 0 before the first, `()` where nothing watches them.
    """

    variables: Variables
    opt: optax.OptState
    step: jax.Array
    bad_step: jax.Array
    when: jax.Array
    history: History
    last: Any
    gradient: Any


class Watched(NamedTuple):
    """What the probes saw, each `[epoch or step, layer]` as `setup.watch` says, empty where off.

    flow: over layers with a kernel, see `measure.flow.relative`. depth: `[epoch or step]`, the
    flow along the convolutions, see `measure.flow.along_depth`. units: over hidden layers, the
    `silent_share` of units active on no image of the minibatch. steps: `[epoch]`, update_cosine,
    the cosine between a step's updates and those of the step before, over the whole network; an
    epoch's mean leaves out a step without one.
    """

    flow: dict[str, jax.Array]
    depth: dict[str, jax.Array]
    units: dict[str, jax.Array]
    steps: dict[str, jax.Array]


class Trace(NamedTuple):
    """What the steps of some epochs showed: mean training loss `[epoch]` in nats, and probes."""

    loss: jax.Array
    watched: Watched


def train(
    setup: Setup, hyper: Hyper, key: jax.Array, feed: Feed
) -> tuple[State, Trace, Evaluation, Examination]:
    """One whole run.

    Trace leaves are `[chunk, epoch or step, ...]` with `watch.every` epochs to a chunk;
    evaluations `[1 + chunk, ...]`, the first one before any step.
    """
    state, first = assess(setup, hyper, feed, begin(setup, hyper, key))

    def chunk(state: State, _: None) -> tuple[State, tuple[Trace, Evaluation]]:
        state, trace = advance(setup, hyper, key, feed, state)
        state, evaluation = assess(setup, hyper, feed, state)
        return state, (trace, evaluation)

    state, (trace, rest) = lax.scan(chunk, state, None, setup.chunks)
    evaluations = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)
    return state, trace, evaluations, finish(setup, hyper, key, feed, state)


def begin(setup: Setup, hyper: Hyper, key: jax.Array) -> State:
    """The state before the first step."""
    model = build(setup)
    variables = model.init(stream(key, INIT), hyper)
    return State(
        variables=variables,
        opt=_optimiser(setup, model, hyper).init(variables.params),
        step=jnp.int32(0),
        bad_step=jnp.int32(-1),
        when=jnp.int32(0),
        history=unseen(sum(model.units)),
        last=_kept(setup, "cosine", jax.tree.map(jnp.zeros_like, variables.params)),
        gradient=_kept(setup, "gradient_cosine", jax.tree.map(jnp.zeros_like, variables.params)),
    )


def advance(
    setup: Setup, hyper: Hyper, key: jax.Array, feed: Feed, state: State
) -> tuple[State, Trace]:
    """`watch.every` epochs of steps."""
    model = build(setup)
    epochs, steps, size = setup.watch.every, setup.steps_per_epoch, setup.optim.batch_size
    first = state.step // steps
    counts = class_counts(feed, setup.classes)
    order = jax.vmap(lambda epoch: drawn(feed, hyper, key, first + epoch, counts))(
        jnp.arange(epochs)
    )
    batches = order[:, : steps * size].reshape(epochs * steps, size)
    whole = times(hyper.schedule, stream(key, RATES), setup.optim.epochs, steps)
    when = lax.dynamic_slice_in_dim(whole, state.step, epochs * steps)

    def body(state: State, now: tuple) -> tuple[State, tuple[jax.Array, Watched]]:
        return step(setup, model, hyper, key, feed, counts, state, *now)

    state, (loss, watched) = lax.scan(body, state, (batches, when))
    resolved = Watched(
        _resolve(watched.flow, setup.watch.flow, epochs),
        _resolve(watched.depth, setup.watch.flow, epochs),
        _resolve(watched.units, setup.watch.units, epochs),
        {name: jnp.nanmean(x.reshape(epochs, -1), axis=1) for name, x in watched.steps.items()},
    )
    return state, Trace(jnp.mean(loss.reshape(epochs, steps), axis=1), resolved)


def step(
    setup: Setup,
    model: Model,
    hyper: Hyper,
    key: jax.Array,
    feed: Feed,
    counts: jax.Array,
    state: State,
    batch: jax.Array,
    when: jax.Array,
) -> tuple[State, tuple[jax.Array, Watched]]:
    """One minibatch of indices `[batch]`: the next state, its loss, and what is watched of it.

    counts: see `feed.class_counts`. when: the step of the schedule, see `schedules.times`.
    """
    pixels = images(feed, batch)
    targets = jax.nn.one_hot(feed.labels[batch], setup.classes)
    if setup.augment:
        draws = jax.random.fold_in(stream(key, AUGMENT), state.step)
        pixels, targets = augmented(setup.augment, hyper.augment, draws, pixels, targets)
    drop = jax.random.fold_in(stream(key, DROPOUT), state.step)
    params = state.variables.params

    def loss_of(params: Any) -> tuple[jax.Array, Output]:
        now = Variables(params, state.variables.stats)
        out = model.apply(now, pixels, hyper, train=True, key=drop)
        return training_loss(out.logits, targets, hyper.loss, counts), out

    (loss, out), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
    updates, opt = _optimiser(setup, model, hyper).update(grads, state.opt, params, at=when)
    stepped: Any = optax.apply_updates(params, updates)
    moved = Variables(stepped, out.stats)
    finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(updates))
    going = finite & (state.bad_step < 0)
    variables, opt = jax.tree.map(
        lambda new, old: jnp.where(going, new, old), (moved, opt), (state.variables, state.opt)
    )
    bad_step = jnp.where(finite | (state.bad_step >= 0), state.bad_step, state.step)
    following = state._replace(
        variables=variables,
        opt=opt,
        step=state.step + 1,
        bad_step=bad_step,
        when=when,
        last=_kept(setup, "cosine", updates),
    )
    return following, (loss, _watch(setup, model, params, grads, updates, state.last, out))


def assess(setup: Setup, hyper: Hyper, feed: Feed, state: State) -> tuple[State, Evaluation]:
    """Reads the training, validation and test images, follows the units, measures further."""
    model = build(setup)
    splits, activity, flipped = read(model, hyper, feed, state.variables)
    history = follow(state.history, activity)
    shares = unit_shares(history, activity, model.units)
    network = _network(setup, hyper, feed, state)
    sloping, gradient = slope(network, state.gradient)
    evaluation = Evaluation(*splits, flipped, shares, revival(history), sloping, if_due(network))
    following = state._replace(history=history, gradient=_kept(setup, "gradient_cosine", gradient))
    return following, evaluation


def finish(setup: Setup, hyper: Hyper, key: jax.Array, feed: Feed, state: State) -> Examination:
    """The measures that are read once, of the last state, and the last of the further ones."""
    seen = examine(build(setup), hyper, key, feed, state.variables)
    return seen._replace(further=further(_network(setup, hyper, feed, state)))


def _network(setup: Setup, hyper: Hyper, feed: Feed, state: State) -> Network:
    return Network(setup, build(setup), hyper, feed, state.variables, state.step, state.when)


def _optimiser(setup: Setup, model: Model, hyper: Hyper) -> optax.GradientTransformationExtraArgs:
    return optimiser(setup.optim, hyper, setup.steps_per_epoch, model.place)


def _kept(setup: Setup, measure: str, tree: Any) -> Any:
    """What a measure of `watch.also` compares its next with; nothing where it is off."""
    return tree if measure in setup.watch.also else ()


def _watch(
    setup: Setup, model: Model, params: Any, grads: Any, updates: Any, last: Any, out: Output
) -> Watched:
    """The step's statistics; nothing is computed for a probe that is off.

    They are read behind a barrier: fused with the step, they would change its last digits.
    """
    params, grads, updates, taps = lax.optimization_barrier(
        (params, grads, updates, dict(out.taps))
    )
    seen_flow, seen_depth, seen_units, seen_steps = {}, {}, {}, {}
    if setup.watch.flow != "off":
        seen_flow = relative(flow(params, grads, updates, model.layers))
        seen_depth = along_depth(seen_flow["flow"][: model.deep])
    if setup.watch.units != "off":
        silent = [silent_share(taps[layer]) for layer in model.hidden]
        seen_units = {"silent_share": jnp.stack(silent)}
    if "cosine" in setup.watch.also:
        seen_steps = {"update_cosine": cosine(updates, last)}
    return Watched(seen_flow, seen_depth, seen_units, seen_steps)


def _resolve(seen: dict[str, jax.Array], resolution: str, epochs: int) -> dict[str, jax.Array]:
    """`[step, ...]` as it is, or averaged over each epoch to `[epoch, ...]`."""
    if resolution == "step":
        return seen
    return {name: jnp.mean(x.reshape(epochs, -1, *x.shape[1:]), axis=1) for name, x in seen.items()}
