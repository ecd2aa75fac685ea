"""Every optimiser against torch's, and against its rule written out in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fishjax.optim import optimiser
from fishjax.schedules import height
from tests.runs import as_arrays, tiny

STEPS_PER_EPOCH, EPOCHS = 5, 5
TOTAL = STEPS_PER_EPOCH * EPOCHS
START = {"kernel": [[1.0, -2.0], [0.5, 0.3]], "bias": [3.0, -0.2]}
SETTINGS = {
    "optim.epochs": EPOCHS,
    "watch.every": 1,
    "schedule.kind": "one_cycle",
    "schedule.momentum_low": 0.7,
    "hyper.lr": 0.05,
    "hyper.momentum": 0.9,
    "hyper.beta2": 0.95,
    "hyper.epsilon": 1e-3,
    "hyper.weight_decay": 0.3,
    "hyper.clip": 0.8,
}


def gradients(seed=0):
    """Gradients of norms around the clip's, `TOTAL` of them."""
    rng = np.random.default_rng(seed)
    return [
        {name: rng.normal(0, 0.4, np.shape(value)) for name, value in START.items()}
        for _ in range(TOTAL)
    ]


def lowered(**changes):
    dotted = {key.replace(".", "__"): value for key, value in SETTINGS.items()}
    return tiny(**{**dotted, **changes})


def followed(tx):
    """Parameters after every step, `[step, ...]`."""
    params = {"conv0": {name: jnp.float32(value) for name, value in START.items()}}

    def step(carry, grads):
        params, state = carry
        updates, state = tx.update({"conv0": grads}, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params["conv0"]

    stacked = jax.tree.map(lambda *leaves: jnp.float32(np.stack(leaves)), *gradients())
    return jax.jit(lambda: jax.lax.scan(step, (params, tx.init(params)), stacked)[1])()


def ours(**changes):
    """What `optimiser` makes of the gradients, and the numbers it was fed."""
    setup, hyper = lowered(**changes)
    return followed(optimiser(setup.optim, as_arrays(hyper), STEPS_PER_EPOCH)), hyper


def one_cycle(first, peak, last, share, rise=0.25):
    low, high, at = (first, peak, share / rise)
    if share >= rise:
        low, high, at = (peak, last, (share - rise) / (1 - rise))
    return high + (low - high) * 0.5 * (1 + math.cos(math.pi * at))


def rates(hyper):
    """Rate and momentum at every step of the one-cycle schedule."""
    for step in range(TOTAL):
        share = step / TOTAL
        momentum = one_cycle(hyper.momentum, hyper.schedule.momentum_low, hyper.momentum, share)
        yield hyper.lr * one_cycle(1 / 25, 1, 1 / 25e4, share), momentum


def torch_rule(torch, kind, hyper, groups):
    """torch's optimiser, and how to set its momentum."""
    h = hyper
    adam = {"lr": h.lr, "betas": (h.momentum, h.beta2), "eps": h.epsilon}
    sgd = {"lr": h.lr, "momentum": h.momentum}
    make = {
        "sgd": lambda: torch.optim.SGD(groups, **sgd),
        "nesterov": lambda: torch.optim.SGD(groups, nesterov=True, **sgd),
        "adam": lambda: torch.optim.Adam(groups, **adam),
        "adamw": lambda: torch.optim.AdamW(groups, **adam),
        "rmsprop": lambda: torch.optim.RMSprop(groups, alpha=h.beta2, eps=h.epsilon, **sgd),
    }
    opt = make[kind]()

    def tune(rate, momentum):
        for group in opt.param_groups:
            group["lr"] = rate
            if "betas" in group:
                group["betas"] = (momentum, h.beta2)
            else:
                group["momentum"] = momentum

    return opt, tune


@pytest.mark.parametrize("decay", ["coupled", "loss", "decoupled"])
@pytest.mark.parametrize("kind", ["sgd", "nesterov", "adam", "adamw", "rmsprop"])
def test_every_optimiser_follows_torchs_over_a_one_cycle_run(kind, decay):
    """torch has no decay "loss" and, but for AdamW, none "decoupled": both are done by hand."""
    torch = pytest.importorskip("torch")
    got, hyper = ours(optim__kind=kind, optim__decay=decay)
    own = kind == "adamw" or decay == "coupled"
    weights = {
        n: torch.nn.Parameter(torch.tensor(v, dtype=torch.float64)) for n, v in START.items()
    }
    groups = [
        {"params": [weights["kernel"]], "weight_decay": hyper.weight_decay * own},
        {"params": [weights["bias"]], "weight_decay": 0.0},
    ]
    opt, tune = torch_rule(torch, kind, hyper, groups)
    for step, (grads, (rate, momentum)) in enumerate(zip(gradients(), rates(hyper), strict=True)):
        tune(rate, momentum)
        for name, weight in weights.items():
            weight.grad = torch.tensor(grads[name])
        kernel = weights["kernel"]
        if decay == "loss" and not own:
            kernel.grad += hyper.weight_decay * kernel.detach()
        torch.nn.utils.clip_grad_norm_(weights.values(), hyper.clip)
        before = kernel.detach().clone()
        opt.step()
        if decay == "decoupled" and not own:
            kernel.data -= rate * hyper.weight_decay * before
        for name, weight in weights.items():
            np.testing.assert_allclose(got[name][step], weight.detach(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("clip", [math.inf, 0.5])
def test_sgd_clips_decays_accumulates_and_scales(clip):
    """The rule written out, in case there is no torch."""
    got, hyper = ours(hyper__clip=clip, schedule__kind="cosine")
    value = {name: np.asarray(start) for name, start in START.items()}
    moment = {name: np.zeros_like(start) for name, start in value.items()}
    for step, grads in enumerate(gradients()):
        norm = math.sqrt(sum(float(np.sum(g**2)) for g in grads.values()))
        rate = hyper.lr * 0.5 * (1 + math.cos(math.pi * step / TOTAL))
        for name, gradient in grads.items():
            decayed = gradient * min(1.0, clip / norm)
            if name == "kernel":
                decayed = decayed + hyper.weight_decay * value[name]
            moment[name] = hyper.momentum * moment[name] + decayed
            value[name] = value[name] - rate * moment[name]
            np.testing.assert_allclose(got[name][step], value[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["constant", "cosine"])
def test_sgd_steps_bit_for_bit_as_optax_originals_do(kind):
    """The chain that was fishjax's only optimiser."""
    got, hyper = ours(schedule__kind=kind)
    lr, shape = jnp.float32(hyper.lr), as_arrays(hyper).schedule
    before = optax.chain(
        optax.clip_by_global_norm(jnp.float32(hyper.clip)),
        optax.add_decayed_weights(
            jnp.float32(hyper.weight_decay), mask={"conv0": {"kernel": True, "bias": False}}
        ),
        optax.trace(jnp.float32(hyper.momentum)),
        optax.scale_by_schedule(lambda t: -lr * height(shape, t / STEPS_PER_EPOCH, EPOCHS)),
    )
    jax.tree.map(np.testing.assert_array_equal, got, followed(before))


def state_size(kind):
    setup, hyper = tiny(optim__kind=kind)
    params = {"conv0": {"kernel": jnp.zeros((3, 5)), "bias": jnp.zeros(5)}}
    state = optimiser(setup.optim, as_arrays(hyper), 2).init(params)
    return sum(leaf.size for leaf in jax.tree.leaves(state))


def test_the_state_is_the_moments_and_the_steps():
    weights = 20
    assert state_size("sgd") == state_size("nesterov") == weights + 1
    assert state_size("adam") == state_size("adamw") == 2 * weights + 2
    assert state_size("rmsprop") == 2 * weights + 1


@pytest.mark.parametrize("kind", ["adam", "rmsprop"])
def test_no_momentum_and_gradients_of_zero_are_finite(kind):
    setup, hyper = tiny(optim__kind=kind, hyper__momentum=0.0)
    params = {"conv0": {"kernel": jnp.zeros((3, 5))}}
    tx = optimiser(setup.optim, as_arrays(hyper), 2)
    updates, _ = tx.update(params, tx.init(params), params)
    np.testing.assert_array_equal(updates["conv0"]["kernel"], 0.0)
