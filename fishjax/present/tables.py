"""The tables of a study, made from its `summary.json` alone."""

import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fishjax.fields import choose
from fishjax.files import write_atomically
from fishjax.present import phrases
from fishjax.present.table import WRITERS, Column, Number, Table
from fishjax.present.wording import COUNT, MINUS, P_VALUE, quantity

HEADLINE = (
    "test_accuracy",
    "val_accuracy",
    "train_accuracy",
    "train_loss",
    "dead_share",
    "flow_ratio",
)


def tables(summary: Mapping[str, Any]) -> list[Table]:
    """Every table of a study that has something to say."""
    return [table for table in _all(summary) if table.rows]


def _all(summary: Mapping[str, Any]) -> Iterator[Table]:
    yield ablation_table(summary)
    yield arms_table(summary)
    yield scenario_table(summary)
    yield claims_table(summary)
    yield members_table(summary)
    yield placebo_table(summary)


def ablation_table(summary: Mapping[str, Any], metrics: Iterable[str] | None = None) -> Table:
    """Arms by metrics: mean over seeds with its 95 % interval.

    metrics: those of HEADLINE that were measured, unless some are named. Raises UsageError for a
    metric that no arm has.
    """
    arms = summary["arms"]
    known = list(dict.fromkeys(name for arm in arms for name in arm["metrics"]))
    if metrics is None:
        shown = [name for name in HEADLINE if name in known] or known
    else:
        shown = [choose(metric, known, "metric") for metric in metrics]
    columns = [Column("arm", "arm"), Column("n", "n"), Column("n_diverged", "diverged")]
    columns += [Column(name, quantity(name).heading, estimate=True, counted=True) for name in shown]
    rows = [
        (arm["name"], arm["n"], arm["n_diverged"], *(_metric(arm, name) for name in shown))
        for arm in arms
    ]
    caption = (
        f"Ablation of {summary['study']} on {summary['data']['spec']}: mean over n seeds with its "
        "95 % interval, from the sign-flip test. Each seed redraws training subset, initialisation "
        "and order. A diverged run counts as chance. Where a number has none in some of the runs, "
        "as a diverged one's loss or the flow of a gradient that is 0, the mean is of the others, "
        "whose count stands beside it."
    )
    caption = " ".join(filter(None, (caption, phrases.left_out(summary))))
    return Table("ablation", caption, tuple(columns), tuple(rows))


def arms_table(summary: Mapping[str, Any]) -> Table:
    """What each arm changes of the base run."""
    columns = (Column("arm", "arm"), Column("overrides", "changes", prose=0.7))
    rows = tuple((arm["name"], phrases.changes(arm["overrides"])) for arm in summary["arms"])
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
        Column("within", "within"),
    )
    rows = tuple(
        (
            scenario["id"],
            phrases.words(name),
            target["seed_figure"],
            phrases.bound(target),
            Number(found["mean"], phrases.figure_kind(target), found["ci"]),
            found["n"],
            phrases.met(target, found),
        )
        for scenario in summary["scenarios"]
        for name, target in scenario["target"].items()
        for found in (scenario["measured"][name],)
    )
    caption = (
        f"Scenarios of {summary['study']}: the seed's figures beside the mean over n fresh seeds "
        "with its 95 % interval."
    )
    advice = (words for scenario in summary["scenarios"] for words in phrases.advice(scenario))
    caption = " ".join((caption, *advice))
    return Table("scenarios", caption, columns, rows)


def claims_table(summary: Mapping[str, Any]) -> Table:
    """A row per claim: verdict, effect, Holm p and what the mechanism did.

    A claim has one for the plan as it was pinned and one for the plan as it is, where they differ.
    """
    claims = [*versions(summary)]
    columns = (
        Column("claim", "claim"),
        Column("text", "the seed says", prose=0.22),
        Column("verdict", "verdict"),
        Column("contrast", "contrast", prose=0.16),
        Column("effect", "effect", estimate=True, units=True),
        Column("p_holm", "p (Holm)"),
        Column("test", "test"),
        Column("n", "n"),
        Column("seeds_needed", "seeds needed"),
        Column("mechanism", "mechanism, what is required besides, caveats", prose=0.22),
    )
    rows = tuple(
        (
            phrases.title(claim, version),
            claim["text"],
            claim["verdict"],
            phrases.contrast(claim),
            effect_cell(claim),
            Number(claim["p_holm"], P_VALUE),
            claim["test"],
            claim["n"],
            Number(claim["seeds_needed"], COUNT),
            phrases.grounds(claim),
        )
        for version, claim in claims
    )
    caption = (
        f"Claims of {summary['study']}. Effect: arm minus control, paired by seed, the mean (the "
        f"median where the test is the sign test), with the interval at 1 {MINUS} 0.05/m; n "
        f"pairs; p Holm-corrected over m contrasts; {counts(claims)}."
    )
    caption = " ".join(filter(None, (caption, *phrases.caveats(summary))))
    return Table("claims", caption, columns, rows)


def counts(claims: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """`m = 5 as pinned, m = 4 as changed`: how many contrasts each version of the plan has."""
    counts = dict.fromkeys((claim["m"], version) for version, claim in claims)
    return ", ".join(f"m = {m} {version}".rstrip() for m, version in counts)


def members_table(summary: Mapping[str, Any]) -> Table:
    """Every contrast of the claims that say that one of several moves."""
    columns = (
        Column("claim", "claim"),
        Column("contrast", "contrast", prose=0.4),
        Column("effect", "effect", estimate=True, units=True),
        Column("p", "adjusted p"),
        Column("test", "test"),
    )
    rows = tuple(
        (
            phrases.title(claim, version),
            phrases.contrast(each),
            effect_cell(each),
            Number(each["p"], P_VALUE),
            each["test"],
        )
        for version, claim in versions(summary)
        for each in claim.get("members", ())
    )
    caption = (
        "Contrasts of existential claims: arm minus control, paired by seed, with intervals that "
        "hold together and p adjusted for their number."
    )
    return Table("members", caption, columns, rows)


def versions(summary: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every claim, and where the plan has changed once `as pinned` and once `as changed`."""
    changed = summary.get("plan_changed")
    if changed:
        yield from (("as pinned", claim) for claim in changed["claims"])
    yield from (("as changed" if changed else "", claim) for claim in summary["claims"])


def placebo_table(summary: Mapping[str, Any]) -> Table:
    """What should not matter, and what it did."""
    columns = (
        Column("placebo", "placebo"),
        Column("text", "what should not matter", prose=0.3),
        Column("contrast", "contrast", prose=0.2),
        Column("effect", "effect", estimate=True, units=True),
        Column("delta", "margin", units=True),
        Column("n", "n"),
        Column("finding", "finding", prose=0.2),
    )
    rows = tuple(
        (
            placebo["id"],
            placebo["text"],
            phrases.contrast(placebo),
            effect_cell(placebo),
            Number(placebo["delta"], phrases.margin_kind(placebo)),
            placebo["n"],
            phrases.finding(placebo),
        )
        for placebo in summary["placebos"]
    )
    caption = "Placebos: an effect beyond the margin voids the study."
    return Table("placebos", caption, columns, rows)


def write_tables(summary: Mapping[str, Any], folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes every table as `folder/NAME.{md,tex,csv}`; equal summaries give equal bytes.

    What an earlier summary had and this one does not is removed.
    """
    written = []
    for table in _all(summary):
        if table.rows:
            written += write_table(table, folder)
            continue
        for form in WRITERS:
            (folder / f"{table.name}.{form}").unlink(missing_ok=True)
    return written


def write_table(table: Table, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes one table as `folder/NAME.{md,tex,csv}`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{table.name}.{form}" for form in WRITERS]
    for path, form in zip(paths, WRITERS, strict=True):
        write_atomically(path, table.write(form).encode())
    return paths


def _metric(arm: Mapping[str, Any], name: str) -> Number:
    found = arm["metrics"].get(name)
    if found is None:
        return Number(None, quantity(name))
    return Number(found["mean"], quantity(name), found["ci"], found["n"], arm["n"])


def effect_cell(effect: Mapping[str, Any]) -> Number:
    """An effect with its interval, as the number it is."""
    value, interval = phrases.measured(effect)
    return Number(value, phrases.effect_kind(effect), interval)
