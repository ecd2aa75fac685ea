"""The search for a scenario's knobs: every combination tried on tuning seeds, each one counted."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import xarray as xr

from fishjax.evidence.plan import Scenario
from fishjax.evidence.scenario import declared, reproduce
from fishjax.evidence.tuning import best_rates
from fishjax.fields import UsageError
from fishjax.present.search import search_table
from fishjax.present.tables import write_table
from fishjax.study import Request, Search, Study
from fishjax.sweep import TUNING_SEEDS_FROM, Arm, Tuned, Tuning, cells
from fishjax.workplace import Stage, Workplace

SEARCH = "search.json"


class Fitting:
    """One start of a study's search in its folder; it is resumed as a study is.

    Raises UsageError where the study declares no search, or one on verdict seeds.
    """

    file = SEARCH

    def __init__(self, study: Study, request: Request) -> None:
        if study.search is None or study.plan.scenario is None:
            raise UsageError(f"{study.name} declares no knobs to search")
        self.search: Search = study.search
        self.scenario: Scenario = study.plan.scenario
        if min(self.search.seeds) < TUNING_SEEDS_FROM:
            raise UsageError(f"knobs are searched on seeds from {TUNING_SEEDS_FROM} on")
        if request.seeds or request.shard != (0, 1):
            raise UsageError("a search has seeds of its own and is not sharded")
        self.place = Workplace(study, request)
        self.arms = [arm for arm in study.arms if arm.name in study.plan.scenario_arms]
        for arm in self.arms:
            if arm.changes.get("hyper.lr") != Tuned(arm.name):
                raise UsageError(f"the search needs a rate tuned for {arm.name} itself")
        names = tuple(arm.name for arm in self.arms)
        self.tuning: Tuning = dataclasses.replace(
            self.place.scale.tuning, arms=names, seeds=self.search.seeds
        )
        self.place.check(self._stage(self.search.settings()[0]))

    def pin(self) -> None:
        """Pins the search in the folder, or checks it against the one pinned before."""
        plan = {
            "search": dataclasses.asdict(self.search),
            "tuning": dataclasses.asdict(self.tuning),
        }
        self.place.pin({**plan, "arms": {}, "seeds": list(self.search.seeds)}, growing="seeds")

    def stages(self) -> list[Stage]:
        """Every setting's cells in one stage; what two settings share is run once."""
        every = [cell for setting in self.search.settings() for cell in self._stage(setting).cells]
        return [Stage("search", tuple({cell.folder: cell for cell in every}.values()))]

    def conclude(self) -> dict[str, Any]:
        """Writes the table; returns what each setting measured, and the first to meet every one."""
        tried = [self._judge(setting) for setting in self.search.settings()]
        found = {
            "schema": 1,
            "study": self.place.study.name,
            "scale": self.place.request.scale,
            "data": self.place.source,
            "seeds": list(self.search.seeds),
            "rates": list(self.tuning.rates),
            "knobs": [dataclasses.asdict(knob) for knob in self.search.knobs],
            "scenario": self.scenario.id,
            "target": declared(self.scenario),
            "settings_tried": len(tried),
            "tried_earlier": self.search.earlier,
            "runs": len(self.stages()[0].cells),
            "tried": tried,
            "taken": next((each["setting"] for each in tried if each["reproduced"]), None),
        }
        write_table(search_table(found), self.place.sweep.path / "tables")
        return found

    def render(self, found: Mapping[str, Any]) -> str:
        """The settings tried as a table, and the one to take."""
        taken = found["taken"] or "none: no setting meets every target"
        return f"{search_table(found).write('md')}\nto take: {taken}"

    def extent(self) -> str:
        """How much is tried."""
        rates, seeds = len(self.tuning.rates), len(self.search.seeds)
        return f"{len(self.search.settings())} settings x {rates} rates x {seeds} seeds"

    def _stage(self, setting: Mapping[str, Any]) -> Stage:
        """The scenario's arms at one setting and every rate, on the search's seeds."""
        turned = [
            Arm(arm.name, {**arm.changes, **self.search.changes(setting, arm.name)})
            for arm in self.arms
        ]
        candidates = self.tuning.candidates(turned)
        return Stage("setting", tuple(cells(candidates, self.place.base, {}, self.search.seeds)))

    def _judge(self, setting: Mapping[str, Any]) -> dict[str, Any]:
        results = self.place.collect(self._stage(setting))
        rates = best_rates(results, self.tuning)
        entry = reproduce(self.scenario, self._at(results, rates))
        return {
            "setting": dict(setting),
            "rates": rates,
            "measured": entry["measured"],
            "reproduced": entry["reproduced"],
        }

    def _at(self, results: xr.Dataset, rates: Mapping[str, float]) -> xr.Dataset:
        """The results at each arm's chosen rate, under the arms' own names."""
        names = [self.tuning.candidate(arm, rate) for arm, rate in rates.items()]
        return results.sel(arm=names).assign_coords(arm=list(rates))
