"""One start of a study in its folder: what is planned, what is left to run, and its conclusion."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import xarray as xr

from fishjax.data.sheet import write_samples
from fishjax.data.source import open_source
from fishjax.engine.devices import describe
from fishjax.engine.packs import Pack, pack, split_of
from fishjax.engine.program import default_mapping
from fishjax.engine.runner import Runner, Usage
from fishjax.evidence.summary import summarise
from fishjax.fields import UsageError, choose
from fishjax.present.figures import write_figures
from fishjax.present.tables import write_tables
from fishjax.provenance import revision
from fishjax.results import collect, long_table
from fishjax.settings import override, to_dict
from fishjax.store import ENVIRONMENT, SUMMARY, SweepFolder, write_json, write_parquet
from fishjax.study import Request, Study
from fishjax.sweep import TUNING_SEEDS_FROM, Cell, Tuned, cells

PACK_WIDTH = 16
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Stage:
    """Cells that can be written down together: first those that tune, then the arms."""

    name: str
    cells: tuple[Cell, ...]


class Session:
    """A study, a request, and the folder that holds what came of them.

    Making one checks the request and opens the data; nothing is written and nothing is compiled.
    Raises UsageError for whatever cannot be met.
    """

    def __init__(self, study: Study, request: Request) -> None:
        choose(request.scale, study.scales, "scale")
        self.study, self.request = study, request
        self.scale = study.scales[request.scale]
        self.base = override(override(study.base, self.scale.settings), request.settings)
        self.seeds = request.seeds or self.scale.seeds
        if self.seeds[-1] >= TUNING_SEEDS_FROM:
            raise UsageError(f"seeds from {TUNING_SEEDS_FROM} on are kept for tuning")
        self._refuse_settings_without_effect()
        self._refuse_epochs_without_evaluation()
        self.sweep = SweepFolder(request.out)
        self.dataset = open_source(request.data, self.base.data.image_size)
        for cell in [*self.tuning_stage().cells, *self.expected_stage().cells]:
            split_of(self.dataset, cell)

    def pin(self) -> None:
        """Pins the plan in the folder, or checks it against the one an earlier start pinned."""
        plan = {
            "schema": 1,
            "study": self.study.name,
            "scale": self.request.scale,
            "data": {"spec": self.request.data, "hash": self.dataset.digest()},
            "base": to_dict(self.base),
            "arms": {arm.name: _plain(arm.changes) for arm in self.study.arms},
            "tuning": dataclasses.asdict(self.scale.tuning),
            "engine": {
                "backend": describe()["backend"],
                "mapping": default_mapping(),
                "width": PACK_WIDTH,
            },
            "seeds": list(self.seeds),
        }
        self.seeds = tuple(self.sweep.pin(plan, growing="seeds")["seeds"])
        data = {"spec": self.dataset.spec, "hash": self.dataset.digest()}
        write_json(self.sweep.path / ENVIRONMENT, {**revision(), **describe(), "data": data})
        write_samples(self.dataset, self.sweep.path / "samples")

    def tuning_stage(self) -> Stage:
        """Every tuned arm at every rate, on the tuning seeds."""
        tuning = self.scale.tuning
        candidates = tuning.candidates(self.study.arms)
        return Stage("tuning", tuple(cells(candidates, self.base, {}, tuning.seeds)))

    def arm_stage(self) -> Stage:
        """Every arm at every seed, at the rates that the committed tuning cells chose."""
        return self._arms_at(self.rates())

    def expected_stage(self) -> Stage:
        """The arms as they would be at the first rate tried: as many cells, the same programs."""
        return self._arms_at({arm: self.scale.tuning.rates[0] for arm in self.scale.tuning.arms})

    def stages(self) -> tuple[Stage, Stage]:
        """Both stages as far as they can be known: the arms' rates may still have to be tuned."""
        tuning = self.tuning_stage()
        tuned = not any(each.cells for each in self.missing(tuning))
        return tuning, self.arm_stage() if tuned else self.expected_stage()

    def runner(self) -> Runner:
        """What runs the packs of both stages."""
        return Runner(self.dataset, self.sweep, default_mapping(), PACK_WIDTH)

    def missing(self, stage: Stage) -> list[Pack]:
        """The packs of the stage, each with only the cells that are not committed."""
        packs = pack(stage.cells, len(self.dataset.species), PACK_WIDTH)
        return [
            dataclasses.replace(each, cells=tuple(c for c in each.cells if not self._done(c)))
            for each in packs
        ]

    def run(self, stage: Stage, runner: Runner, tick: Tick) -> bool:
        """Runs this process's share of what is missing; True once the whole stage is committed."""
        share, shares = self.request.shard
        mine = [each for each in self.missing(stage)[share::shares] if each.cells]
        runner.run(mine, tick)
        return not any(each.cells for each in self.missing(stage))

    def rates(self) -> dict[str, float]:
        """The tuned rate of each tuned arm; a diverged run counts as chance."""
        tuning = self.scale.tuning
        results = self._collect(self.tuning_stage())
        last = results["val_accuracy"].dropna("epoch", how="all").isel(epoch=-1)
        mean = last.where(~results["diverged"], 1.0 / len(self.dataset.species)).mean("seed")

        def merit(arm: str, rate: float) -> tuple[float, float]:
            return float(mean.sel(arm=f"{arm}@{rate:g}")), -rate

        return {arm: max(tuning.rates, key=lambda r: merit(arm, r)) for arm in tuning.arms}

    def spent(self, usage: Usage, total_s: float) -> None:
        """Notes the seconds of this start, whether or not it came to an end."""
        self.sweep.log_timing({**dataclasses.asdict(usage), "total_s": total_s})

    def conclude(self, stage: Stage) -> tuple[dict, xr.Dataset]:
        """Writes all that is derived from the cells; returns the summary and the results.

        Its own seconds are those of the tables and figures, and are not in the timing.
        """
        folder = self.sweep.path
        results = self._collect(stage)
        summary = summarise(results, self.study.plan, self._about())
        write_parquet(folder / "results.parquet", pa.Table.from_pandas(long_table(results)))
        write_json(folder / SUMMARY, summary)
        write_tables(summary, folder / "tables")
        write_figures(summary, results, folder / "figures")
        return summary, results

    def _about(self) -> dict[str, Any]:
        """What the summary says beside the results."""
        tuning = self.scale.tuning
        timing = self.sweep.timing()
        running = timing.get("run_s", 0.0)
        return {
            "study": self.study.name,
            "scale": self.request.scale,
            "data": {"spec": self.dataset.spec, "hash": self.dataset.digest()},
            "overrides": {arm.name: _plain(arm.changes) for arm in self.study.arms},
            "tuning": {
                "seeds": list(tuning.seeds),
                "rates": list(tuning.rates),
                "settings_tried": len(tuning.rates) * len(tuning.arms),
                "chosen": self.rates(),
            },
            "timing": {
                **timing,
                "run_steps_per_s": timing["run_steps"] / running if running else None,
            },
        }

    def _arms_at(self, rates: Mapping[str, float]) -> Stage:
        return Stage("arms", tuple(cells(self.study.arms, self.base, rates, self.seeds)))

    def _done(self, cell: Cell) -> bool:
        return self.sweep.cell(cell.folder).outcome() is not None

    def _collect(self, stage: Stage) -> xr.Dataset:
        folders = {(cell.arm, cell.seed): cell.folder for cell in stage.cells}
        return collect(self.sweep, folders, len(self.dataset.species))

    def _refuse_settings_without_effect(self) -> None:
        """Arms override the base; a setting that every one of them overrides would do nothing."""
        for key in self.request.settings:
            if all(key in arm.changes for arm in self.study.arms):
                raise UsageError(
                    f"--set {key} has no effect: every arm of {self.study.name} sets it"
                )

    def _refuse_epochs_without_evaluation(self) -> None:
        """What the plan reads at some epoch must be measured there."""
        for epoch in sorted(self.study.plan.epochs):
            if epoch % self.base.watch.every:
                raise UsageError(
                    f"the plan of {self.study.name} reads epoch {epoch:g}, which is not a "
                    f"multiple of watch.every={self.base.watch.every}"
                )


def _plain(changes: Mapping[str, Any]) -> dict[str, Any]:
    """An arm's changes as JSON values; a tuned rate as words."""
    return {
        key: f"{value.times:g} x tuned for {value.arm}" if isinstance(value, Tuned) else value
        for key, value in changes.items()
    }
