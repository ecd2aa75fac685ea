"""What each part adds to a training step, beside the plain network."""

from typing import Any

import numpy as np

from experiments.dying_relu import BASE
from experiments.parts.part import Part
from experiments.timing import chunk, interleaved
from fishjax.settings import override
from fishjax.setup import lower

PLAIN = "plain"
SPECIES = 8
GROUP = 8
"""Programs timed together; each group has the plain one beside it."""


def costs(parts: list[Part], rounds: int) -> dict[str, float | None]:
    """Seconds per step over those of the plain network, by title: the median of paired ratios.

    A part that is traced runs the plain network's own program: None.
    """
    found: dict[str, float | None] = {part.title: None for part in parts}
    own = [part for part in parts if part.settings and _changes_the_program(part)]
    for beside in {tuple(part.beside.items()): None for part in own}:
        alike = [part for part in own if tuple(part.beside.items()) == beside]
        for first in range(0, len(alike), GROUP):
            group = alike[first : first + GROUP]
            chunks = {part.title: chunk(_settings(part)) for part in group}
            seconds = interleaved({PLAIN: chunk(dict(beside)), **chunks}, rounds)
            for name in chunks:
                found[name] = float(np.median(seconds[name] / seconds[PLAIN]))
    return found


def _settings(part: Part) -> dict[str, Any]:
    return {**part.beside, **(part.settings or {})}


def _changes_the_program(part: Part) -> bool:
    plain, with_part = (
        lower(override(BASE, settings), SPECIES)[0] for settings in (part.beside, _settings(part))
    )
    return plain != with_part
