"""The proof of the statistics: it sees a broken test, and its own numbers are right."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import stats

from experiments.calibration import __main__ as command
from experiments.calibration import pool as pools
from experiments.calibration.figures import Rate, any_of, sign_error, sign_flip_error
from experiments.calibration.pool import Pool
from experiments.calibration.simulation import (
    DECIDED,
    MEASURED,
    SIZES,
    WORLDS,
    _attained,
    designs,
    simulate,
)
from fishjax.evidence import paired
from fishjax.study import Scale

POOL = Pool(0.4 + 0.06 * np.random.default_rng(0).standard_normal((128, 8)), 8)


def decided():
    """The share of 400 studies of 12 seeds with a directional verdict or a small adjusted p."""
    (null,) = (d for d in designs(POOL) if d.world is MEASURED and d.seeds == 12 and not d.shift)
    return next(row for row in simulate(POOL, null, 400) if row["figure"] == DECIDED.name)


def test_random_labels_are_decided_as_often_as_the_exact_test_says():
    row = decided()
    assert row["met"]
    low, high = row["bound"]
    assert low <= row["exact"] <= high


@pytest.mark.parametrize(
    "broken",
    [
        {"p": lambda differences, tie: paired.sign_flip(differences, tie) / 2},
        {
            "interval": lambda differences, a, tie: paired.sign_flip_interval(
                differences, 2 * a, tie
            )
        },
    ],
    ids=["p halved", "interval too narrow"],
)
def test_a_broken_test_misses_the_target(monkeypatch, broken):
    monkeypatch.setattr(paired, "SIGN_FLIP", paired.SIGN_FLIP._replace(**broken))
    assert not decided()["met"]


def test_an_engine_that_judges_otherwise_than_its_functions_is_refused(monkeypatch):
    monkeypatch.setattr(paired, "ERROR_RATE", 0.1)
    with pytest.raises(RuntimeError, match="disagree"):
        decided()


@pytest.mark.parametrize(
    "design", designs(POOL)[:: len(SIZES)], ids=lambda d: f"{d.kind}-{d.stream}"
)
def test_judge_says_what_its_functions_say(design):
    assert simulate(POOL, design, 4)


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize(
    ("interval", "error"),
    [(paired.sign_flip_interval, sign_flip_error), (paired.sign_interval, sign_error)],
)
def test_the_exact_error_is_that_of_all_sign_patterns(interval, error, alpha):
    sizes = np.random.default_rng(0).uniform(1, 2, 9)
    ends = [
        interval(sizes * signs, alpha)
        for signs in itertools.product((-1.0, 1.0), repeat=len(sizes))
    ]
    missed = np.mean([low > 0 or high < 0 for low, high in ends])
    assert error(len(sizes), alpha) == pytest.approx(missed)


def test_the_exact_error_where_runs_diverge_is_that_of_either_test():
    """As often as the sign-flip test keeps all its pairs; by drawing, at one size."""
    kept, seeds, alpha = 0.81, 8, 0.05
    draw = np.random.default_rng(0)
    wrong = 0
    for _ in range(4000):
        differences = draw.normal(size=seeds)
        lost = (draw.random(seeds) > kept).any()
        low, high = (paired.sign_interval if lost else paired.sign_flip_interval)(
            differences, alpha
        )
        wrong += not low <= 0 <= high
    attained = _attained(kept, seeds, alpha)
    assert sign_error(seeds, alpha) < attained < sign_flip_error(seeds, alpha)
    assert abs(wrong / 4000 - attained) < 3 * (attained / 4000) ** 0.5


def test_a_bound_is_the_binomials_and_wider_where_parts_differ():
    parts = np.arange(80) % 4
    alike, apart = (parts * 0 + np.arange(80) // 4 % 4 == 0), parts == 0
    rates = [Rate(hits[:, None], parts) for hits in (alike, apart)]
    exact = stats.binomtest(20, 80).proportion_ci(method="exact")
    assert [rate.value for rate in rates] == [0.25, 0.25]
    assert rates[0].bound == pytest.approx((exact.low, exact.high))
    assert rates[1].bound[0] < exact.low < exact.high < rates[1].bound[1]
    assert Rate(parts[:, None] < 0, parts).bound[0] == 0


def test_independent_claims_err_together():
    assert any_of(0.01, 5) == pytest.approx(1 - 0.99**5)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_a_world_keeps_mean_and_deviation(world):
    others = ~np.eye(8, dtype=bool)
    differences = world.differences(POOL)[:, others].ravel()
    assert differences.mean() == pytest.approx(0, abs=1e-12)
    assert differences.std() == pytest.approx(POOL.deviation)
    s = np.exp(world.skew**2)
    lognormal = (s + 2) * np.sqrt(s - 1)
    assert stats.skew(differences) == pytest.approx(lognormal, rel=0.15, abs=1e-9)


@pytest.mark.slow
def test_a_pool_is_trained_once(tmp_path, monkeypatch):
    small = Scale(
        seeds=(0, 1),
        tuning=pools.UNTUNED,
        settings={"model.depth": 1, "data.train_size": 32, "optim.epochs": 1, "watch.every": 1},
    )
    study = dataclasses.replace(pools.STUDY, arms=pools.STUDY.arms[:2], scales={"laptop": small})
    monkeypatch.setattr(pools, "STUDY", study)
    pool, spent = pools.trained("laptop", tmp_path / "pool")
    again, spent_again = pools.trained("laptop", tmp_path / "pool")
    assert pool.accuracy.shape == (2, 2)
    assert (pool.accuracy == again.accuracy).all()
    assert spent["run_steps"] == spent_again["run_steps"] == 4


@pytest.mark.slow
def test_the_command_prints_every_row(tmp_path, monkeypatch, capsys):
    spent = {"run_steps": 0, "total_s": 0.0}
    monkeypatch.setattr(command, "trained", lambda scale, folder: (POOL, spent))
    monkeypatch.setitem(command.STUDIES, "smoke", 4)
    with pytest.raises(SystemExit) as stop:
        command.main(smoke=True, out=tmp_path)
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert all(world.name in printed for world in WORLDS)
