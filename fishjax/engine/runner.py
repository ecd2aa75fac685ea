"""Runs cells that are not committed yet, pack by pack; each is committed while the next trains."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from fishjax.data.corruptions import view_digest
from fishjax.data.pool import Pool
from fishjax.engine import cache
from fishjax.engine.compiler import Programs
from fishjax.engine.devices import replicate, spread
from fishjax.engine.keeper import Keeper, TrainedPack
from fishjax.engine.memory import is_of_memory
from fishjax.engine.packs import Pack, ask_of, shared, slots
from fishjax.engine.program import Program, Slots
from fishjax.engine.record import Record
from fishjax.engine.widths import half, widened
from fishjax.nn.models import build
from fishjax.settings import to_dict
from fishjax.setup import Setup
from fishjax.store import SweepFolder
from fishjax.train import State

Tick = Callable[[int], None]
_SEAL_EVERY_S = 60.0


@dataclass
class Usage:
    """Seconds and run-steps of this start.

    compile_s: waiting for a compilation, while nothing trained. run_s: all other seconds of the
    packs. compiling_s: the seconds of every compilation, most of them beside running or another.
    """

    compile_s: float = 0.0
    run_s: float = 0.0
    run_steps: int = 0
    compiling_s: float = 0.0


class Runner:
    """Turns cells into committed folders.

    Every cell's data must be in the pool, whose size is part of the compiled programs.
    """

    def __init__(self, pool: Pool, sweep: SweepFolder, programs: Programs, width: int) -> None:
        self.usage = Usage()
        self._pool, self._sweep = pool, sweep
        self._dataset, self._source = pool.dataset, pool.dataset.digest()
        self._programs = programs
        self._begun: set[Setup] = set()
        self._narrowed: dict[Setup, int] = {}
        self._keeper = Keeper(pool, sweep)
        self._sealed = time.monotonic()
        self._shared = replicate(shared(pool), width)

    def run(self, packs: Sequence[Pack], tick: Tick, later: Sequence[Pack] = ()) -> None:
        """Runs every cell of `packs`; `tick` is told of run-steps as they are done.

        `tick` may end all by an exception; it is told of 0 once more when all is committed.
        Whatever ends all, what was trained to its end is committed first. Raises what writing that
        raised.
        later: packs that may follow, whose programs can be compiled while the last of these runs.
        """
        try:
            for position, pack in enumerate(packs):
                self._compile_ahead([*packs[position:], *later])
                with self._timed():
                    self._run_within_memory(pack, tick)
        except BaseException:
            self._programs.stop()
            raise
        finally:
            with self._timed():
                self._keeper.settle()
            self.usage.compiling_s = self._programs.compile_s
        tick(0)

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        """Adds the seconds of a block to the usage; then seals what it compiled."""
        start, waited = time.monotonic(), self._programs.waited_s
        try:
            yield
        finally:
            waiting = self._programs.waited_s - waited
            self.usage.compile_s += waiting
            self.usage.run_s += time.monotonic() - start - waiting
            self._seal()

    def _compile_ahead(self, packs: Sequence[Pack]) -> None:
        """Begins to compile for the first pack and for the next that has another setup."""
        first = packs[0]
        other = next((each for each in packs if each.setup != first.setup), first)
        for each in (first, other):
            if each.setup not in self._begun:
                self._begun.add(each.setup)
                one = slots(self._pool, each.narrowed(1)[0])
                self._programs.ahead(each.setup, self._shared, widened(one, each.width))

    def _run_within_memory(self, pack: Pack, tick: Tick) -> None:
        """Runs the pack; where memory runs out, at half its width, which its setup then keeps."""
        for each in pack.narrowed(self._narrowed.get(pack.setup, pack.width)):
            half_width = half(each.width, jax.local_device_count())
            done = self.usage.run_steps
            try:
                self._run(each, tick)
            except (MemoryError, jax.errors.JaxRuntimeError) as error:
                if not is_of_memory(error) or pack.setup in self._narrowed or not half_width:
                    raise
            else:
                self._keeper.settle(but=1)
                self._count(each, tick)
                continue
            print(
                f"packs of {each.width} runs do not fit in memory: going on with {half_width}",
                file=sys.stderr,
            )
            tick(done - self.usage.run_steps)
            self.usage.run_steps = done
            self._narrowed[pack.setup] = half_width
            self._run_within_memory(each, tick)

    def _run(self, pack: Pack, tick: Tick) -> None:
        """Trains the pack and hands it to the keeper."""
        program = self._programs.of(pack.setup, pack.width)
        folders = [self._sweep.cell(cell.folder) for cell in pack.cells]
        for folder, cell in zip(folders, pack.cells, strict=True):
            about = {"arm": cell.arm, "seed": cell.seed, "species": self._dataset.species}
            shown = {"data_hash": view_digest(self._source, *ask_of(cell))}
            folder.start({**about, **shown, "config": to_dict(cell.config)})
        record = Record(pack.setup, build(pack.setup), self._dataset.species)
        runs = spread(slots(self._pool, pack), pack.width)
        state = self._train(program, pack, runs, record, tick)
        kept = jax.device_get((state.variables, state.bad_step, runs.mean, runs.deviation))
        self._keeper.keep(TrainedPack(pack, record, *kept))

    def _train(
        self, program: Program, pack: Pack, runs: Slots, record: Record, tick: Tick
    ) -> State:
        """Trains the pack to the end; the host reads a chunk while the next one runs.

        A chunk is told to `tick`, which may end all, before the next one; the last is left to the
        caller.
        """
        pool, setup = replicate(self._shared, pack.width), pack.setup
        state, evaluation = program.assess(pool, runs, program.begin(pool, runs))
        for chunk in range(setup.chunks):
            if chunk:
                self._count(pack, tick)
            state, trace = program.advance(pool, runs, state)
            self._note(pack, record, evaluation)
            state, evaluation = program.assess(pool, runs, state)
            record.traces.append(jax.device_get(trace))
        self._note(pack, record, evaluation)
        record.examination = jax.device_get(program.finish(pool, runs, state))
        return state

    def _count(self, pack: Pack, tick: Tick) -> None:
        """Counts and tells a chunk's run-steps."""
        if time.monotonic() - self._sealed > _SEAL_EVERY_S:
            self._seal()
        steps = pack.run_steps // pack.setup.chunks
        self.usage.run_steps += steps
        tick(steps)

    def _seal(self) -> None:
        """Seals what has been compiled, which is not trusted for long without that."""
        cache.seal()
        self._sealed = time.monotonic()

    def _note(self, pack: Pack, record: Record, evaluation: Any) -> None:
        record.evaluations.append(jax.device_get(evaluation))
        for run, cell in zip(pack.slots, pack.cells, strict=True):
            self._sweep.cell(cell.folder).log(record.line(run))
