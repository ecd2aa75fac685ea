"""Intervals of one network's AUC for each species, from its logits on the test images."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy import optimize, special

LEVEL = 0.95
FEWEST = 7
"""Of fewer images the interval of an AUC of 0.55 is wider than half of [0, 1], in the mean."""
ON_TEST = ("test_auc", "probe_auc", "held_out_probe_auc")
"""What has an AUC of each species on test images, NAME_of, and mostly their mean, NAME."""
_NEAREST = 1e-9


class Auc(NamedTuple):
    """An area under the ROC curve and the ends of its interval, in [0, 1]."""

    auc: float
    low: float
    high: float


def delong(score: np.ndarray, positive: np.ndarray, level: float = LEVEL) -> Auc:
    """The AUC of `score` `[example]` for bool `positive` `[example]`, ties counting one half.

    Variance by DeLong et al. 1988 by sorting, as Sun & Xu 2014; the interval is one of
    Student's t on the logit scale, which keeps it inside [0, 1] (Pepe 2003, section 5.2), with the
    degrees of freedom of Brunner & Munzel 2000, since the normal one is too narrow for a rare
    species; 95 % still mean 92 to 93 with a dozen images of a species of AUC 0.92 beside a hundred
    others, and 90 beside several hundred. Where that
    variance is 0 or undefined (a perfect AUC, a single image on a side) the interval is Newcombe's
    score interval (2006, method 5). NaN where a side is empty or a score is NaN.
    """
    x, y = (np.asarray(score, np.float64)[side] for side in (positive, ~np.asarray(positive)))
    if not len(x) or not len(y) or np.isnan(score).any():
        return Auc(math.nan, math.nan, math.nan)
    of_positives, of_negatives = placements(x, y)
    auc = float(np.mean(of_positives))
    inside = 0.5 + level / 2.0
    alone = min(len(x), len(y)) == 1
    parts = [0.0 if alone else np.var(of, ddof=1) / len(of) for of in (of_positives, of_negatives)]
    variance = sum(parts)
    if not variance or not 0.0 < auc < 1.0:
        return Auc(auc, *_score_interval(auc, len(x), len(y), float(special.ndtri(inside))))
    freedom = variance**2 / sum(p**2 / (len(s) - 1) for p, s in zip(parts, (x, y), strict=True))
    half = float(special.stdtrit(freedom, inside)) * math.sqrt(variance) / (auc * (1.0 - auc))
    centre = math.log(auc / (1.0 - auc))
    low, high = (1.0 / (1.0 + math.exp(-end)) for end in (centre - half, centre + half))
    return Auc(auc, low, high)


def placements(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's structural components: for each positive in `x` the share of the negatives `y`
    below it, for each negative the share of the positives above it.
    """

    def share_below(these: np.ndarray, others: np.ndarray) -> np.ndarray:
        ordered = np.sort(others)
        below, at_most = (np.searchsorted(ordered, these, side) for side in ("left", "right"))
        return (below + at_most) / (2 * len(others))

    return share_below(x, y), 1.0 - share_below(y, x)


def by_species(predictions: pd.DataFrame, species: Sequence[str]) -> pd.DataFrame:
    """One-vs-rest AUCs of a run's `predictions` (columns label, logit_0, ...).

    Columns species, images (of that species), auc, low, high; a row for each of `species`, without
    an AUC where its images are fewer than FEWEST.
    """
    rows = []
    for k, name in enumerate(species):
        positive = predictions["label"].to_numpy() == k
        images = int(positive.sum())
        auc = delong(predictions[f"logit_{k}"].to_numpy(), positive)
        shown = auc if images >= FEWEST else Auc(math.nan, math.nan, math.nan)
        rows.append({"species": name, "images": images, **shown._asdict()})
    return pd.DataFrame(rows)


def too_rare(tables: pd.DataFrame) -> dict[str, int]:
    """The species whose test images were too few in some run, with the fewest they were.

    tables: what `by_species` gives, of all runs.
    """
    rare = tables[tables["images"] < FEWEST]
    fewest: dict[str, int] = {}
    for name, images in zip(rare["species"], rare["images"], strict=True):
        fewest[name] = min(int(images), fewest.get(name, FEWEST))
    return fewest


def leave_out(results: xr.Dataset, species: Iterable[str]) -> xr.Dataset:
    """The results with the AUCs of some species on test images, ON_TEST, as not measured, and the
    means over the others.

    They are left out in every run, so that runs stay comparable.
    """
    species = list(species)
    for each in ON_TEST if species else ():
        if f"{each}_of" in results:
            kept = results[f"{each}_of"].where(~results["species"].isin(species))
            results = results.assign({f"{each}_of": kept})
            if each in results:
                results = results.assign({each: kept.mean("species")})
    return results


def _score_interval(auc: float, positives: int, negatives: int, z: float) -> tuple[float, float]:
    """The values whose own standard error puts them `z` of it away from `auc`."""

    def excess(other: float) -> float:
        spread = math.sqrt(_variance(other, positives, negatives))
        return abs(other - auc) - z * spread

    within = min(max(auc, _NEAREST), 1.0 - _NEAREST)
    low = 0.0 if auc == 0.0 else _root(excess, 0.0, within)
    high = 1.0 if auc == 1.0 else _root(excess, within, 1.0)
    return low, high


def _root(of: Callable[[float], float], low: float, high: float) -> float:
    found: Any = optimize.brentq(of, low, high)
    return float(found)


def _variance(auc: float, positives: int, negatives: int) -> float:
    """Hanley & McNeil 1982 with both sides' sizes replaced by their mean, as Newcombe has it."""
    beside = (positives + negatives) / 2.0 - 1.0
    spread = 1.0 + beside * ((1.0 - auc) / (2.0 - auc) + auc / (1.0 + auc))
    return auc * (1.0 - auc) * spread / (positives * negatives)
