"""Several paired contrasts judged at once: exact max-T by joint sign flips, and its intervals.

A sign pattern flips whole seeds, so that it keeps how the contrasts depend on one another. The
statistic of a contrast is |sum d| / sqrt(sum d^2), which orders patterns and contrasts as |t| does.
A contrast's p at theta is the share of patterns in which its own statistic, flipped about theta, or
that of any other contrast is at least its own observed one at theta: single-step max-T (Westfall
and Young 1993, Resampling-Based Multiple Testing, section 2.3), which holds the family-wise error
whichever contrasts are null, as the flips of those that are do not depend on the others.

Where the others stand has to be supposed. The larger p of two is taken: all at 0, which is exact
where all are null, and each at its mean, without which common shifts would pass for dependence and
the intervals would be too narrow. In both, p rises up to the mean and falls after it, and

    theta lies in the interval at 1 - alpha  <=>  p(theta) > alpha.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fishjax.evidence.paired import DRAWS, ENUMERABLE, TIE, membership

ALIKE = 1e-5
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """A contrast's p as a function of theta, from where each sign pattern counts: [from, to].

    starts, ends: `[supposition, pattern]`, without the pattern that flips nothing.
    """

    starts: Array
    ends: Array

    def p(self, theta: float) -> float:
        """Two-sided p of "the differences are symmetric about theta", adjusted for all contrasts.

        All 2^(n-1) patterns are enumerated for n <= 20; beyond, 2^17 - 1 are drawn with a fixed
        seed.
        """
        below = np.count_nonzero(self.starts <= theta, axis=1)
        above = np.count_nonzero(self.ends >= theta, axis=1)
        return float((1 + np.minimum(below, above).max()) / (1 + self.starts.shape[1]))

    def interval(self, alpha: float) -> tuple[float, float]:
        """All theta with `p(theta) > alpha`; infinite where n is too small for alpha."""
        k = math.floor(alpha * (1 + self.starts.shape[1]))
        if k == 0:
            return -math.inf, math.inf
        low = np.partition(self.starts, k - 1, axis=1)[:, k - 1].min()
        high = np.partition(self.ends, -k, axis=1)[:, -k].max()
        return float(low), float(high)


def max_t(
    differences: Sequence[Sequence[float]] | Array, ties: Sequence[float] | None = None
) -> tuple[Course, ...]:
    """A course for every column of `differences`, `[pair, contrast]`.

    Of a single column of at most 20 pairs it is `paired.sign_flip` and its interval. ties: the
    width of one pair's tie, for each contrast; two contrasts tie where what they are compared by
    agrees to 5 digits. Raises ValueError where a difference is not finite.
    """
    values = np.asarray(differences, dtype=float)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"max-T takes finite differences by pair and contrast, not {values}")
    sums, sizes = _subset_sums(values)
    mean, total, n = values.mean(0), values.sum(0), len(values)
    flipped = total - 2 * sums
    centred = flipped - mean * (n - 2 * sizes[:, None])
    squares = ((values**2).sum(0), ((values - mean) ** 2).sum(0))
    suppositions = [
        np.divide(about**2, square, out=np.zeros_like(about), where=square > 0)
        for about, square in zip((flipped, centred), squares, strict=True)
    ]
    courses = []
    for j in range(values.shape[1]):
        starts, ends = _own(sums[:, j], sizes, values[:, j], ties[j] if ties else 0.0)
        others = [np.delete(each, j, axis=1).max(1, initial=0.0) for each in suppositions]
        widths = [_width(each, n, squares[1][j]) for each in others]
        courses.append(
            Course(
                np.stack([np.minimum(starts, mean[j] - width) for width in widths]),
                np.stack([np.maximum(ends, mean[j] + width) for width in widths]),
            )
        )
    return tuple(courses)


def _own(sums: Array, sizes: Array, values: Array, tie: float) -> tuple[Array, Array]:
    """Between which thetas a contrast's own flipped statistic is at least its observed one.

    They are the means of the subset that is flipped and of the rest, a tie's width further out.
    """
    width = len(values) * tie + TIE * float(np.abs(values).sum())
    rest, left = values.sum() - sums, len(values) - sizes
    with np.errstate(divide="ignore", invalid="ignore"):
        starts = np.fmin((sums - width) / sizes, (rest - width) / left)
        ends = np.fmax((sums + width) / sizes, (rest + width) / left)
    whole = (sizes == 0) | (left == 0)
    return np.where(whole, -math.inf, starts), np.where(whole, math.inf, ends)


def _width(squared: Array, n: int, deviation: float) -> Array:
    """How far theta can be from the mean before the observed statistic exceeds sqrt(squared).

    It is n x / sqrt(n (deviation + n x^2)) at a distance x, `deviation` the sum of squares about
    the mean; sqrt n is never exceeded.
    """
    bound = squared * (1 + ALIKE)
    room = np.maximum(n - bound, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        width = np.sqrt(bound * deviation / (n * room))
    return np.where(room > 0, width, math.inf)


def _subset_sums(values: Array) -> tuple[Array, Array]:
    """Sums `[subset, contrast]` and sizes `[subset]` of the pairs that a pattern flips.

    A pattern and its opposite are one, so the last pair is never flipped where all are enumerated.
    """
    n = len(values)
    count = 2 ** (n - 1) - 1 if n <= ENUMERABLE else DRAWS
    sums, sizes = np.zeros((count, values.shape[1])), np.zeros(count)
    for value, member in zip(values, membership(n, count), strict=True):
        sums += member[:, None] * value
        sizes += member
    return sums, sizes
