"""Every schedule against its closed form in float64, and against torch and optax, step by step."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fishjax.schedules import height, momentum_at, times
from fishjax.sections import Schedule
from fishjax.setup import choices
from tests.runs import as_arrays, tiny

KINDS = choices(Schedule, "kind")
EPOCHS, STEPS = 12, 7
TOTAL = EPOCHS * STEPS
LR, MOMENTUM = 0.3, 0.95
TIMES = np.arange(TOTAL) / STEPS


def run(**changes):
    """Heights and momenta at every step of a run of EPOCHS epochs of STEPS steps."""
    schedule = {f"schedule__{name}": value for name, value in changes.items()}
    _, hyper = tiny(optim__epochs=EPOCHS, hyper__momentum=MOMENTUM, **schedule)

    def both(hyper, step):
        epoch = step / STEPS
        return height(hyper.schedule, epoch, EPOCHS), momentum_at(hyper, epoch, EPOCHS)

    return jitted(both)(as_arrays(hyper), jnp.arange(TOTAL))


_COMPILED = {}


def jitted(both):
    """One compilation for all tests: every number of a schedule is traced."""
    return _COMPILED.setdefault("both", jax.jit(jax.vmap(both, in_axes=(None, 0))))


def fall(share):
    return 0.5 * (1 + math.cos(math.pi * min(max(share, 0), 1)))


def one_cycle(first, peak, last, rise, share):
    if share < rise:
        return peak + (first - peak) * fall(share / rise)
    return last + (peak - last) * fall((share - rise) / (1 - rise))


def sgdr(t, period, growth):
    """Cycle by cycle, without a logarithm."""
    length = period
    while t >= length - 1e-9:
        t, length = t - length, length * growth
    return fall(t / length)


def closed_form(t, kind, period=10.0, warmup=0.0, floor=0.0, factor=0.5, growth=1.0, rise=0.25):
    share = min(max((t - warmup) / (EPOCHS - warmup), 0), 1)
    cycle = math.floor(1 + t / period + 1e-12)
    triangle = max(0, 1 - abs(2 * t / period - 2 * cycle + 1))
    shape = {
        "constant": 1.0,
        "cosine": fall(share),
        "triangular": triangle,
        "step": factor ** (cycle - 1),
        "exponential": factor**t,
        "triangular2": triangle / 2 ** (cycle - 1),
        "exp_range": triangle * factor**t,
        "sgdr": sgdr(t, period, growth),
        "one_cycle": one_cycle(1 / 25, 1, 1 / 25e4, rise, share),
        "range_test": (floor or 1e-6) ** (1 - share),
    }[kind]
    ramp = min(t / warmup, 1) if warmup else 1.0
    return (shape if kind == "range_test" else floor + (1 - floor) * shape) * ramp


NUMBERS = [
    {},
    {"period": 3.0, "warmup": 2.0, "floor": 0.1, "factor": 0.9, "growth": 2.0, "rise": 0.4},
    {"period": 0.7, "warmup": 1.5, "factor": 0.1, "growth": 1.3, "rise": 0.05},
    {"period": 1.0, "floor": 1e-4, "factor": 1.0, "growth": 1.001, "rise": 0.9},
    {"period": 0.75, "floor": 1.0, "growth": 16.0},
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("numbers", NUMBERS)
def test_every_schedule_equals_its_closed_form(kind, numbers):
    """Time and its position in a period are float32, and a triangle's slope is 2 a period."""
    got, _ = run(kind=kind, **numbers)
    expected = [closed_form(t, kind, **numbers) for t in TIMES]
    rounding = 4 * EPOCHS * 2**-24 / numbers.get("period", 10.0)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=5e-7 + rounding)


def test_the_momentum_moves_in_one_cycle_only():
    for kind in KINDS:
        _, momentum = run(kind=kind, momentum_low=0.6, rise=0.4, warmup=2.0)
        shares = np.clip((TIMES - 2.0) / (EPOCHS - 2.0), 0, 1)
        expected = [one_cycle(MOMENTUM, 0.6, MOMENTUM, 0.4, share) for share in shares]
        if kind != "one_cycle":
            expected = np.full(TOTAL, MOMENTUM)
        np.testing.assert_allclose(momentum, expected, rtol=1e-6)


def test_a_period_is_over_at_the_step_that_ends_it_however_float32_rounds():
    """3 steps of 10 to a period of 0.3 epochs: some ends come out below a whole number."""
    kinds = {"step": 0.5 ** np.arange(40), "sgdr": np.ones(40)}
    ends = jnp.arange(40) * 3 / 10
    assert (np.floor(np.asarray(ends / jnp.float32(0.3))) < np.arange(40)).any()
    for kind, expected in kinds.items():
        shape = as_arrays(tiny(schedule__kind=kind, schedule__period=0.3)[1]).schedule
        got = jax.vmap(lambda t, shape=shape: height(shape, t, EPOCHS))(ends)
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_warm_up_that_lasts_the_whole_run_never_divides_by_zero():
    _, hyper = tiny(schedule__kind="cosine")
    for kind in range(len(KINDS)):
        shape = hyper.schedule._replace(kind=kind, warmup=EPOCHS)
        shape = jax.tree.map(jnp.float32, shape)
        assert np.isfinite(height(shape, jnp.float32(3), EPOCHS))


def test_a_range_test_rises_by_the_same_factor_at_every_step():
    got, _ = run(kind="range_test", floor=1e-5)
    ratios = np.asarray(got[1:] / got[:-1])
    np.testing.assert_allclose(got[0], 1e-5, rtol=1e-5)
    np.testing.assert_allclose(ratios, 1e5 ** (1 / TOTAL), rtol=1e-5)


def test_sgdr_equals_optax():
    got, _ = run(kind="sgdr", period=4.0, growth=2.0, floor=0.1)
    cycles = [
        {
            "init_value": LR,
            "peak_value": LR,
            "warmup_steps": 0,
            "decay_steps": n,
            "end_value": 0.1 * LR,
        }
        for n in (4 * STEPS, 8 * STEPS)
    ]
    expected = jax.vmap(optax.sgdr_schedule(cycles))(jnp.arange(TOTAL, dtype=jnp.float32))
    np.testing.assert_allclose(LR * got, expected, rtol=1e-5, atol=1e-6)


def torch_rates(make, count=TOTAL, **options):
    """The rate and momentum that a torch scheduler sets at each of `count` steps."""
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.ones(1))
    opt = torch.optim.SGD([weight], lr=LR, momentum=MOMENTUM)
    scheduler = getattr(torch.optim.lr_scheduler, make)(opt, **options)
    seen = []
    for _ in range(count):
        seen.append((opt.param_groups[0]["lr"], opt.param_groups[0]["momentum"]))
        opt.step()
        scheduler.step()
    return np.asarray(seen).T


FIXED = {"cycle_momentum": False, "base_lr": 0.1 * LR, "max_lr": LR}
CASES = [
    ("CosineAnnealingLR", {"T_max": TOTAL}, {"kind": "cosine"}),
    (
        "StepLR",
        {"step_size": 3 * STEPS, "gamma": 0.4},
        {"kind": "step", "period": 3, "factor": 0.4},
    ),
    (
        "ExponentialLR",
        {"gamma": 0.8 ** (1 / STEPS)},
        {"kind": "exponential", "factor": 0.8},
    ),
    (
        "CosineAnnealingWarmRestarts",
        {"T_0": 2 * STEPS, "eta_min": 0.1 * LR},
        {"kind": "sgdr", "period": 2, "floor": 0.1},
    ),
    (
        "CosineAnnealingWarmRestarts",
        {"T_0": STEPS, "T_mult": 3},
        {"kind": "sgdr", "period": 1, "growth": 3},
    ),
    *(
        (
            "CyclicLR",
            {**FIXED, "step_size_up": 2 * STEPS, "mode": mode, "gamma": 0.9 ** (1 / STEPS)},
            {"kind": mode, "period": 4, "floor": 0.1, "factor": 0.9},
        )
        for mode in ("triangular", "triangular2", "exp_range")
    ),
]


@pytest.mark.parametrize(("name", "options", "changes"), CASES)
def test_every_schedule_equals_torchs(name, options, changes):
    rates, _ = torch_rates(name, **options)
    np.testing.assert_allclose(LR * run(**changes)[0], rates, rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize("rise", [0.25, 0.6])
def test_one_cycle_equals_torchs_in_rate_and_momentum(rise):
    """torch counts the last of its steps as the end of the run; here that is the step after it."""
    rates, momenta = torch_rates(
        "OneCycleLR",
        max_lr=LR,
        total_steps=TOTAL + 1,
        pct_start=(rise * TOTAL + 1) / (TOTAL + 1),
        base_momentum=0.8,
        max_momentum=MOMENTUM,
    )
    got, momentum = run(kind="one_cycle", rise=rise, momentum_low=0.8)
    np.testing.assert_allclose(LR * got, rates, rtol=1e-5, atol=2e-7)
    np.testing.assert_allclose(momentum, momenta, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_epochs_fall_from_1_to_0_whatever_came_before(kind):
    numbers = {"kind": kind, "period": 3.0, "floor": 0.1, "warmup": 2.0, "factor": 0.9}
    got, _ = run(anneal=4.0, **numbers)
    plain, _ = run(**numbers)
    late = TIMES >= EPOCHS - 4.0
    np.testing.assert_array_equal(got[~late], plain[~late])
    of_time = np.spacing(np.float32(EPOCHS))
    np.testing.assert_allclose(got[late], (EPOCHS - TIMES[late]) / 4.0, atol=of_time / 4.0)


def test_cycles_after_the_first_are_again_times_as_high():
    numbers = {"kind": "sgdr", "period": 2.0, "growth": 2.0}
    whole, _ = run(**numbers)
    got, _ = run(again=0.3, **numbers)
    expected = np.where(TIMES < 2.0, whole, 0.3 * np.asarray(whole))
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    still, _ = run(again=0.0, floor=0.25, **numbers)
    np.testing.assert_array_equal(still[TIMES >= 2.0], 0.25)


@jax.jit
def order_of(shape, key):
    return times(shape, key, EPOCHS, STEPS)


def orders(seed=0, **changes):
    schedule = {f"schedule__{name}": value for name, value in changes.items()}
    _, hyper = tiny(optim__epochs=EPOCHS, **schedule)
    return np.asarray(order_of(as_arrays(hyper).schedule, jax.random.key(seed)))


def test_a_shuffled_schedule_has_the_same_rates_before_the_anneal_and_the_anneal_after():
    numbers = {"kind": "one_cycle", "warmup": 1.0, "anneal": 3.5}
    heights, momenta = (np.asarray(x) for x in run(**numbers))
    when = orders(shuffled=2, **numbers)
    before = TIMES < EPOCHS - 3.5
    assert sorted(when[before].tolist()) == np.flatnonzero(before).tolist()
    np.testing.assert_array_equal(when[~before], np.flatnonzero(~before))
    for values in (heights, momenta):
        np.testing.assert_array_equal(np.sort(values[when]), np.sort(values))
    assert np.abs(np.corrcoef(when[before], np.arange(before.sum()))[0, 1]) < 0.3


def test_the_order_of_the_rates_is_a_function_of_seed_and_number():
    first = orders(shuffled=1)
    np.testing.assert_array_equal(first, orders(shuffled=1))
    for other in (orders(shuffled=2), orders(shuffled=1, seed=1)):
        assert np.any(first != other)
    np.testing.assert_array_equal(orders(), np.arange(TOTAL))
