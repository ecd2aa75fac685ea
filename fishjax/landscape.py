"""The training loss around a network: its slope, its curvature, and the noise of its gradients.

All with batch statistics, without dropout, augmentation and weight decay, see `network.objective`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from fishjax.measure.curvature import extreme_eigenvalues, hessian_product, stability_limit
from fishjax.measure.flow import along_depth, cosine, decades, flow, relative, size
from fishjax.measure.noise import noise_scale
from fishjax.network import Network, Readings, objective, probes
from fishjax.schedules import height, momentum_at
from fishjax.sections import PROMPT

MICRO = 8


def slope(network: Network, before: Any) -> tuple[Readings, Any]:
    """What of `watch.also` is read at every evaluation off the probes' gradient, and the gradient.

    flow: probe_flow `[layer]`, gradient norm over weight norm; probe_flow_ratio and
    probe_flow_slope along the depth, see `measure.flow.along_depth`; probe_inner_flow_slope, the
    slope without the first layer, which alone reads images; probe_gradient_norm of the whole
    network. overshoot: the probes' loss after one plain gradient step at the rate of the last
    step (before the first, of that one), less the loss now, in nats. gradient_cosine: between this
    gradient and `before`, the one at the evaluation before; NaN where that is 0.

    Both are empty where none of these is watched.
    """
    also = network.setup.watch.also
    if not set(also) & (set(PROMPT) - {"cosine"}):
        return {}, ()
    params, loss_of = network.variables.params, objective(network)
    loss, gradient = jax.value_and_grad(loss_of)(params, probes(network))
    seen: Readings = {}
    if "flow" in also:
        layers = network.model.layers
        along = relative(flow(params, gradient, gradient, layers))["flow"]
        depth = along_depth(along[: network.model.deep])
        seen["probe_inner_flow_slope"] = decades(along[1 : network.model.deep])
        seen |= {"probe_flow": along, **{f"probe_{name}": x for name, x in depth.items()}}
        seen["probe_gradient_norm"] = size(gradient)
    if "gradient_cosine" in also:
        seen["gradient_cosine"] = cosine(gradient, before)
    if "overshoot" in also:
        rate, _ = _pace(network)
        moved = jax.tree.map(lambda p, g: p - rate * g, params, gradient)
        seen["overshoot"] = loss_of(moved, probes(network)) - loss
    return seen, gradient


def noise(network: Network) -> Readings:
    """The gradient noise scale of the training loss, from micro-batches of 8 of the probes.

    Each micro-batch has batch norm's statistics of its own, as a minibatch has in training, so
    that the big gradient is the mean of the small ones in every network. NaN with fewer than two.
    """
    some = probes(network)
    count = len(some) // MICRO
    if count < 2:
        nothing = jnp.float32(jnp.nan)
        return dict.fromkeys(("gradient_square", "gradient_noise", "noise_scale"), nothing)
    loss, at = _flat_loss(network)

    def add(sums: tuple, batch: jax.Array) -> tuple[tuple, None]:
        gradient = jax.grad(lambda x: loss(x, batch))(at)
        return (sums[0] + gradient, sums[1] + jnp.vdot(gradient, gradient)), None

    batches = some[: count * MICRO].reshape(count, MICRO)
    (total, squares), _ = lax.scan(add, (jnp.zeros_like(at), jnp.float32(0.0)), batches)
    mean = total / count
    return noise_scale(squares / count, jnp.vdot(mean, mean), MICRO, count * MICRO)


def curvature(network: Network) -> Readings:
    """sharpness, least_eigenvalue: the extreme eigenvalues of the Hessian on the probes.

    sharpness_error, least_eigenvalue_error: some eigenvalue is within it; the least one is at most
    least_eigenvalue. sharpness_ratio: sharpness over the stability limit at the rate and momentum
    of the last step; NaN for adam, adamw and rmsprop. full_gradient_norm: see
    `_full_gradient_norm`.
    """
    loss, at = _flat_loss(network)
    some = probes(network)
    product = hessian_product(lambda x: loss(x, some), at)
    start = jax.random.normal(jax.random.key(0), at.shape)
    (sharpness, error), (least, least_error) = extreme_eigenvalues(product, start)
    limit = stability_limit(network.setup.optim.kind, *_pace(network))
    return {
        "sharpness": sharpness,
        "sharpness_error": error,
        "sharpness_ratio": sharpness / limit,
        "least_eigenvalue": least,
        "least_eigenvalue_error": least_error,
        "full_gradient_norm": _full_gradient_norm(network),
    }


def _full_gradient_norm(network: Network) -> jax.Array:
    """The norm of the gradient of the mean loss over the training subset.

    In minibatches of the run's own size, each with its own batch statistics, and the rest.
    """
    loss, at = _flat_loss(network)
    train, width = network.feed.train, network.setup.optim.batch_size
    whole = len(train) // width * width

    def add(total: jax.Array, batch: jax.Array) -> tuple[jax.Array, None]:
        return total + len(batch) * jax.grad(lambda x: loss(x, batch))(at), None

    total, _ = lax.scan(add, jnp.zeros_like(at), train[:whole].reshape(-1, width))
    if whole < len(train):
        total, _ = add(total, train[whole:])
    return jnp.linalg.norm(total) / len(train)


def _pace(network: Network) -> tuple[jax.Array, jax.Array]:
    """Rate and momentum of the last step; before the first, of that one."""
    hyper, epochs = network.hyper, network.setup.optim.epochs
    epoch = network.when / network.setup.steps_per_epoch
    rate = hyper.lr * height(hyper.schedule, epoch, epochs)
    return rate, momentum_at(hyper, epoch, epochs)


def _flat_loss(
    network: Network,
) -> tuple[Callable[[jax.Array, jax.Array], jax.Array], jax.Array]:
    """The training loss of a vector of all parameters on some images, and the vector now."""
    at, unravel = ravel_pytree(network.variables.params)
    loss_of = objective(network)
    return lambda vector, index: loss_of(unravel(vector), index), at
