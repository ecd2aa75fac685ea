"""A compiled program's text, and what in it would be slow."""

import re

import jax

from tests.conftest import EMITTERS

LAYOUT = "b01f_01io->b01f"


def as_shipped(lowered: jax.stages.Lowered) -> str:
    """The program that XLA makes of it for users; the tests' own emitters do without scatters."""
    return lowered.compile(EMITTERS).as_text()


def faults(hlo: str) -> list[str]:
    """What in a compiled CPU program would be slow: one line for each."""
    slow = r"\bscatter\(|select-and-scatter\(|all-gather\(|all-reduce\(|all-to-all\(|collective-"
    found = re.findall(slow, hlo)
    for line in hlo.splitlines():
        if " convolution(" not in line:
            continue
        layout = re.search(r"dim_labels=(\S+?)(?:,|$)", line)
        window = re.search(r"window=\{([^}]*)\}", line)
        if (layout and layout[1] != LAYOUT) or (window and "lhs_dilate" in window[1]):
            found.append(line.strip()[:120])
    return found
