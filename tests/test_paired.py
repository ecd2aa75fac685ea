"""Exact tests against brute force and statsmodels; intervals against the tests they invert."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from fishjax.evidence import paired

INTEGERS = st.lists(st.integers(-9, 9), min_size=1, max_size=9)
ALPHAS = st.sampled_from([0.3, 0.25, 0.125, 0.05, 0.05 / 3, 0.01])
FEW = settings(max_examples=60, deadline=None, derandomize=True)


def brute_force(differences):
    """Share of all sign patterns whose sum is at least as far from 0; exact on whole numbers."""
    signs = itertools.product((1, -1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(pattern, differences, strict=True))) for pattern in signs]
    return sum(total >= abs(sum(differences)) for total in sums) / len(sums)


@FEW
@given(INTEGERS)
def test_sign_flip_counts_sign_patterns(differences):
    assert paired.sign_flip(differences) == min(1.0, brute_force(differences))


def test_sign_flip_agrees_with_scipy_on_continuous_samples():
    rng = np.random.default_rng(1)
    for n in (3, 8, 12):
        d = rng.normal(0.5, 1, n)
        exact = stats.permutation_test(
            (d,), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert paired.sign_flip(d) == pytest.approx(exact.pvalue, abs=1e-12)


def test_ties_survive_rounding():
    """Accuracies are counts over a size, so that equal sums differ in their last bits."""
    counts = [2, 1, 1, 4, -1, 3, 2, -3]
    starts = [101 + 7 * pair for pair in range(8)]
    accuracies = [(a + k) / 240 - a / 240 for a, k in zip(starts, counts, strict=True)]
    assert paired.sign_flip(accuracies) == brute_force(counts)


def test_sign_flip_has_its_smallest_p_where_every_difference_agrees():
    assert paired.sign_flip([0.1] * 8) == 2 / 2**8
    assert paired.sign_flip([0.0] * 8) == 1


def test_drawn_subsets_keep_to_the_exact_answer(monkeypatch):
    d = np.random.default_rng(2).normal(0.45, 1, 20)
    exact, interval = paired.sign_flip(d), paired.sign_flip_interval(d, 0.05)
    monkeypatch.setattr(paired, "ENUMERABLE", 19)
    drawn = paired.sign_flip(d)
    assert drawn != exact
    error = math.sqrt(exact / paired.DRAWS)
    assert drawn == pytest.approx(exact, abs=5 * error)
    assert paired.sign_flip_interval(d, 0.05) == pytest.approx(interval, abs=0.02)
    assert paired.sign_flip(d) == drawn, "the draws are not seeded"


def test_drawn_subsets_never_give_p_zero():
    assert paired.sign_flip([1.0] * 40) == 2 / (paired.DRAWS + 1)
    low, high = paired.sign_flip_interval(np.random.default_rng(3).normal(size=40), 0.05)
    assert -1 < low < high < 1


METHODS = pytest.mark.parametrize("method", [paired.SIGN_FLIP, paired.SIGN], ids=lambda m: m.name)


@METHODS
@pytest.mark.parametrize(("n", "alpha"), [(6, 0.05), (8, 0.01), (8, 0.3), (13, 0.05 / 3)])
def test_p_crosses_alpha_at_both_ends(method, n, alpha):
    for seed in range(5):
        d = np.random.default_rng(seed).normal(1, 2, n)
        low, high = method.interval(d, alpha)
        for end, outwards in ((low, -1e-6), (high, 1e-6)):
            assert method.p(d - (end - outwards)) > alpha
            assert method.p(d - (end + outwards)) <= alpha


@METHODS
@FEW
@given(differences=INTEGERS, alpha=ALPHAS, theta=st.integers(-9, 9))
def test_the_interval_holds_what_the_test_accepts(method, differences, alpha, theta):
    shifted = np.array(differences) - theta
    low, high = method.interval(shifted, alpha)
    assert (low <= 0 <= high) == (method.p(shifted) > alpha)
    assert low <= method.estimate(shifted) <= high or np.ptp(shifted) == 0


@METHODS
@FEW
@given(differences=INTEGERS, alpha=ALPHAS, shift=st.integers(-5, 5), scale=st.integers(1, 7))
def test_intervals_follow_shift_scale_and_sign(method, differences, alpha, shift, scale):
    d = np.array(differences, float)
    low, high = method.interval(d, alpha)
    moved = method.interval(scale * d + shift, alpha)
    assert moved == pytest.approx((scale * low + shift, scale * high + shift), abs=1e-5)
    assert method.interval(-d, alpha) == pytest.approx((-high, -low), abs=1e-6)
    assert method.p(-d) == method.p(d) == method.p(scale * d)


@METHODS
def test_ends_are_infinite_exactly_while_no_sample_could_be_refused(method):
    for m in (1, 3, 5):
        needed = paired.seeds_needed(m)
        for n in (needed - 1, needed):
            low, high = method.interval(np.arange(1.0, n + 1), paired.ERROR_RATE / m)
            assert (math.isinf(low), math.isinf(high)) == (n < needed,) * 2


@METHODS
def test_a_constant_sample_has_a_point_for_an_interval(method):
    low, high = method.interval([0.1] * 8, 0.05)
    assert low == pytest.approx(0.1, abs=1e-8)
    assert high == pytest.approx(0.1, abs=1e-8)
    assert method.interval([0.0] * 8, 0.05) == (0, 0)


@pytest.mark.parametrize(
    ("method", "expected"), [(paired.SIGN_FLIP, 1 - 6 / 2**7), (paired.SIGN, 1 - 1 / 2**7)]
)
def test_coverage_at_eight_seeds_is_as_computed(method, expected):
    repeats, true = 1500, 0.7
    samples = np.random.default_rng(4).standard_t(3, (repeats, 8)) + true
    ends = np.array([method.interval(sample, 0.05) for sample in samples])
    covered = np.mean((ends[:, 0] <= true) & (ends[:, 1] >= true))
    assert covered == pytest.approx(
        expected, abs=4 * math.sqrt(expected * (1 - expected) / repeats)
    )


def test_sign_test_is_the_binomial_test_and_counts_zeros_on_both_sides():
    d = [3, -1, 2, 5, 8, 1, 4, 7]
    assert paired.sign(d) == pytest.approx(stats.binomtest(7, 8).pvalue)
    assert paired.sign([*d, 0]) == pytest.approx(stats.binomtest(7, 9).pvalue)
    assert paired.sign([0, 0, 0]) == 1


def test_sign_test_takes_infinite_differences():
    d = [math.inf] * 7 + [-math.inf]
    assert paired.sign(d) == paired.sign([1] * 7 + [-1])
    assert paired.middle(d) == math.inf
    assert math.isnan(paired.middle([math.inf, -math.inf]))


def test_an_unknown_difference_counts_on_both_sides_of_every_value():
    """As if it were the least of them for one end of the interval, the greatest for the other."""
    known = [3.0, -1.0, 2.0, 5.0, 8.0, 1.0, 4.0, 7.0, 6.0, 9.0]
    for unknown in (1, 2):
        d = np.array([*known, *[math.nan] * unknown])
        assert paired.sign(d) == paired.sign([*known, *[0.0] * unknown])
        low, high = paired.sign_interval(d, 0.05)
        ends = [paired.sign_interval(np.nan_to_num(d, nan=end), 0.05) for end in (-1e9, 1e9)]
        assert (low, high) == (ends[0][0], ends[1][1])
        for theta in np.arange(-2.0, 10.5, 0.5):
            assert (low <= theta <= high) == (paired.sign(d - theta) > 0.05)
        assert paired.middle(d) == np.median(known)
    assert paired.sign_interval([math.nan] * 10, 0.05) == (-math.inf, math.inf)
    assert math.isnan(paired.middle([math.nan] * 10))


@pytest.mark.parametrize("function", [paired.sign_flip, paired.sign, paired.centre, paired.middle])
def test_emptiness_is_refused(function):
    with pytest.raises(ValueError, match="list of differences"):
        function([])


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_sign_flip_takes_finite_differences(value):
    with pytest.raises(ValueError, match="finite"):
        paired.sign_flip([0.1, value])


@pytest.mark.parametrize("m", [1, 2, 5, 8])
def test_holm_is_statsmodels_holm(m):
    rng = np.random.default_rng(m)
    for ps in (rng.uniform(size=m), rng.beta(0.3, 3, size=m), rng.integers(0, 3, m) / 20):
        np.testing.assert_allclose(paired.holm(ps), multipletests(ps, method="holm")[1])


def test_holm_of_nothing_and_of_what_is_no_p():
    assert len(paired.holm([])) == 0
    for wrong in (math.nan, -0.1, 1.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            paired.holm([0.5, wrong])


@pytest.mark.parametrize(("m", "n"), [(1, 6), (2, 7), (3, 7), (4, 8), (6, 8), (7, 9), (20, 10)])
def test_seeds_needed(m, n):
    assert paired.seeds_needed(m) == n
    assert m * 2.0 ** (1 - n) <= 0.05 < m * 2.0 ** (2 - n)


def test_seeds_to_decide_keeps_its_power():
    """statsmodels on the signal as it would be were the deviation at its upper 80 % limit."""
    for signal, alpha, seeds in ((1.3, 0.05, 8), (0.7, 0.01, 8), (0.4, 0.05 / 3, 16)):
        sure = signal * math.sqrt(stats.chi2.ppf(0.2, seeds - 1) / (seeds - 1))
        exact = TTestPower().solve_power(sure, alpha=alpha, power=0.8)
        assert paired.seeds_to_decide(signal, alpha, seeds) == pytest.approx(exact, abs=1)


def test_the_sign_flip_test_has_the_power_that_was_planned():
    n = paired.seeds_to_decide(1.3, 0.05, 8)
    assert n is not None
    samples = np.random.default_rng(5).normal(1.3, 1, (200, n))
    assert np.mean([paired.sign_flip(sample) <= 0.05 for sample in samples]) >= 0.8


def test_seeds_to_decide_is_later_than_now_and_none_where_hopeless():
    assert paired.seeds_to_decide(math.inf, 0.01, 8) == 9
    assert paired.seeds_to_decide(5.0, 0.05, 30) == 31
    assert paired.seeds_to_decide(0.0, 0.05, 8) is None
    assert paired.seeds_to_decide(0.02, 0.05, 8) is None
    wide, narrow = (paired.seeds_to_decide(signal, 0.01, 16) for signal in (0.4, 0.5))
    assert wide is not None
    assert narrow is not None
    assert wide > narrow > 16
