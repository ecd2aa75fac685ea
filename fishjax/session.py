"""One start of a study in its folder: what is planned, what is left to run, and its conclusion."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import xarray as xr

from fishjax.config import Config
from fishjax.evidence.auc import by_species, leave_out, too_rare
from fishjax.evidence.declared import Declaration
from fishjax.evidence.summary import summarise
from fishjax.evidence.tuning import best_rates
from fishjax.fields import UsageError
from fishjax.files import write_atomically, write_parquet
from fishjax.lines import barriers, check_lines
from fishjax.metrics import BARRIER, Measured
from fishjax.present.figures import write_figures
from fishjax.present.table import harmless
from fishjax.present.tables import write_tables
from fishjax.present.terminal import render
from fishjax.provenance import revision
from fishjax.readable import check_readable
from fishjax.results import long_table, trained_by
from fishjax.settings import plain
from fishjax.store import DECLARED, SUMMARY
from fishjax.study import Line, Request, Study
from fishjax.sweep import TUNING_SEEDS_FROM, Tuned, cells
from fishjax.turned import check_turned
from fishjax.workplace import Stage, Workplace

AUC_TABLE = "auc_by_species.csv"


class Session:
    """A study, a request, and the folder that holds what came of them.

    Making one checks the request and opens the data; nothing is written and nothing is compiled.
    Raises UsageError for whatever cannot be met.
    """

    file = SUMMARY

    def __init__(self, study: Study, request: Request) -> None:
        self.place = Workplace(study, request)
        self.study, self.scale = study.on(request.data), self.place.scale
        asked = request.seeds or self.scale.seeds
        self.seeds = tuple(sorted({*asked, *self.place.pinned_seeds}))
        self._tuned = not self.scale.tuning.arms
        self._pinned: Declaration | None = None
        if self.seeds[-1] >= TUNING_SEEDS_FROM:
            raise UsageError(f"seeds from {TUNING_SEEDS_FROM} on are kept for tuning")
        self.lines = tuple(Line(*pair) for pair in study.lines)
        rates = self.scale.tuning.first
        configs, declared = (
            {arm.name: arm.config(base, rates) for arm in study.arms}
            for base in (self.place.base, self.place.declared)
        )
        self.compared = study.arms
        check_turned(study.name, self.compared, request.settings, configs, declared)
        check_lines(self.lines, configs, len(self.place.dataset.species))
        self._refuse_unmeasured(configs)
        self.place.check(self.tuning_stage())
        self.place.check(self.expected_stage())

    def pin(self) -> None:
        """Pins the plan in the folder, or checks it against the one an earlier start pinned.

        Claims, scenario and placebos may have changed since: both versions are then reported.
        """
        plan = {
            "arms": {arm.name: _worded(arm.changes) for arm in self.study.arms},
            "tuning": dataclasses.asdict(self.scale.tuning),
            "seeds": list(self.seeds),
            DECLARED: self._declared().as_json(),
            **({"lines": [list(line) for line in self.lines]} if self.lines else {}),
        }
        stages = [self.tuning_stage(), self.expected_stage()]
        pinned = self.place.pin(plan, "seeds", stages)
        self.seeds = tuple(pinned["seeds"])
        self._pinned = Declaration.from_json(pinned[DECLARED])

    def tuning_stage(self) -> Stage:
        """Every tuned arm at every rate, on the tuning seeds."""
        tuning = self.scale.tuning
        candidates = tuning.candidates(self.study.arms)
        return Stage("tuning", tuple(cells(candidates, self.place.base, {}, tuning.seeds)))

    def arm_stage(self) -> Stage:
        """Every arm at every seed, at the rates that the committed tuning cells chose."""
        return self._arms_at(self.rates)

    def expected_stage(self) -> Stage:
        """The arms as they would be at the first rate tried: as many cells, the same programs."""
        return self._arms_at(self.scale.tuning.first)

    def stages(self) -> list[Stage]:
        """Both stages as far as they can be known: the arms' rates may still have to be tuned.

        Tuning that is committed is not looked at again.
        """
        tuning = self.tuning_stage()
        self._tuned = self._tuned or not any(each.cells for each in self.place.missing(tuning))
        return [tuning, self.arm_stage() if self._tuned else self.expected_stage()]

    @functools.cached_property
    def rates(self) -> dict[str, float]:
        """The tuned rate of each tuned arm, once all of the tuning is committed."""
        return best_rates(self._tuning[0], self.scale.tuning) if self._tuning else {}

    @functools.cached_property
    def _tuning(self) -> list[xr.Dataset]:
        """The numbers of the tuning cells, where there are any, once all are committed."""
        stage = self.tuning_stage()
        return [self.place.collect(stage)] if stage.cells else []

    @functools.cached_property
    def results(self) -> xr.Dataset:
        """The numbers of the arms and of the lines between them, once all arms are committed.

        Test AUCs are without the species that have too few test images.
        """
        stage = self.arm_stage()
        found = leave_out(self.place.collect(stage), too_rare(self._auc_intervals))
        if not self.lines:
            return found
        return found.assign({BARRIER: barriers(self.place, stage, self.lines)})

    def conclude(self) -> dict[str, Any]:
        """Writes what is derived from the cells; returns the summary, but for its timing."""
        folder = self.place.sweep.path
        about = {**self._about(), "looks": self.place.sweep.look(self.seeds)}
        summary = summarise(self.results, self._declared(), about, self._pinned)
        write_parquet(folder / "results.parquet", pa.Table.from_pandas(long_table(self.results)))
        write_tables(summary, folder / "tables")
        found = self._auc_intervals
        named = {name: found[name].map(harmless) for name in ("arm", "species")}
        table = found.assign(**named).to_csv(index=False)
        write_atomically(folder / "tables" / AUC_TABLE, table.encode())
        write_figures(summary, self.results, folder / "figures")
        return summary

    def render(self, summary: Mapping[str, Any]) -> str:
        """The summary as plain text."""
        return render(summary, self.results, self.place.sweep.path)

    def extent(self) -> str:
        """How much is compared."""
        return f"{len(self.study.arms)} arms x {len(self.seeds)} seeds"

    def _declared(self) -> Declaration:
        """The plan as the study's file has it now."""
        return Declaration(self.study.plan, revision())

    def _about(self) -> dict[str, Any]:
        """What the summary says beside the results."""
        tuning, search = self.scale.tuning, self.study.search
        return {
            "study": self.study.name,
            "scale": self.place.request.scale,
            "data": self.place.source,
            "auc_without": too_rare(self._auc_intervals),
            "trained_by": trained_by(*self._tuning, self.results),
            "overrides": {arm.name: _worded(arm.changes) for arm in self.study.arms},
            "search": search
            and {
                "seeds": list(search.seeds),
                "settings_tried": search.earlier + len(search.settings()),
            },
            "tuning": {
                "seeds": list(tuning.seeds),
                "rates": list(tuning.rates),
                "settings_tried": len(tuning.rates) * len(tuning.arms),
                "chosen": self.rates,
            },
        }

    @functools.cached_property
    def _auc_intervals(self) -> pd.DataFrame:
        """DeLong's interval of every species' AUC on the test images of every run."""
        tables = []
        for cell in self.arm_stage().cells:
            predictions = self.place.sweep.cell(cell.folder).table("predictions").to_pandas()
            found = by_species(predictions, self.place.dataset.species)
            tables.append(found.assign(arm=cell.arm, seed=cell.seed))
        columns = ["arm", "seed", "species", "images", "auc", "low", "high"]
        return pd.concat(tables).reindex(columns=columns)

    def _arms_at(self, rates: Mapping[str, float]) -> Stage:
        return Stage("arms", tuple(cells(self.study.arms, self.place.base, rates, self.seeds)))

    def _refuse_unmeasured(self, configs: Mapping[str, Config]) -> None:
        """Refuses a plan that reads what the arms or the lines between them will not measure."""
        measured = self.place.metrics(configs)
        for line in self.lines:
            measured[line.arm][BARRIER] = Measured((configs[line.arm].optim.epochs,))
        check_readable(self.study.name, self.study.plan.contrasts, measured)


def _worded(changes: Mapping[str, Any]) -> dict[str, Any]:
    """An arm's changes as JSON values; a tuned rate as words."""
    return plain(
        {
            key: f"{value.times:g} x tuned for {value.arm}" if isinstance(value, Tuned) else value
            for key, value in changes.items()
        }
    )
