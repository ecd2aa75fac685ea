"""The programs of a sweep, compiled in threads while the pack before them trains."""

from concurrent.futures import ThreadPoolExecutor

from fishjax.engine.devices import cores
from fishjax.engine.program import Program, RunMapping, Shared, Slots
from fishjax.nn.lowering import Kernels
from fishjax.setup import Setup

_PIECES = 4


class Programs:
    """One program for each static signature and pack width, kept from pack to pack.

    XLA compiles outside the interpreter's lock, one piece on about one core: the pieces of the
    first pack share the cores, those of the next signature take turns with training.
    """

    def __init__(self, mapping: RunMapping, kernels: Kernels) -> None:
        self.mapping: RunMapping = mapping
        self.kernels = kernels
        self._made: dict[tuple[Setup, int], Program] = {}
        self._threads = ThreadPoolExecutor(min(_PIECES, cores()), "compile")

    def of(self, setup: Setup, width: int) -> Program:
        program = Program(setup, self.mapping, self.kernels)
        return self._made.setdefault((setup, width), program)

    def ahead(self, setup: Setup, shared: Shared, slots: Slots) -> None:
        """Begins to compile the program for packs of these shapes, unless that was begun before."""
        self.of(setup, len(slots.active)).ahead(self._threads, shared, slots)

    def stop(self) -> None:
        """Gives up whatever compilation has not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def waited_s(self) -> float:
        """Seconds that runs have waited for compilation so far."""
        return sum(program.waited_s for program in self._made.values())

    @property
    def compile_s(self) -> float:
        """Seconds that compilations have taken so far, beside running or not."""
        return sum(program.compile_s for program in self._made.values())
