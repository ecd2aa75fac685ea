"""The range test: rates suggested on curves with known answers, and the command end to end."""

import contextlib
import io
import json
import subprocess
import sys
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fishjax import lrfind
from fishjax.cli import main
from fishjax.data.source import open_source
from fishjax.evidence.range_test import RangeTest, slide, steepest, tenth_of_minimum, valley
from fishjax.fields import UsageError
from fishjax.schedules import height
from fishjax.settings import from_dict, parse_settings
from fishjax.setup import lower
from tests.runs import as_arrays

RATES = np.geomspace(1e-5, 1.0, 100)
WHOLE = 10**6
"""Steps an epoch with which the running mean is the loss itself."""
SMALL = (
    "model.depth=2",
    "model.widths=4",
    "data.image_size=16",
    "data.train_size=32",
    "data.val_size=16",
    "optim.batch_size=8",
    "optim.epochs=48",
)
DATA = "reef:train=64,test=16"


def curve(*corners):
    """Straight lines between (epoch, loss)."""
    return np.interp(np.arange(100), *zip(*corners, strict=True))


def lr_find(*options):
    with pytest.raises(SystemExit) as stop:
        main(["lr-find", *map(str, options)])
    return stop.value.code


def test_each_rule_finds_its_place_on_a_curve_of_lines():
    losses = curve((0, 2.0), (30, 2.0), (60, 1.7), (70, 1.0), (90, 0.9), (99, 3.0))
    middle = valley(RATES, losses)
    assert RATES[58] <= middle <= RATES[60], "half way between 30 and 90"
    assert RATES[60] <= steepest(RATES, losses) <= RATES[70]
    falling = curve((0, 2.0), (30, 2.0), (31, 1.9), (32, 1.4), (33, 0.95), (99, 0.95))
    assert steepest(RATES, falling) == RATES[31], "as fastai takes it, not a central difference"
    assert tenth_of_minimum(RATES, losses) == pytest.approx(RATES[90] / 10)


def test_the_valley_is_where_the_longest_falling_subsequence_ends():
    """Against every subsequence of a short noisy curve, in order of length."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        losses = rng.permutation(10).astype(float)
        chains = [[i for i in range(10) if mask >> i & 1] for mask in range(1, 1024)]
        falling = [chain for chain in chains if all(np.diff(losses[chain]) < 0)]
        length = max(map(len, falling))
        end = min(chain[-1] for chain in falling if len(chain) == length)
        start = end - length
        expected = RATES[max(0, start + length // 3 + length // 6)]
        assert valley(RATES[:10], losses) == expected


def test_slide_stops_where_the_slopes_at_both_ends_of_its_interval_are_alike():
    """Against the rule step by step, on curves that stop at once, on the way and nowhere."""
    rng, found = np.random.default_rng(0), set()
    for scale in (1e-4, 3e-3, 1e-2, 1.0):
        for _ in range(20):
            losses = 2.0 + np.cumsum(rng.normal(scale=scale, size=60))
            falls, right = np.gradient(losses), 59
            expected = RATES[right - 15]
            while right >= 15 and abs(falls[right] - falls[right - 15]) > 0.005:
                expected = RATES[right - 15]
                right -= 1
            assert slide(RATES[:60], losses) == expected
            found.add(expected)
    assert {RATES[44], RATES[0]} < found
    assert np.isnan(slide(RATES[:15], np.arange(15.0)))


def test_a_seed_is_over_at_four_times_its_best_or_where_it_diverged():
    steady = curve((0, 2.0), (50, 1.0), (51, 4.1), (99, 0.1))
    diverged = curve((0, 2.0), (99, 1.0))
    diverged[40:] = np.nan
    smoothed = RangeTest(RATES, np.stack([steady, diverged]), WHOLE).smoothed
    assert np.isfinite(smoothed).sum(axis=1).tolist() == [51, 40]
    test = RangeTest(RATES, np.stack([steady, diverged]), WHOLE)
    assert [test.over_by(epoch) for epoch in (45, 51)] == [False, True]


def test_the_first_tenth_and_the_last_five_epochs_are_left_out():
    falling = curve((0, 2.0), (99, 1.0))
    found = RangeTest(RATES, falling[None], WHOLE).suggestions()
    assert found["minimum / 10"] == pytest.approx(RATES[94] / 10)
    found = RangeTest(RATES, curve((0, 9.0), (9, 3.0), (30, 3.0), (90, 2.8))[None], WHOLE)
    assert RATES[30] <= found.suggestions()["steepest"][0] <= RATES[90]


def test_a_seed_that_is_over_at_once_suggests_nothing():
    over = curve((0, 1.0), (10, 1.0), (12, 9.0), (99, 9.0))
    fine = curve((0, 2.0), (99, 1.0))
    found = RangeTest(RATES, np.stack([over, fine]), WHOLE).suggestions()
    assert all(np.isnan(rates).tolist() == [True, False] for rates in found.values())


def test_losses_are_smoothed_as_step_by_step_but_once_an_epoch():
    """A loss that is the same in all steps of an epoch, smoothed step by step."""
    losses, steps = np.random.default_rng(0).uniform(1, 2, 30), 8
    running, expected = 0.0, []
    for count, loss in enumerate(np.repeat(losses, steps), start=1):
        running = 0.98 * running + 0.02 * loss
        expected.append(running / (1 - 0.98**count))
    got = RangeTest(RATES[:30], losses[None], steps).smoothed[0]
    np.testing.assert_allclose(got, expected[steps - 1 :: steps], rtol=1e-12)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What one start of the command printed and left."""
    folder = tmp_path_factory.mktemp("lr") / "out"
    with contextlib.redirect_stderr(io.StringIO()) as said:
        printed = lrfind.find(DATA, SMALL, "1000:1002", 1e-4, 1e3, folder)
    assert "/384 run-steps" in said.getvalue()
    return folder, printed, json.loads((folder / "range_test.json").read_bytes())


def test_every_seed_has_its_own_curve():
    """Three of them, dealt to two devices, beside each alone."""
    config = lrfind.configuration(parse_settings(SMALL), 1e-4, 1e-1)
    dataset = open_source(DATA, config.data.image_size)

    def losses(*seeds):
        return lrfind.range_test(dataset, config, seeds, lambda steps: None).losses

    together = losses(1000, 1001, 1002)
    alone = [losses(seed)[0] for seed in (1000, 1001, 1002)]
    np.testing.assert_allclose(together, alone, rtol=1e-3)
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_the_command_writes_what_it_prints(found):
    folder, printed, numbers = found
    assert (folder / "rates.md").read_text() in printed
    assert str(folder / "loss_curve.svg") in printed
    assert (folder / "loss_curve.pdf").read_bytes().startswith(b"%PDF")
    drawn = ElementTree.fromstring((folder / "loss_curve.svg").read_text())
    words = "".join(drawn.itertext())
    assert all(rule in words for rule in numbers["suggested"])
    assert numbers["seeds"] == [1000, 1001]
    assert numbers["config"]["optim"]["epochs"] == 48


def test_the_loss_falls_and_then_every_seed_is_over(found):
    _, _, numbers = found
    curves = np.asarray(numbers["smoothed"], float)
    best = np.nanmin(curves, axis=1)
    assert (best < 0.98 * curves[:, 0]).all()
    assert np.isnan(curves[:, -1]).all(), "a rate of 1000 is too high"
    for rates in numbers["suggested"].values():
        assert all(1e-5 < rate < 1e3 for rate in rates)


def test_the_rates_are_those_the_optimiser_takes(found):
    _, _, numbers = found
    hyper = as_arrays(lower(from_dict(numbers["config"]), 8)[1])
    heights = jax.vmap(lambda step: height(hyper.schedule, step / 4, 48))(jnp.arange(48 * 4))
    by_epoch = np.log(hyper.lr * heights).reshape(48, 4).mean(axis=1)
    np.testing.assert_allclose(numbers["rates"], np.exp(by_epoch), rtol=1e-5)
    np.testing.assert_allclose(heights[0] * hyper.lr, 1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--low", 1, "--high", 0.1], "must be above 0 and below"),
        (["--low", 1e-39], "too far apart for float32"),
        (["--high", 1e39], "too far apart for float32"),
        (["--set", "hyper.lr=0.1"], "sets hyper.lr itself"),
        (["--set", "schedule.kind=cosine"], "sets schedule.kind itself"),
        (["--set", "hyper.momentun=0.1"], "did you mean 'hyper.momentum'"),
        (["--set", "optim.epochs=10"], "needs 20 or more"),
        (["--set", "loss.focal_gamma=3"], "has no effect: it needs loss.kind=focal"),
        (["--seeds", "0:4"], "seeds from 1000 on"),
        (["--data", "reaf"], "did you mean 'reef'"),
        (["--set", "data.train_size=10000"], "10000"),
    ],
)
def test_misuse_is_refused(options, message, tmp_path, capsys):
    assert lr_find(*options, "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["file/out", "x" * 300])
def test_a_folder_that_cannot_be_made_is_refused_before_training(name, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert lr_find("--out", tmp_path / name) == 2
    assert "cannot write to" in capsys.readouterr().err


def test_a_range_without_a_rate_that_trains_is_refused(monkeypatch, tmp_path):
    def over_at_once(*_):
        return RangeTest(RATES, np.full((2, 100), np.nan), WHOLE)

    monkeypatch.setattr(lrfind, "range_test", over_at_once)
    with pytest.raises(UsageError, match="no seed trains long enough"):
        lrfind.find(DATA, SMALL, "1000:1002", 1e3, 1e4, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_other_verbs_start_without_jax():
    code = "import sys, fishjax.cli; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
