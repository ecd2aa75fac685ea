"""The settings that a search tried, as a table."""

from collections.abc import Mapping
from typing import Any

from fishjax.present import phrases
from fishjax.present.table import Column, Number, Table


def search_table(search: Mapping[str, Any]) -> Table:
    """A row per setting: its knobs, its rates, what it measured, whether every target was met."""
    keys = [knob["key"] for knob in search["knobs"]]
    targets = search["target"]
    columns = [Column(key, key) for key in keys]
    columns += [Column(f"rate_{arm}", f"rate, {arm}") for arm in search["tried"][0]["rates"]]
    columns += [Column(name, phrases.words(name), estimate=True, units=True) for name in targets]
    columns += [Column("met", "all met")]
    rows = tuple(
        (
            *(phrases.setting(tried["setting"][key]) for key in keys),
            *map(phrases.setting, tried["rates"].values()),
            *(
                Number(
                    found["mean"],
                    phrases.figure_kind(targets[name]),
                    found["ci"],
                    found["n"],
                    found.get("of", found["n"]),
                )
                for name, found in tried["measured"].items()
            ),
            "yes" if tried["reproduced"] else "no",
        )
        for tried in search["tried"]
    )
    caption = (
        f"Settings tried for {search['scenario']} of {search['study']} on "
        f"{search['data']['spec']}: "
        f"{search['settings_tried']} settings, each arm at the best of {len(search['rates'])} "
        f"rates on {len(search['tuning_seeds'])} tuning seeds; mean over {len(search['seeds'])} "
        "others of them."
    )
    return Table("search", caption, tuple(columns), rows)
