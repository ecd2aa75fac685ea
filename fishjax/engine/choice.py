"""How a study is computed: its kernels and the width of its packs, which its first start pins."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from fishjax.data.pool import Pool
from fishjax.engine import native
from fishjax.engine.compiler import Programs
from fishjax.engine.devices import describe
from fishjax.engine.kernels import AUTO, ENGINES, Names, described, kernels
from fishjax.engine.measured import measured
from fishjax.engine.memory import free_per_device
from fishjax.engine.packs import Pack, shared, slots
from fishjax.engine.program import Program, Shared, Slots, default_mapping
from fishjax.engine.widths import PACK_WIDTH, even, planned
from fishjax.setup import lower


@dataclass(frozen=True)
class Engine:
    """Kernels by name, how many runs a pack holds, and the programs made with these kernels.

    said: what computes, in words, and why it is nothing faster.
    """

    names: Names
    width: int
    programs: Programs
    said: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """What a first start pins."""
        return {
            "backend": describe()["backend"],
            "mapping": self.programs.mapping,
            "width": self.width,
            "kernels": self.names,
        }


def pinned_in(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """The engine that a plan pins; empty where it pins none."""
    engine = plan.get("engine")
    if isinstance(engine, dict) and isinstance(engine.get("width"), int):
        return engine
    return {}


def first_width(pinned: Mapping[str, Any]) -> int:
    """How many runs a pack holds until memory has been asked: as pinned, else as many as may be."""
    return pinned.get("width") or even(PACK_WIDTH, jax.local_device_count())


def engine_for(
    named: str, pinned: Mapping[str, Any], packs: Sequence[Pack], pool: Callable[[], Pool]
) -> Engine:
    """The kernels that are named; for AUTO those pinned, or what is fastest here for these packs.

    packs: all that may be run, of `first_width`. pool: what they are fed from, which is asked for
    only where the width is not pinned. Raises UsageError for kernels that this machine does not
    have.
    """
    automatic, width = named == AUTO, first_width(pinned)
    names = (pinned.get("kernels") or _fastest(packs, width)) if automatic else ENGINES[named]
    programs = Programs(default_mapping(), kernels(names))
    if "width" not in pinned:
        needs = _needs(packs, programs, pool)
        width = planned(needs, jax.local_device_count(), free_per_device())
    why = native.load().said if automatic and jax.default_backend() == "cpu" else ()
    return Engine(names, width, programs, (*why, described(names)))


def _fastest(packs: Sequence[Pack], width: int) -> Names:
    hypers = {each.setup: lower(each.cells[0].config, each.setup.classes)[1] for each in packs}
    return measured(hypers.items(), default_mapping(), width)


def _needs(
    packs: Sequence[Pack], programs: Programs, pool: Callable[[], Pool]
) -> Iterator[tuple[Program, Shared, Slots]]:
    """Each setup's program, the pool, and a pack of one run."""
    for setup, each in {each.setup: each for each in packs}.items():
        only = each.narrowed(1)[0]
        yield programs.of(setup, each.width), shared(pool()), slots(pool(), only)
