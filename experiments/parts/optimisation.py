"""Optimisers and schedules beside `torch.optim`, over whole runs."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.optim import lr_scheduler

from experiments.parts.part import Pair, Part
from fishjax.config import Config
from fishjax.optim import optimiser
from fishjax.schedules import height, momentum_at, times
from fishjax.settings import override
from fishjax.setup import Hyper, Setup, lower

STEPS, PER_EPOCH, EPOCHS = 40, 4, 10
RATE, MOMENTUM, BETA2, EPSILON, DECAY, CLIP = 0.05, 0.8, 0.95, 1e-4, 0.1, 0.7
EXACT = 2e-6
COEFFICIENTS = {
    "hyper.lr": RATE,
    "hyper.momentum": MOMENTUM,
    "hyper.beta2": BETA2,
    "hyper.epsilon": EPSILON,
    "hyper.weight_decay": DECAY,
    "hyper.clip": CLIP,
    "optim.epochs": EPOCHS,
}
Torch = Callable[[list[torch.Tensor], float], torch.optim.Optimizer]
Scheduler = Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]


def _lowered(settings: Mapping[str, Any]) -> tuple[Setup, Hyper]:
    setup, hyper = lower(override(Config(), {**COEFFICIENTS, **settings}), 3)
    return setup, jax.tree.map(jnp.float32, hyper)


def _gradients() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(STEPS, 5)).astype(np.float32)


def optimised(settings: Mapping[str, Any], make: Torch, decay: str) -> Pair:
    """A kernel over STEPS updates with random gradients, clipped, decayed, at a constant rate."""
    setup, hyper = _lowered(settings)
    rule = optimiser(setup.optim, hyper, PER_EPOCH)
    params = {"layer": {"kernel": jnp.arange(1.0, 6.0)}}

    def step(carry: Any, gradient: jax.Array) -> Any:
        params, state = carry
        updates, state = rule.update({"layer": {"kernel": gradient}}, state, params)
        moved: Any = optax.apply_updates(params, updates)
        return (moved, state), moved["layer"]["kernel"]

    _, ours = jax.lax.scan(step, (params, rule.init(params)), jnp.asarray(_gradients()))
    weight = torch.arange(1.0, 6.0, dtype=torch.float64, requires_grad=True)
    theirs, torch_rule = [], make([weight], 0.0 if decay != "coupled" else DECAY)
    for gradient in _gradients():
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        if decay == "loss":
            weight.grad += DECAY * weight.detach()
        torch.nn.utils.clip_grad_norm_([weight], CLIP)
        if decay == "decoupled":
            with torch.no_grad():
                weight *= 1 - RATE * DECAY
        torch_rule.step()
        theirs.append(weight.detach().numpy().copy())
    return ours, np.stack(theirs)


def scheduled(settings: Mapping[str, Any], make: Scheduler) -> Pair:
    """Rate and momentum at every step of a run."""
    _, hyper = _lowered(settings)
    times = jnp.arange(STEPS) / PER_EPOCH
    rates = jax.jit(jax.vmap(lambda t: hyper.lr * height(hyper.schedule, t, EPOCHS)))(times)
    momenta = jax.jit(jax.vmap(lambda t: momentum_at(hyper, t, EPOCHS)))(times)
    rule = torch.optim.SGD([torch.zeros(1)], lr=RATE, momentum=MOMENTUM)
    theirs, schedule = [], make(rule)
    for _ in range(STEPS):
        (group,) = rule.param_groups
        theirs.append((group["lr"], group["momentum"]))
        rule.step()
        schedule.step()
    return np.stack([rates, momenta], axis=1), np.asarray(theirs)


def held() -> Pair:
    """Two layers of which the first is frozen: PyTorch's, whose first weight takes no gradient."""
    setup, hyper = _lowered({"optim.frozen": 1})
    rule = optimiser(setup.optim, hyper, PER_EPOCH, {"first": 0, "second": 1})
    params = {name: {"kernel": jnp.arange(1.0, 6.0)} for name in ("first", "second")}

    def step(carry: Any, gradient: jax.Array) -> Any:
        params, state = carry
        gradients = {name: {"kernel": k * gradient} for k, name in enumerate(params, 1)}
        updates, state = rule.update(gradients, state, params)
        moved: Any = optax.apply_updates(params, updates)
        return (moved, state), jnp.stack([layer["kernel"] for layer in moved.values()])

    _, ours = jax.lax.scan(step, (params, rule.init(params)), jnp.asarray(_gradients()))
    first = torch.arange(1.0, 6.0, dtype=torch.float64)
    second = first.clone().requires_grad_()
    theirs, torch_rule = [], torch.optim.SGD([second], RATE, MOMENTUM, weight_decay=DECAY)
    for gradient in _gradients():
        second.grad = 2 * torch.tensor(gradient, dtype=torch.float64)
        torch.nn.utils.clip_grad_norm_([second], CLIP)
        torch_rule.step()
        theirs.append(np.stack([first.numpy(), second.detach().numpy()]))
    return ours, np.stack(theirs)


def reordered() -> Pair:
    """The rates of a shuffled run, sorted, beside those of the run as it is."""
    settings = {"schedule.kind": "cosine", "schedule.anneal": 3.0}
    _, plain = _lowered(settings)
    _, mixed = _lowered({**settings, "schedule.shuffled": 1})
    when = times(mixed.schedule, jax.random.key(0), EPOCHS, PER_EPOCH)
    steps = (when, jnp.arange(STEPS))
    rates = (
        jax.vmap(lambda t, h=h: height(h.schedule, t / PER_EPOCH, EPOCHS))(at)
        for h, at in zip((mixed, plain), steps, strict=True)
    )
    ours, theirs = (np.sort(np.asarray(x)) for x in rates)
    return ours, theirs


def _sgdr_again(epoch: float) -> float:
    """Cycles of 2 epochs, those after the first 0.3 times as high."""
    height = 1.0 if epoch < 2 else 0.3
    return height * 0.5 * (1 + math.cos(math.pi * (epoch % 2) / 2))


def _by_hand(share: Callable[[float], float]) -> Scheduler:
    """A share of the rate by time in epochs."""
    return lambda rule: lr_scheduler.LambdaLR(rule, lambda step: share(step / PER_EPOCH))


def _cyclic(mode: Any, gamma: float = 1.0) -> Scheduler:
    return lambda rule: lr_scheduler.CyclicLR(
        rule, 0.0, RATE, 2 * PER_EPOCH, mode=mode, gamma=gamma, cycle_momentum=False
    )


def _one_cycle(rule: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
    """PyTorch reaches its last rate at step STEPS - 1, we at the end of that step."""
    return lr_scheduler.OneCycleLR(
        rule, RATE, total_steps=STEPS + 1, pct_start=11 / 41, base_momentum=0.6,
        max_momentum=MOMENTUM,
    )  # fmt: skip


def _rule(name: str, settings: Mapping[str, Any], make: Torch, decay: str = "coupled") -> Part:
    check = functools.partial(optimised, settings, make, decay)
    reference = f"torch.optim, {STEPS} clipped steps"
    return Part("optimiser", name, reference, check, EXACT, settings)


def _schedule(kind: str, settings: Mapping[str, Any], make: Scheduler, reference: str) -> Part:
    settings = {"schedule.kind": kind, **settings}
    check = functools.partial(scheduled, settings, make)
    return Part("schedule", kind, reference, check, EXACT, settings)


_PERIOD = {"schedule.period": 4.0}
OPTIMISATION: tuple[Part, ...] = (
    _rule("sgd", {}, lambda w, wd: torch.optim.SGD(w, RATE, MOMENTUM, weight_decay=wd)),
    _rule(
        "nesterov",
        {"optim.kind": "nesterov"},
        lambda w, wd: torch.optim.SGD(w, RATE, MOMENTUM, weight_decay=wd, nesterov=True),
    ),
    _rule(
        "adam",
        {"optim.kind": "adam"},
        lambda w, wd: torch.optim.Adam(w, RATE, (MOMENTUM, BETA2), EPSILON, wd),
    ),
    _rule(
        "adamw",
        {"optim.kind": "adamw"},
        lambda w, wd: torch.optim.AdamW(w, RATE, (MOMENTUM, BETA2), EPSILON, DECAY),
        "own",
    ),
    _rule(
        "rmsprop",
        {"optim.kind": "rmsprop"},
        lambda w, wd: torch.optim.RMSprop(w, RATE, BETA2, EPSILON, wd, MOMENTUM),
    ),
    _rule(
        "L2 in the loss",
        {"optim.decay": "loss"},
        lambda w, wd: torch.optim.SGD(w, RATE, MOMENTUM),
        "loss",
    ),
    _rule(
        "decoupled decay",
        {"optim.decay": "decoupled"},
        lambda w, wd: torch.optim.SGD(w, RATE, MOMENTUM),
        "decoupled",
    ),
    _schedule("constant", {}, lambda rule: lr_scheduler.ConstantLR(rule, 1.0), "torch ConstantLR"),
    _schedule(
        "step",
        {**_PERIOD, "schedule.factor": 0.3},
        lambda rule: lr_scheduler.StepLR(rule, 4 * PER_EPOCH, 0.3),
        "torch StepLR",
    ),
    _schedule(
        "exponential",
        {"schedule.factor": 0.7},
        lambda rule: lr_scheduler.ExponentialLR(rule, 0.7 ** (1 / PER_EPOCH)),
        "torch ExponentialLR",
    ),
    _schedule(
        "cosine",
        {},
        lambda rule: lr_scheduler.CosineAnnealingLR(rule, STEPS),
        "torch CosineAnnealingLR",
    ),
    Part(
        "schedule",
        "linear warm-up",
        "its definition",
        functools.partial(
            scheduled, {"schedule.warmup": 3.0}, _by_hand(lambda epoch: min(epoch / 3, 1.0))
        ),
        EXACT,
        {"schedule.warmup": 3.0},
    ),
    Part(
        "schedule",
        "linear anneal",
        "its definition",
        functools.partial(
            scheduled, {"schedule.anneal": 4.0}, _by_hand(lambda epoch: min((10 - epoch) / 4, 1.0))
        ),
        EXACT,
        {"schedule.anneal": 4.0},
    ),
    Part(
        "schedule",
        "rates in another order",
        "the same rates, sorted",
        reordered,
        0.0,
        {"schedule.kind": "cosine", "schedule.shuffled": 1},
    ),
    Part(
        "optimiser",
        "frozen layers",
        f"torch.optim, {STEPS} clipped steps",
        held,
        EXACT,
        {"optim.frozen": 1},
    ),
    _schedule("triangular", _PERIOD, _cyclic("triangular"), "torch CyclicLR"),
    _schedule("triangular2", _PERIOD, _cyclic("triangular2"), "torch CyclicLR"),
    _schedule(
        "exp_range",
        {**_PERIOD, "schedule.factor": 0.7},
        _cyclic("exp_range", 0.7 ** (1 / PER_EPOCH)),
        "torch CyclicLR",
    ),
    _schedule(
        "sgdr",
        {"schedule.period": 1.0, "schedule.growth": 2.0},
        lambda rule: lr_scheduler.CosineAnnealingWarmRestarts(rule, PER_EPOCH, 2),
        "torch CosineAnnealingWarmRestarts",
    ),
    Part(
        "schedule",
        "sgdr, lower cycles",
        "its definition",
        functools.partial(
            scheduled,
            {"schedule.kind": "sgdr", "schedule.period": 2.0, "schedule.again": 0.3},
            _by_hand(_sgdr_again),
        ),
        EXACT,
        {"schedule.kind": "sgdr", "schedule.period": 2.0, "schedule.again": 0.3},
    ),
    _schedule(
        "one_cycle",
        {"schedule.rise": 0.25, "schedule.momentum_low": 0.6},
        _one_cycle,
        "torch OneCycleLR, momentum too",
    ),
    _schedule(
        "range_test",
        {"schedule.floor": 1e-3},
        _by_hand(lambda epoch: math.pow(1e-3, 1 - epoch / EPOCHS)),
        "its definition",
    ),
)
