"""Max-T against enumeration, against the single test, and against what it promises, simulated."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fishjax.evidence import paired
from fishjax.evidence.max_t import max_t

ALPHA = 0.05
FEW = settings(max_examples=40, deadline=None, derandomize=True)
TABLES = st.integers(1, 3).flatmap(
    lambda k: st.lists(st.tuples(*[st.integers(-6, 6)] * k), min_size=2, max_size=6)
)


def studentised(sample):
    """|t| up to what orders it: |sum| over the root of the sum of squares."""
    square = float(np.sum(np.square(sample)))
    return abs(float(np.sum(sample))) / math.sqrt(square) if square else 0.0


def enumerated(table, member, theta):
    """The share of sign patterns that do as well, the larger one of the two suppositions."""
    own = table[:, member] - theta
    shares = []
    for shift in (np.zeros(table.shape[1]), table.mean(0)):
        others = np.delete(table - shift, member, axis=1)
        patterns = [np.array(s) for s in itertools.product((1, -1), repeat=len(table))]
        best = [max(map(studentised, [s * own, *(s[:, None] * others).T])) for s in patterns]
        shares.append(np.mean(np.array(best) >= studentised(own) - 1e-9))
    return max(shares)


def correlated(rng, seeds, contrasts, rho):
    """Standard normal differences, `[seed, contrast]`, with one common correlation."""
    common = rng.normal(size=(seeds, 1))
    return math.sqrt(rho) * common + math.sqrt(1 - rho) * rng.normal(size=(seeds, contrasts))


@pytest.mark.parametrize(("n", "k"), [(4, 2), (6, 3), (7, 5)])
def test_p_counts_sign_patterns(n, k):
    table = np.random.default_rng(n).normal(0.5, 1, (n, k))
    for member, course in enumerate(max_t(table)):
        for theta in (0.0, 0.4, -0.7):
            assert course.p(theta) == enumerated(table, member, theta)


@FEW
@given(TABLES, st.integers(-3, 3))
def test_ties_count_as_in_the_enumeration(rows, theta):
    table = np.array(rows, float)
    for member, course in enumerate(max_t(table)):
        assert course.p(theta) == enumerated(table, member, theta)


@pytest.mark.parametrize("seed", range(20))
def test_ties_survive_rounding_to_float32(seed):
    """Accuracies of a number of images: differences are whole counts but for their rounding."""
    draw = np.random.default_rng(seed)
    hits = draw.integers(100, 150, (8, 4))
    kept = (hits / np.float32(200)).astype(np.float32).astype(float)
    rounded = max_t(kept[:, :3] - kept[:, 3:], ties=[2e-7] * 3)
    whole = max_t(hits[:, :3] - hits[:, 3:])
    for found, exact in zip(rounded, whole, strict=True):
        assert found.p(0.0) == exact.p(0.0)


def test_one_contrast_is_the_sign_flip_test():
    for n in (6, 9, 12):
        d = np.random.default_rng(n).normal(0.6, 1, n)
        (course,) = max_t(d[:, None])
        assert course.p(0.0) == paired.sign_flip(d)
        assert course.interval(ALPHA) == pytest.approx(paired.sign_flip_interval(d, ALPHA))


@FEW
@given(TABLES, st.integers(-6, 6), st.sampled_from([0.5, 0.25, 0.1, 0.05]))
def test_the_interval_holds_what_the_test_accepts(rows, theta, alpha):
    for course in max_t(np.array(rows, float)):
        low, high = course.interval(alpha)
        assert (low <= theta <= high) == (course.p(theta) > alpha)


def test_p_is_no_less_than_alone_and_no_more_than_bonferroni_by_much():
    table = correlated(np.random.default_rng(3), 10, 5, 0.3) + 0.6
    for d, course in zip(table.T, max_t(table), strict=True):
        alone = paired.sign_flip(d)
        assert alone <= course.p(0.0) <= 1.2 * 5 * alone


def test_a_copy_of_a_contrast_costs_next_to_nothing():
    """What depends on another wholly is not corrected for: that is the gain over Bonferroni."""
    d = np.random.default_rng(8).normal(0.8, 1, 9)
    for course in max_t(np.stack([d, 3 * d, -d], axis=1)):
        assert course.p(0.0) == pytest.approx(paired.sign_flip(d), rel=0.05)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_family_wise_error_is_at_most_alpha_where_nothing_moves(rho):
    rng, repeats = np.random.default_rng(5), 500
    errors = sum(
        any(course.p(0.0) <= ALPHA for course in max_t(correlated(rng, 8, 5, rho)))
        for _ in range(repeats)
    )
    assert errors <= stats.binom.ppf(0.999, repeats, ALPHA)


@pytest.mark.parametrize("shift", [0.5, 8.0])
def test_intervals_hold_together_wherever_the_contrasts_stand(shift):
    """Common shifts are no dependence, so that they make no interval narrower."""
    rng, repeats = np.random.default_rng(6), 300
    missed = 0
    for _ in range(repeats):
        ends = [c.interval(ALPHA) for c in max_t(correlated(rng, 8, 12, 0.0) + shift)]
        missed += not all(low <= shift <= high for low, high in ends)
    assert missed <= stats.binom.ppf(0.999, repeats, ALPHA)


def test_one_contrast_that_moves_is_found_among_five():
    rng, found = np.random.default_rng(7), 0
    for _ in range(100):
        table = correlated(rng, 12, 5, 0.5)
        table[:, 2] += 1.5
        found += max_t(table)[2].p(0.0) <= ALPHA
    assert found >= 85


def test_drawn_patterns_keep_to_the_exact_answer(monkeypatch):
    table = correlated(np.random.default_rng(9), 14, 3, 0.2) + 0.5
    exact = [course.p(0.0) for course in max_t(table)]
    monkeypatch.setattr("fishjax.evidence.max_t.ENUMERABLE", 13)
    monkeypatch.setattr("fishjax.evidence.paired.ENUMERABLE", 13)
    drawn = [course.p(0.0) for course in max_t(table)]
    assert drawn != exact
    for one, other in zip(drawn, exact, strict=True):
        assert one == pytest.approx(other, abs=5 * math.sqrt(other / paired.DRAWS))
    assert drawn == [course.p(0.0) for course in max_t(table)], "the draws are not seeded"


def test_too_few_pairs_leave_the_interval_unbounded():
    table = np.arange(10.0).reshape(5, 2) + 1
    assert [course.interval(ALPHA) for course in max_t(table)] == [(-math.inf, math.inf)] * 2
    assert [course.p(0.0) for course in max_t(table)] == [2 / 2**5] * 2


@pytest.mark.parametrize("table", [[[1.0, math.inf]], [[1.0, math.nan]], [1.0, 2.0], []])
def test_what_is_no_table_of_finite_differences_is_refused(table):
    with pytest.raises(ValueError, match="finite differences"):
        max_t(table)
