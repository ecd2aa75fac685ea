"""Exact tests and intervals for paired samples: sign-flip, sign, Holm, and the seeds they need.

Both tests have the same build. A hypothesis "the centre is theta" is judged by how many summaries
of the sample lie at or below theta, and at or above it: the means of all its non-empty subsets
for the sign-flip test, its single values for the sign test. Ties count towards acceptance; what
was rounded before it was subtracted ties only with a `tie`, the width of one pair's. Every
p is therefore a step function that rises up to the centre and falls after it, the accepted thetas
are one closed interval whose ends are order statistics of those summaries, and for any alpha

    theta lies in the interval at 1 - alpha  <=>  p(differences - theta) > alpha.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

ERROR_RATE = 0.05
ENUMERABLE = 20
DRAWS = 2**17 - 1
TIE = 1e-9
POWER = 0.8
MOST_SEEDS = 1000

Sample = Sequence[float] | npt.NDArray[np.floating]


def sign_flip(differences: Sample, tie: float = 0.0) -> float:
    """Two-sided sign-flip p of "the differences are symmetric about 0".

    The share of the 2^n sign patterns s with |sum s_i d_i| >= |sum d_i| (Fisher 1935, The Design
    of Experiments, section 21). Flipping the signs of a subset A moves the sum from S to
    S - 2 S_A, so for S > 0 the patterns that count are those with S_A <= 0 and their complements:
    p = 2 (1 + #{non-empty A: S_A <= 0}) / 2^n. All A are enumerated for n <= 20; beyond, 2^17 - 1
    are drawn with a fixed seed and p = 2 (1 + #) / 2^17, which keeps the level (Phipson and Smyth
    2010, Stat. Appl. Genet. Mol. Biol. 9:39). Sums within n `tie` + 1e-9 sum |d_i| of 0 are ties.

    differences: `[pair]`, finite. Raises ValueError otherwise.
    """
    sums, _, width = _subset_sums(differences, tie)
    rarer = min(np.count_nonzero(sums <= width), np.count_nonzero(sums >= -width))
    return min(1.0, 2 * (1 + rarer) / (1 + len(sums)))


def sign_flip_interval(differences: Sample, alpha: float, tie: float = 0.0) -> tuple[float, float]:
    """All theta with `sign_flip(differences - theta, tie) > alpha`: a closed interval's ends.

    The ends are the k-th smallest and k-th largest subset mean, k = floor(alpha 2^(n-1))
    (Hartigan 1969, JASA 64:1303), and infinite where k = 0: n is too small for alpha. The
    coverage for symmetric differences without ties is 1 - k 2^(1-n). A tie's width is added to
    each mean, so that the interval and `sign_flip` agree at 0 to the last bit.
    """
    sums, sizes, width = _subset_sums(differences, tie)
    k = math.floor(alpha * (1 + len(sums)) / 2)
    if k == 0:
        return -math.inf, math.inf
    filled = sizes > 0
    lower = np.divide(sums - width, sizes, out=np.full(len(sums), -math.inf), where=filled)
    upper = np.divide(sums + width, sizes, out=np.full(len(sums), math.inf), where=filled)
    return float(np.partition(lower, k - 1)[k - 1]), float(np.partition(upper, -k)[-k])


def sign(differences: Sample, tie: float = 0.0) -> float:
    """Two-sided exact sign p of "the median difference is 0"; needs the order of values only.

    p = 2 P(Binomial(n, 1/2) <= min(#{d <= 0}, #{d >= 0})), at most 1. A zero, which is what lies
    within `tie` of 0, counts on both sides (Conover 1999, Practical Nonparametric Statistics,
    section 3.4, drops it instead), which is conservative and keeps p and the closed interval in
    step. So does a NaN, a difference of which nothing is known.

    differences: `[pair]`, may be infinite or NaN. Raises ValueError where none is given.
    """
    values = _sample(differences)
    rarer = min(np.count_nonzero(~(values > tie)), np.count_nonzero(~(values < -tie)))
    return float(min(1.0, 2 * stats.binom.cdf(rarer, len(values), 0.5)))


def sign_interval(differences: Sample, alpha: float, tie: float = 0.0) -> tuple[float, float]:
    """All theta with `sign(differences - theta, tie) > alpha`: order statistics about the median,
    a tie's width further out, a NaN being the least of them below and the greatest above.
    """
    values = _sample(differences)
    n = len(values)
    tails = 2 * stats.binom.cdf(np.arange(n + 1), n, 0.5)
    k = int(np.searchsorted(tails, alpha, side="right"))
    if k == 0:
        return -math.inf, math.inf
    low, high = (np.sort(np.where(np.isnan(values), end, values)) for end in (-math.inf, math.inf))
    return float(low[k - 1]) - tie, float(high[n - k]) + tie


def centre(differences: Sample) -> float:
    """The mean, the sign-flip test's estimate."""
    return float(np.mean(_sample(differences)))


def middle(differences: Sample) -> float:
    """The median of what is known, the sign test's estimate; NaN where nothing is, or where it is
    halfway between two infinities.
    """
    values = _sample(differences)
    known = values[~np.isnan(values)]
    with np.errstate(invalid="ignore"):
        return float(np.median(known)) if len(known) else math.nan


class Method(NamedTuple):
    """A test, the interval that inverts it, and the estimate that this interval is about.

    The last argument of test and interval is the width of a tie.
    """

    name: str
    estimate: Callable[[Sample], float]
    p: Callable[[Sample, float], float]
    interval: Callable[[Sample, float, float], tuple[float, float]]


SIGN_FLIP = Method("sign-flip", centre, sign_flip, sign_flip_interval)
SIGN = Method("sign", middle, sign, sign_interval)


def holm(ps: Sample) -> npt.NDArray[np.float64]:
    """Holm's step-down adjusted p, `[test]` (Holm 1979, Scand. J. Statist. 6:65)."""
    p = np.asarray(ps, dtype=float)
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"p values lie between 0 and 1, not {p.tolist()}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def seeds_needed(m: int) -> int:
    """The smallest n with m 2^(1-n) <= 0.05: below it no sample can decide one of m contrasts."""
    if m < 1:
        raise ValueError(f"seeds are needed for at least one contrast, not {m}")
    return 1 + math.ceil(math.log2(m / ERROR_RATE))


def seeds_to_decide(signal: float, alpha: float, seeds: int) -> int | None:
    """About how many seeds decide at level alpha, four times in five, what `seeds` could not.

    The smallest n > seeds with sqrt(n) signal >= t(1 - alpha/2) + t(0.8), quantiles at n - 1
    degrees of freedom: the usual formula for a t test, which the sign-flip test resembles.
    `signal` is the distance to be shown in standard deviations of a difference. The deviation
    being itself an estimate, its upper 80 % limit is used (Browne 1995, Stat. Med. 14:1933).
    None where more than 1000 would be needed: a planning figure, not a promise.
    """
    if seeds < 2 or not signal > 0:
        return None
    sure = signal * math.sqrt(stats.chi2.ppf(1 - POWER, seeds - 1) / (seeds - 1))
    n = np.arange(seeds + 1, MOST_SEEDS + 1)
    bar = stats.t.ppf(1 - alpha / 2, n - 1) + stats.t.ppf(POWER, n - 1)
    enough = n[np.sqrt(n) * sure >= bar]
    return int(enough[0]) if len(enough) else None


def _sample(differences: Sample) -> npt.NDArray[np.float64]:
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"a test needs a list of differences, not an array of {values.shape}")
    return values


def _subset_sums(differences: Sample, tie: float) -> tuple[npt.NDArray, npt.NDArray, float]:
    """Sums and sizes of subsets, `[subset]` each, and the size of a sum that counts as 0."""
    values = _sample(differences)
    if not np.isfinite(values).all():
        raise ValueError("the sign-flip test takes finite differences; use the sign test")
    sums, sizes = _enumerated(values) if len(values) <= ENUMERABLE else _drawn(values)
    return sums, sizes, len(values) * tie + TIE * float(np.abs(values).sum())


def _enumerated(values: npt.NDArray) -> tuple[npt.NDArray, npt.NDArray]:
    """Sum and size of every non-empty subset: each value doubles the subsets before it."""
    sums, sizes = np.zeros(1), np.zeros(1)
    for value in values:
        sums = np.concatenate([sums, sums + value])
        sizes = np.concatenate([sizes, sizes + 1])
    return sums[1:], sizes[1:]


def _drawn(values: npt.NDArray) -> tuple[npt.NDArray, npt.NDArray]:
    """Sum and size of the subsets that `membership` draws."""
    sums, sizes = np.zeros(DRAWS), np.zeros(DRAWS)
    for value, member in zip(values, membership(len(values), DRAWS), strict=True):
        sums += value * member
        sizes += member
    return sums, sizes


def membership(n: int, count: int) -> Iterator[npt.NDArray]:
    """For each of n pairs in turn, which of `count` subsets hold it."""
    if n <= ENUMERABLE:
        codes = np.arange(1, count + 1)
        yield from ((codes >> pair) & 1 for pair in range(n))
    else:
        draw = np.random.default_rng(0)
        yield from (draw.integers(0, 2, count) for _ in range(n))
