"""A study's folder with its data: which cells are missing, running them, reading them back."""

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from fishjax.config import Config
from fishjax.data.corruptions import view
from fishjax.data.pool import Pool
from fishjax.data.sheet import write_samples
from fishjax.data.source import open_source
from fishjax.engine.choice import Engine, engine_for, first_width, pinned_in
from fishjax.engine.devices import describe
from fishjax.engine.kernels import AUTO, ENGINES
from fishjax.engine.packs import Pack, ask_of, pack
from fishjax.engine.runner import Runner, Tick, Usage
from fishjax.evaluate import KILLED_SHARES
from fishjax.fields import UsageError, choose
from fishjax.files import write_json
from fishjax.metrics import Measured, Parts, metrics
from fishjax.nn.models import build
from fishjax.nn.own import source_digest
from fishjax.provenance import digest, revision
from fishjax.results import collect
from fishjax.settings import override, to_dict
from fishjax.setup import lower
from fishjax.store import ENVIRONMENT, SweepFolder
from fishjax.study import Request, Scale, Study
from fishjax.sweep import Cell


@dataclass(frozen=True)
class Stage:
    """Cells that can be written down together: first those that tune, then the arms."""

    name: str
    cells: tuple[Cell, ...]


class Workplace:
    """What a study and a request come to: the base run, as the study's scale has it (`declared`)
    and as the request turns it, the data, and the folder of its cells.

    Making one opens the data; nothing is written and nothing is compiled. Raises UsageError for
    what cannot be met.
    """

    def __init__(self, study: Study, request: Request) -> None:
        self.study, self.request = study, request
        choose(request.scale, study.scales, "scale")
        self.scale: Scale = study.scales[request.scale]
        self.declared: Config = override(study.base, self.scale.settings)
        self.base: Config = override(self.declared, request.settings)
        if os.path.exists(request.out) and not os.path.isdir(request.out):
            raise UsageError(f"{request.out} is not a folder; name another --out")
        self.sweep = SweepFolder(request.out)
        self.dataset = open_source(request.data, self.base.data.image_size)
        self._pool: Pool | None = None
        choose(request.engine, (AUTO, *ENGINES), "engine")
        self._engine: Engine | None = None
        self._width = first_width(self._pinned)

    def metrics(self, arms: Mapping[str, Config]) -> dict[str, dict[str, Measured]]:
        """By arm and name every metric that these arms' runs, side by side, will have measured.

        arms: by name their configurations. Raises UsageError for a network of the user's own that
        does not run.
        """
        flips = any(config.data.label_noise for config in arms.values())
        return {
            arm: metrics(config, self._parts(config), flips=flips) for arm, config in arms.items()
        }

    def check(self, stage: Stage) -> None:
        """Raises UsageError for a cell whose data cannot be split or corrupted as it asks, for one
        of images in another size, and for a network of the user's own that does not run.
        """
        size = self.base.data.image_size
        for cell in stage.cells:
            if (other := cell.config.data.image_size) != size:
                raise UsageError(
                    f"arm {cell.arm!r} asks for images of {other} pixels; the study's data are "
                    f"read in {size}: set data.image_size for all arms"
                )
        for each in self._packs(stage):
            build(each.setup)
        for ask in dict.fromkeys(map(ask_of, stage.cells)):
            view(self.dataset, *ask)

    def pin(self, plan: dict[str, Any], growing: str, stages: Sequence[Stage]) -> dict[str, Any]:
        """Pins the plan in the folder, or checks it against the one an earlier start pinned.

        stages: all that may be run; which kernels and how wide a pack are chosen for them.
        Pack width and kernels are the earlier start's, also where memory, devices or measurement
        would now say others. A folder that is refused is refused before anything is compiled.
        """
        whole = self._whole(plan)
        self.sweep.claim(whole, growing)
        engine = self._chosen(stages)
        try:
            pinned = self.sweep.pin({**whole, "engine": engine.as_json()}, growing)
        except UsageError:
            mine, engine = engine.as_json(), self._chosen(stages)
            if engine.as_json() == mine:
                raise
            pinned = self.sweep.pin({**whole, "engine": engine.as_json()}, growing)
        self._engine, self._width = engine, engine.width
        environment = {**revision(), "code": digest("."), **describe(), "data": self.source}
        write_json(self.sweep.path / ENVIRONMENT, environment)
        asks = dict.fromkeys(ask_of(cell) for stage in stages for cell in stage.cells)
        write_samples(self.dataset, asks, self.sweep.path / "samples")
        return pinned

    def _whole(self, plan: dict[str, Any]) -> dict[str, Any]:
        """The plan with what is the same for a study and for the search of its knobs."""
        about = {
            "schema": 1,
            "study": self.study.name,
            "scale": self.request.scale,
            "data": {"spec": self.request.data, "hash": self.dataset.digest()},
            "base": to_dict(self.base),
        }
        return {**about, **self._code(), **plan}

    @property
    def engine(self) -> Engine:
        """How it is computed, once that is pinned."""
        if self._engine is None:
            raise RuntimeError("nothing is pinned yet")
        return self._engine

    @property
    def pinned_seeds(self) -> tuple[int, ...]:
        """The seeds that earlier starts of this study pinned in the folder."""
        with contextlib.suppress(UsageError):
            plan = self.sweep.plan()
            if plan["study"] == self.study.name and "search" not in plan:
                return tuple(plan["seeds"])
        return ()

    @property
    def source(self) -> dict[str, str]:
        """The data by specification and hash."""
        return {"spec": self.dataset.spec, "hash": self.dataset.digest()}

    def alone(self, seeds: Sequence[int]) -> contextlib.AbstractContextManager[None]:
        """Keeps other processes from this request's share; see `store.SweepFolder.alone`."""
        return self.sweep.alone(*self.request.shard, seeds)

    def runner(self, stages: Iterable[Stage]) -> Runner:
        """What runs the packs of these stages, whose cells may still change in what is tuned."""
        return Runner(self._pool_of(stages), self.sweep, self.engine.programs, self.engine.width)

    def missing(self, stage: Stage) -> list[Pack]:
        """The packs of the stage, each with only the cells that are not committed."""
        return [
            dataclasses.replace(each, cells=tuple(c for c in each.cells if not self._done(c)))
            for each in self._packs(stage)
        ]

    def run(self, stage: Stage, runner: Runner, tick: Tick, later: Iterable[Stage] = ()) -> bool:
        """Runs this process's share of what is missing; True once the whole stage is committed.

        later: the stages that follow, for whose packs programs can be compiled meanwhile.
        """
        share, shares = self.request.shard
        mine = [each for each in self.missing(stage)[share::shares] if each.cells]
        following = [each for other in later for each in self._packs(other)]
        runner.run(mine, tick, following[share::shares])
        return not any(each.cells for each in self.missing(stage))

    def collect(self, stage: Stage) -> xr.Dataset:
        """The results of a stage that is committed."""
        folders = {(cell.arm, cell.seed): cell.folder for cell in stage.cells}
        return collect(self.sweep, folders, len(self.dataset.species))

    def shown_in_training(self, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
        """A cell's training subset: uint8 images `[image, height, width, 3]`, labels `[image]`."""
        ask = ask_of(cell)
        pool = Pool(self.dataset, [ask])
        rows = pool.rows[ask].train
        return pool.images[rows], pool.labels[rows]

    def spent(self, usage: Usage, total_s: float) -> None:
        """Notes the seconds of this start, whether or not it came to an end."""
        self.sweep.log_timing({**dataclasses.asdict(usage), "total_s": total_s})

    def sign(self, found: dict[str, Any], file: str) -> dict[str, Any]:
        """Adds the seconds and run-steps of all starts to what was found, and writes it down."""
        spent = self.sweep.timing()
        running = spent.get("run_s", 0.0)
        speed = spent["run_steps"] / running if running else None
        signed = {**found, "timing": {**spent, "run_steps_per_s": speed}}
        write_json(self.sweep.path / file, signed)
        return signed

    def _code(self) -> dict[str, dict[str, str]]:
        """The digest of the source of every network of the user's own, nothing where there is none.

        Raises UsageError where the folder was pinned with other code.
        """
        names = {self.base.model.own, *(arm.changes.get("model.own") for arm in self.study.arms)}
        code = {name: source_digest(name) for name in sorted(filter(None, names))}
        pinned = self.sweep.plan().get("code", {}) if self.sweep.planned else {}
        for name, now in code.items():
            if pinned.get(name, now) != now:
                raise UsageError(
                    f"{self.sweep.path} was started with other code of model.own={name}; "
                    "take that back, or name another --out"
                )
        return {"code": code} if code else {}

    def _parts(self, config: Config) -> Parts:
        species = self.dataset.species
        model = build(lower(config, len(species))[0])
        return {
            "layers": model.layers,
            "hidden": model.hidden,
            "shares": KILLED_SHARES,
            "species": species,
        }

    def _done(self, cell: Cell) -> bool:
        return self.sweep.cell(cell.folder).outcome() is not None

    def _packs(self, stage: Stage) -> list[Pack]:
        return pack(stage.cells, len(self.dataset.species), self._width)

    def _chosen(self, stages: Sequence[Stage]) -> Engine:
        """How these stages are computed: as an earlier start pinned it, else as is best here."""
        packs = [each for stage in stages for each in self._packs(stage)]
        named, pool = self.request.engine, lambda: self._pool_of(stages)
        return engine_for(named, self._pinned, packs, pool)

    @property
    def _pinned(self) -> Mapping[str, Any]:
        """The engine that an earlier start pinned; empty where there was none."""
        with contextlib.suppress(UsageError):
            return pinned_in(self.sweep.plan())
        return {}

    def _pool_of(self, stages: Iterable[Stage]) -> Pool:
        """The pool of these stages' cells, made once."""
        asks = dict.fromkeys(ask_of(cell) for stage in stages for cell in stage.cells)
        if self._pool is None or list(self._pool.views) != list(asks):
            self._pool = Pool(self.dataset, asks)
        return self._pool
