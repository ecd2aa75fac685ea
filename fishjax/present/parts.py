"""The table of parts: what each was checked against, how far it is off, what it costs."""

from collections.abc import Mapping
from typing import Any

from fishjax.present.table import Column, Table


def parts_table(found: Mapping[str, Any]) -> Table:
    """A row per part."""
    columns = (
        Column("family", "family"),
        Column("part", "part"),
        Column("reference", "checked against", prose=0.3),
        Column("difference", "largest difference"),
        Column("cost", "step, over plain"),
    )
    rows = tuple(
        (
            row["family"],
            row["part"],
            row["reference"],
            f"{row['difference']:.0e}" if row["difference"] else "0",
            _cost(row),
        )
        for row in found["parts"]
    )
    caption = (
        "Every part beside an independent implementation (largest difference, relative to the "
        "largest number where that is above 1), and the time of a training step with it over the "
        f"plain network's (median of {found['rounds']} interleaved rounds, "
        f"{found['machine']['cpus']} CPUs, jax {found['machine']['versions']['jax']})."
    )
    return Table("parts", caption, columns, rows)


def _cost(row: Mapping[str, Any]) -> str:
    """A factor; `same program` for a traced part; a dash for what is no part of a step."""
    if not row["in_step"]:
        return "–"
    return "same program" if row["cost"] is None else f"{row['cost']:.2f}"
