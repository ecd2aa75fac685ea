"""The tables of a study, made from its `summary.json` alone."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from fishjax.present.table import Cell, Column, Number, Table, comma_separated, latex, markdown
from fishjax.present.wording import MINUS, MISSING, difference, p_value, quantity
from fishjax.store import choose, write_atomically

WRITERS = {"md": markdown, "tex": latex, "csv": comma_separated}


def ablation_table(summary: Mapping[str, Any], metrics: Iterable[str] | None = None) -> Table:
    """Arms by metrics: mean over seeds with its 95 % interval; all metrics unless some are named.

    Raises UsageError for a metric that no arm has.
    """
    arms = summary["arms"]
    known = list(dict.fromkeys(name for arm in arms for name in arm["metrics"]))
    if metrics is not None:
        known = [choose(metric, known, "metric") for metric in metrics]
    columns = [Column("arm", "arm"), Column("n", "n"), Column("n_diverged", "diverged")]
    columns += [Column(name, quantity(name).heading, estimate=True) for name in known]
    rows = [
        (arm["name"], arm["n"], arm["n_diverged"], *(_metric(arm, name) for name in known))
        for arm in arms
    ]
    caption = (
        f"Ablation of {summary['study']} on {summary['data']['spec']}: mean over n seeds with its "
        "95 % interval. Each seed redraws training subset, initialisation and order. Diverged runs "
        "count as chance."
    )
    return Table("ablation", caption, tuple(columns), tuple(rows))


def arms_table(summary: Mapping[str, Any]) -> Table:
    """What each arm changes of the base run."""
    columns = (Column("arm", "arm"), Column("overrides", "changes", prose=0.7))
    rows = tuple((arm["name"], changes(arm["overrides"])) for arm in summary["arms"])
    return Table("arms", "What each arm changes of the base run.", columns, rows)


def scenario_table(summary: Mapping[str, Any]) -> Table:
    """The seed's figures beside the measured ones."""
    columns = (
        Column("scenario", "scenario"),
        Column("figure", "figure"),
        Column("seed_figure", "the seed's figure", prose=0.25),
        Column("target", "target"),
        Column("measured", "measured", estimate=True, units=True),
        Column("n", "n"),
        Column("reproduced", "reproduced"),
    )
    rows = tuple(
        (
            scenario["id"],
            quantity(name).label,
            target["seed_figure"],
            bound(name, target),
            *_measured(name, scenario["measured"]),
            "yes" if scenario["reproduced"] else "no",
        )
        for scenario in summary["scenarios"]
        for name, target in scenario["target"].items()
    )
    caption = (
        f"Scenarios of {summary['study']}: the seed's figures beside the mean over n fresh seeds "
        "with its 95 % interval."
    )
    return Table("scenarios", caption, columns, rows)


def claims_table(summary: Mapping[str, Any]) -> Table:
    """A row per claim: verdict, effect, Holm p and what the mechanism did."""
    claims = summary["claims"]
    columns = (
        Column("claim", "claim"),
        Column("text", "the seed says", prose=0.22),
        Column("verdict", "verdict"),
        Column("contrast", "contrast", prose=0.18),
        Column("effect", "effect", estimate=True, units=True),
        Column("p_holm", "p (Holm)"),
        Column("n", "n"),
        Column("seeds_needed", "seeds needed"),
        Column("mechanism", "mechanism", prose=0.15),
    )
    rows = tuple(
        (
            title(claim),
            claim["text"],
            claim["verdict"],
            contrast(claim),
            _effect(claim),
            p_value(claim["p_holm"]),
            claim["n"],
            MISSING if claim["seeds_needed"] is None else claim["seeds_needed"],
            mechanism(claim),
        )
        for claim in claims
    )
    m = max((claim["m"] for claim in claims), default=1)
    caption = (
        f"Claims of {summary['study']}. Effect: arm minus control, paired by seed, with the "
        f"interval at 1 {MINUS} 0.05/{m}; n pairs; p of the sign-flip test (of the sign test where "
        f"a pair diverged), Holm-corrected over {m} contrasts."
    )
    return Table("claims", caption, columns, rows)


def placebo_table(summary: Mapping[str, Any]) -> Table:
    """What should not matter, and what it did."""
    columns = (
        Column("placebo", "placebo"),
        Column("text", "what should not matter", prose=0.3),
        Column("contrast", "contrast", prose=0.25),
        Column("effect", "effect", estimate=True, units=True),
        Column("delta", "margin", units=True),
        Column("n", "n"),
        Column("verdict", "verdict"),
    )
    rows = tuple(
        (
            placebo["id"],
            placebo["text"],
            contrast(placebo),
            _effect(placebo),
            Number(placebo["delta"], quantity(reading(placebo))),
            placebo["n"],
            placebo["verdict"],
        )
        for placebo in summary["placebos"]
    )
    return Table("placebos", "Placebos: an effect beyond the margin voids the study.", columns, rows)


def write_tables(summary: Mapping[str, Any], folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes `tables/*.{md,tex,csv}` into a study's folder; equal summaries give equal bytes."""
    makers = (ablation_table, arms_table, scenario_table, claims_table, placebo_table)
    written = []
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for table in (make(summary) for make in makers):
        for suffix, write in WRITERS.items():
            path = folder / "tables" / f"{table.name}.{suffix}"
            write_atomically(path, write(table).encode("utf-8"))
            written.append(path)
    return written


def title(claim: Mapping[str, Any]) -> str:
    """`2.4 (a)`: the claim's id and its part."""
    return f"{claim['id']} ({claim['part']})" if claim["part"] else claim["id"]


def reading(effect: Mapping[str, Any]) -> str:
    """What was read of each run: the reading's label where there is one, else the metric."""
    return effect.get("reading") or effect["metric"] or ""


def contrast(effect: Mapping[str, Any]) -> str:
    """`validation accuracy: leaky − relu`."""
    arm, control = _side(effect["arm"]), _side(effect["control"])
    return f"{quantity(reading(effect)).label}: {arm} {MINUS} {control}"


def mechanism(claim: Mapping[str, Any]) -> str:
    """What the mechanism's statistic did, or a dash."""
    found = claim["mechanism"]
    if not found:
        return MISSING
    kind = difference(reading(found))
    moved = "moved" if found["moved"] else "did not move"
    return f"{kind.label} {moved}, {kind.with_unit(kind.estimate(found['effect'], found['ci']))}"


def bound(name: str, target: Mapping[str, Any]) -> str:
    """A target's range with its unit: `≤ 1.0 points`, `0.520 to 0.580`."""
    kind, low, high = quantity(name), target["low"], target["high"]
    if low is not None and high is not None:
        text = f"{kind.text(low)} to {kind.text(high)}"
    elif low is not None:
        text = f"≥ {kind.text(low)}"
    else:
        text = f"≤ {kind.text(high)}" if high is not None else MISSING
    return kind.with_unit(text)


def changes(overrides: Mapping[str, Any]) -> str:
    """`hyper.lr=0.1, model.widths=8,16`, or a dash for the base run itself."""
    return "; ".join(f"{key}={_setting(value)}" for key, value in overrides.items()) or MISSING


def _metric(arm: Mapping[str, Any], name: str) -> Number:
    found = arm["metrics"].get(name)
    if found is None:
        return Number(None, quantity(name))
    return Number(found["mean"], quantity(name), found["ci"])


def _effect(effect: Mapping[str, Any]) -> Number:
    return Number(effect["effect"], difference(reading(effect)), effect["ci"])


def _measured(name: str, measured: Mapping[str, Any]) -> tuple[Cell, Cell]:
    found = measured.get(name)
    if found is None:
        return Number(None, quantity(name)), 0
    return Number(found["mean"], quantity(name), found["ci"]), found["n"]


def _setting(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _side(side: Any) -> str:
    """An arm, the mean of several, or a number."""
    return " & ".join(map(str, side)) if isinstance(side, list | tuple) else str(side)
