"""From simulated studies to rates: each with its bound, and what an exact test can attain."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from fishjax.evidence.paired import ERROR_RATE


@dataclass(frozen=True)
class Figure:
    """A row of the table: what is counted, and between which shares it should lie, if any."""

    name: str
    target: tuple[float, float] | None = None


@dataclass(frozen=True)
class Rate:
    """A share of `hits`, `[study, claim]` with a last axis of 1 where it is one of whole studies.

    parts: which part of the pool each study's seeds came from, `[study]`.
    """

    hits: npt.NDArray[np.bool_]
    parts: npt.NDArray[np.int64]

    @property
    def value(self) -> float:
        """The share."""
        return float(self.hits.mean())

    @property
    def by_part(self) -> npt.NDArray[np.float64]:
        """The share within each part of the pool."""
        return np.array([self.hits[self.parts == part].mean() for part in np.unique(self.parts)])

    @property
    def design_effect(self) -> float:
        """Variance of the share over disjoint parts, beside a binomial's; at least 1."""
        binomial = self.value * (1 - self.value) * len(self.by_part) / self.hits.size
        return max(1.0, float(np.var(self.by_part, ddof=1)) / binomial) if binomial else 1.0

    @property
    def bound(self) -> tuple[float, float]:
        """The exact 95 % binomial bound (Clopper and Pearson 1934, Biometrika 26:404).

        The number of studies is divided by the design effect, since they share one pool (Korn and
        Graubard 1998, Survey Methodology 24:193).
        """
        n = self.hits.size / self.design_effect
        k = self.value * n
        low = float(stats.beta.ppf(ERROR_RATE / 2, k, n - k + 1)) if k else 0.0
        high = float(stats.beta.ppf(1 - ERROR_RATE / 2, k + 1, n - k)) if k < n else 1.0
        return low, high

    def as_json(self, target: tuple[float, float] | None) -> dict[str, Any]:
        """The rate beside its target, which is missed where the whole bound lies outside it."""
        low, high = self.bound
        least, most = target or (0.0, 1.0)
        return {
            "rate": self.value,
            "bound": [low, high],
            "design_effect": self.design_effect,
            "by_part": [round(float(rate), 4) for rate in self.by_part],
            "target": target and list(target),
            "met": low <= most and high >= least,
        }


def sign_flip_error(seeds: int, alpha: float) -> float:
    """How often the sign-flip interval at 1 - alpha misses the centre of a symmetric difference.

    Its ends are the k-th subset means from either side, k = floor(alpha 2^(n-1)): exactly
    k 2^(1-n), without ties.
    """
    return math.floor(alpha * 2 ** (seeds - 1)) * 2.0 ** (1 - seeds)


def sign_error(seeds: int, alpha: float) -> float:
    """The same of the sign test's interval: the largest two-sided tail that alpha allows."""
    tails = 2 * stats.binom.cdf(np.arange(seeds // 2), seeds, 0.5)
    return float(tails[tails <= alpha].max(initial=0.0))


def any_of(error: float, claims: int) -> float:
    """How often at least one of independent claims errs."""
    return 1 - (1 - error) ** claims
