"""Is every part right, and what does it cost?

    python -m experiments.parts [--rounds 7] [--only TEXT] [--json]

Each part is compared with an independent implementation (PyTorch, scikit-learn, SciPy, optax or
the formula in NumPy) on random inputs, and the largest difference is shown. Its cost is that of a
training step of the dying-ReLU study's network on reef, 16 runs, over the step of the plain one,
timed in interleaved rounds; a traced part runs the plain network's own program. Exits with 1 where
a difference is beyond its limit. 10 to 17 minutes on two cores. Needs the extra `test-oracle`.
"""

import json
import sys
from typing import Annotated, Any

import tyro
from tyro.conf import FlagCreatePairsOff, arg

from experiments.parts.causes import CAUSES
from experiments.parts.costs import costs
from experiments.parts.measures import MEASURES
from experiments.parts.network import NETWORK
from experiments.parts.objective import OBJECTIVE
from experiments.parts.optimisation import OPTIMISATION
from experiments.parts.own import OWN
from experiments.parts.part import Part
from experiments.parts.watched import WATCHED
from fishjax.engine import devices
from fishjax.exits import DONE, FAILED, guarded
from fishjax.fields import UsageError, nearest
from fishjax.present.parts import parts_table

PARTS: tuple[Part, ...] = (
    *(*NETWORK, *OPTIMISATION, *OBJECTIVE),
    *(*WATCHED, *MEASURES, *CAUSES, *OWN),
)


def main(
    rounds: Annotated[int, arg(help="interleaved rounds of timing; 0: no timing")] = 7,
    only: Annotated[str, arg(help="parts whose name or family has this in it")] = "",
    json_: Annotated[bool, FlagCreatePairsOff, arg(name="json", help="print one object")] = False,
) -> None:
    """Checks and times the parts."""

    def command() -> int:
        parts = [part for part in PARTS if only in f"{part.family} {part.name}"]
        if not parts:
            names = [part.name for part in PARTS]
            raise UsageError(f"no part has {only!r} in its name or family{nearest(only, names)}")
        devices.prepare()
        found = examine(parts, rounds)
        print(json.dumps(found) if json_ else parts_table(found).write("md"))
        return DONE if all(row["difference"] <= row["limit"] for row in found["parts"]) else FAILED

    sys.exit(guarded(command))


def examine(parts: list[Part], rounds: int) -> dict[str, Any]:
    """Every part's largest difference and cost."""
    cost = costs(parts, rounds) if rounds else {}
    rows = [
        {
            "family": part.family,
            "part": part.name,
            "reference": part.reference,
            "difference": part.difference(),
            "limit": part.limit,
            "in_step": part.settings is not None,
            "cost": cost.get(part.title),
        }
        for part in parts
    ]
    return {"machine": devices.describe(), "rounds": rounds, "parts": rows}


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.parts")
