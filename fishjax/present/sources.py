"""All studies in two tables, claims and scenarios, with a column for each source of images."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fishjax.present import phrases
from fishjax.present.table import Cell, Column, Number, Table
from fishjax.present.tables import effect_cell
from fishjax.present.wording import MISSING

Summaries = Mapping[str, Sequence[Mapping[str, Any]]]
"""By the name of a source the `summary.json` of each study that was run on it."""

DECIDED = ("supported", "outcome only", "refuted")


def claims_by_source(found: Summaries) -> Table:
    """A row per claim: what each source's verdict and effect are, and whether they agree."""
    columns = [Column("claim", "claim"), Column("text", "the seed says", prose=0.25)]
    for source in found:
        columns += [
            Column(f"{source}_verdict", source),
            Column(f"{source}_effect", f"effect on {source}", estimate=True, units=True),
        ]
    columns.append(Column("agreement", "the sources"))
    rows = []
    for _, entries in _matched(found, "claims", _claim_key):
        first = next(entry for entry in entries if entry)
        cells: list[Cell] = [phrases.title(first), first["text"]]
        for entry in entries:
            cells += [_verdict(entry) if entry else MISSING, _effect(entry or first, entry)]
        rows.append((*cells, _agreement([entry for entry in entries if entry])))
    caption = (
        "Every claim of the seed document: verdict and primary contrast, arm minus control, with "
        "its simultaneous interval."
    )
    return Table("claims", " ".join([caption, *_warned(found)]), tuple(columns), tuple(rows))


def scenarios_by_source(found: Summaries) -> Table:
    """A row per figure of every scenario, and whether it was met on each source."""
    columns = [
        *(Column("scenario", "scenario"), Column("study", "study"), Column("figure", "figure")),
        *(Column("seed_figure", "the seed's figure", prose=0.25), Column("target", "target")),
    ]
    for source in found:
        columns += [
            Column(f"{source}_measured", source, estimate=True, units=True),
            Column(f"{source}_within", f"met on {source}"),
        ]
    rows = []
    for (study, _), entries in _matched(found, "scenarios", _scenario_key):
        first = next(entry for entry in entries if entry)
        for name, target in first["target"].items():
            cells: list[Cell] = [first["id"], phrases.words(study), phrases.words(name)]
            cells += [target["seed_figure"], phrases.bound(target)]
            for entry in entries:
                cells += _measured(entry, name, target)
            rows.append(tuple(cells))
    caption = "Every scenario of the seed document beside the mean over seeds with its interval."
    return Table("scenarios", caption, tuple(columns), tuple(rows))


def _warned(found: Summaries) -> Iterator[str]:
    """What has to be known of how the studies came about, each with its name and source."""
    for source, summaries in found.items():
        for summary in summaries:
            for caveat in filter(None, phrases.caveats(summary)):
                yield f"{phrases.words(summary['study'])} on {source}: {caveat}"


def _matched(
    found: Summaries, kind: str, key: Any
) -> Iterator[tuple[tuple, list[Mapping[str, Any] | None]]]:
    """By its key each claim's or scenario's entries in all sources, None where one has none."""
    by_source = [
        {
            key(summary, entry): _told(summary, entry)
            for summary in summaries
            for entry in summary[kind]
        }
        for summaries in found.values()
    ]
    for each in dict.fromkeys(name for entries in by_source for name in entries):
        yield each, [entries.get(each) for entries in by_source]


def _told(summary: Mapping[str, Any], entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """A claim whose plan was changed, with its verdict `as_pinned`; anything else as it is."""
    changed = summary.get("plan_changed")
    if not changed or "verdict" not in entry:
        return entry
    key = _claim_key(summary, entry)
    pinned = [each for each in changed["claims"] if _claim_key(summary, each) == key]
    verdict = pinned[0]["verdict"] if pinned else "not judged"
    if verdict == entry["verdict"] and f"claim {phrases.title(entry)}" not in changed["differs"]:
        return entry
    return {**entry, "as_pinned": verdict}


def _verdict(claim: Mapping[str, Any]) -> str:
    pinned = f" (as pinned: {claim['as_pinned']})" if "as_pinned" in claim else ""
    return claim["verdict"] + pinned


def _claim_key(summary: Mapping[str, Any], claim: Mapping[str, Any]) -> tuple:
    return summary["study"], claim["id"], claim["part"]


def _scenario_key(summary: Mapping[str, Any], scenario: Mapping[str, Any]) -> tuple:
    return summary["study"], scenario["id"]


def _effect(kind: Mapping[str, Any], entry: Mapping[str, Any] | None) -> Number:
    return effect_cell(entry) if entry else Number(None, phrases.effect_kind(kind))


def _measured(entry: Mapping[str, Any] | None, name: str, target: Mapping[str, Any]) -> list[Cell]:
    kind = phrases.figure_kind(target)
    if entry is None or name not in entry["measured"]:
        return [Number(None, kind), MISSING]
    found = entry["measured"][name]
    return [
        Number(found["mean"], kind, found["ci"], found["n"], found.get("of", found["n"])),
        phrases.met(target, found),
    ]


def _agreement(claims: Sequence[Mapping[str, Any]]) -> str:
    """Whether the verdicts are one, where every source has decided, by either plan alike."""
    if len(claims) < 2:
        return MISSING
    verdicts = [claim["verdict"] for claim in claims]
    pinned = [claim.get("as_pinned", claim["verdict"]) for claim in claims]
    if pinned != verdicts or any(verdict not in DECIDED for verdict in verdicts):
        return "not both decided"
    return "agree" if len(set(verdicts)) == 1 else "disagree"
