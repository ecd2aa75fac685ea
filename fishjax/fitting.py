"""The search for a scenario's knobs: every combination tried on tuning seeds, each one counted."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from fishjax.evidence.plan import Scenario
from fishjax.evidence.scenario import declared, margins, reproduce
from fishjax.evidence.tuning import best_rates
from fishjax.fields import UsageError
from fishjax.files import number
from fishjax.present.search import search_table
from fishjax.present.tables import write_table
from fishjax.readable import check_readable
from fishjax.settings import plain
from fishjax.store import SEARCH
from fishjax.study import Request, Search, Study
from fishjax.sweep import TUNING_SEEDS_FROM, Arm, Cell, Tuned, Tuning, cells
from fishjax.turned import check_turned
from fishjax.workplace import Stage, Workplace

Setting = Mapping[str, Any]


class Fitting:
    """One start of a study's search in its folder; it is resumed as a study is.

    A setting is treated as the study treats its arms: rates are tuned on the scale's tuning seeds,
    and the scenario is measured at those rates on seeds of the search's own. Raises UsageError
    where the study declares no search, or one on verdict seeds.
    """

    file = SEARCH

    def __init__(self, study: Study, request: Request) -> None:
        if study.search is None or study.plan.scenario is None:
            raise UsageError(f"{study.name} declares no knobs to search")
        self.search: Search = study.search
        self.seeds = self.search.seeds
        self.scenario: Scenario = study.plan.scenario
        if min(self.seeds) < TUNING_SEEDS_FROM:
            raise UsageError(f"knobs are searched on seeds from {TUNING_SEEDS_FROM} on")
        if request.seeds or request.shard != (0, 1):
            raise UsageError("a search has seeds of its own and is not sharded")
        self.place = Workplace(study, request)
        self.arms = [arm for arm in study.arms if arm.name in study.plan.scenario_arms]
        chosen = {arm.name: arm.changes.get("hyper.lr") for arm in self.arms}
        names = tuple(name for name, rate in chosen.items() if rate == Tuned(name))
        for name, rate in chosen.items():
            if not (isinstance(rate, Tuned) and rate.arm in names):
                raise UsageError(
                    f"the search needs a rate tuned for {name} itself or another scenario's arm"
                )
        self.tuning: Tuning = dataclasses.replace(self.place.scale.tuning, arms=names)
        self.compared = self._turned(self.search.settings()[0])
        configs, declared = (
            {arm.name: arm.config(base, self.tuning.first) for arm in self.compared}
            for base in (self.place.base, self.place.declared)
        )
        check_turned(study.name, self.compared, request.settings, configs, declared)
        check_readable(study.name, self.scenario.targets, self.place.metrics(configs))
        self._found: dict[Stage, dict[str, float]] = {}
        for stage in self.stages():
            self.place.check(stage)

    def pin(self) -> None:
        """Pins the search in the folder, or checks it against the one pinned before."""
        plan = {
            "search": plain(dataclasses.asdict(self.search)),
            "tuning": dataclasses.asdict(self.tuning),
            "arms": {},
            "seeds": list(self.seeds),
        }
        self.place.pin(plan, "seeds", self.stages())

    def stages(self) -> list[Stage]:
        """Rates of every setting, then every setting at its rates, as far as these are known."""
        settings = self.search.settings()
        tuning = _once("tuning", (cell for each in settings for cell in self._tuning(each).cells))
        tuned = not any(pack.cells for pack in self.place.missing(tuning))
        judged = (
            cell
            for each in settings
            for cell in self._judging(each, self._rates(each) if tuned else self.tuning.first).cells
        )
        return [tuning, _once("settings", judged)]

    def conclude(self) -> dict[str, Any]:
        """Writes the table; returns what each setting measured, and which is to be taken."""
        tried = [self._judge(setting) for setting in self.search.settings()]
        found = {
            "schema": 1,
            "study": self.place.study.name,
            "scale": self.place.request.scale,
            "data": self.place.source,
            "seeds": list(self.seeds),
            "tuning_seeds": list(self.tuning.seeds),
            "rates": list(self.tuning.rates),
            "knobs": [plain(dataclasses.asdict(knob)) for knob in self.search.knobs],
            "scenario": self.scenario.id,
            "target": declared(self.scenario),
            "settings_tried": len(tried),
            "tried_earlier": self.search.earlier,
            "runs": sum(len(stage.cells) for stage in self.stages()),
            "tried": tried,
            "taken": _widest(tried),
        }
        write_table(search_table(found), self.place.sweep.path / "tables")
        return found

    def render(self, found: Mapping[str, Any]) -> str:
        """The settings tried as a table, and the one to take."""
        taken = found["taken"] or "none: no setting meets every target"
        return f"{search_table(found).write('md')}\nto take: {taken}"

    def extent(self) -> str:
        """How much is tried."""
        rates, seeds = len(self.tuning.rates), len(self.seeds)
        return f"{len(self.search.settings())} settings x {rates} rates, then x {seeds} seeds"

    def _turned(self, setting: Setting) -> list[Arm]:
        """The scenario's arms at one setting."""
        return [
            Arm(arm.name, {**arm.changes, **self.search.changes(setting, arm.name)})
            for arm in self.arms
        ]

    def _tuning(self, setting: Setting) -> Stage:
        candidates = self.tuning.candidates(self._turned(setting))
        return Stage("tuning", tuple(cells(candidates, self.place.base, {}, self.tuning.seeds)))

    def _judging(self, setting: Setting, rates: Mapping[str, float]) -> Stage:
        turned, seeds = self._turned(setting), self.seeds
        return Stage("setting", tuple(cells(turned, self.place.base, rates, seeds)))

    def _rates(self, setting: Setting) -> dict[str, float]:
        """The tuned rates at one setting, once all of its tuning is committed; read once."""
        stage = self._tuning(setting)
        if stage not in self._found:
            self._found[stage] = best_rates(self.place.collect(stage), self.tuning)
        return self._found[stage]

    def _judge(self, setting: Setting) -> dict[str, Any]:
        rates = self._rates(setting)
        results = self.place.collect(self._judging(setting, rates))
        entry = reproduce(self.scenario, results)
        return {
            "setting": plain(setting),
            "rates": rates,
            "measured": entry["measured"],
            "reproduced": entry["reproduced"],
            "margins": [number(m) for m in margins(self.scenario, entry["measured"])],
        }


def _widest(tried: Iterable[Mapping[str, Any]]) -> Setting | None:
    """Of the settings that meet every target the one whose narrowest margin is widest.

    Of equals the one whose next narrowest is, and the first of those that are equal in all. A
    margin without bound, of seeds that do not differ, is the widest.
    """
    met = [each for each in tried if each["reproduced"]]
    if not met:
        return None
    wide = [[math.inf if m is None else m for m in each["margins"]] for each in met]
    return met[wide.index(max(wide))]["setting"]


def _once(name: str, every: Iterable[Cell]) -> Stage:
    """A stage in which cells that several settings share are run once."""
    return Stage(name, tuple({cell.folder: cell for cell in every}.values()))
