"""A part: the setting that turns it on, what it is checked against, and how to check it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Pair = tuple[npt.ArrayLike, npt.ArrayLike]


@dataclass(frozen=True)
class Part:
    """A row of the table of parts.

    check: makes (ours, the reference's) numbers, of equal shapes. limit: the largest difference
    allowed. settings: what turns the part on in a run, for what it costs; None where it is no part
    of a run's step. beside: settings of both that run and the plain one it is timed against.
    """

    family: str
    name: str
    reference: str
    check: Callable[[], Pair]
    limit: float
    settings: Mapping[str, Any] | None = field(default_factory=dict)
    beside: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Family and name, which no two parts share."""
        return f"{self.family}: {self.name}"

    def difference(self) -> float:
        """The largest difference, relative to the reference's largest number where that is > 1.

        Infinite where one has a NaN that the other has not.
        """
        ours, theirs = (np.asarray(side, np.float64) for side in self.check())
        if ours.shape != theirs.shape or not (np.isnan(ours) == np.isnan(theirs)).all():
            return float("inf")
        if not (defined := ~np.isnan(theirs)).any():
            return 0.0
        scale = max(1.0, float(np.abs(theirs[defined]).max()))
        return float(np.abs(ours - theirs)[defined].max()) / scale
