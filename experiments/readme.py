"""Writes the tables of the pages anew from the results in `experiments/results/`.

    python -m experiments.readme

A block stands between `<!-- MAKER FILE -->` and `<!-- end -->`; a test holds the README to it.
`sources claims` and `sources scenarios` are made of the summaries of all studies.
"""

import json
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import tyro

from experiments.again import again_block
from experiments.all import STUDIES
from experiments.benchmark.tables import layer_table, readme_block, speed_table
from experiments.calibration.table import calibration_block
from fishjax.present.parts import parts_table
from fishjax.present.phrases import tuned
from fishjax.present.search import search_table
from fishjax.present.sources import Summaries, claims_by_source, scenarios_by_source
from fishjax.present.table import Table
from fishjax.present.tables import ablation_table, claims_table, placebo_table, scenario_table

ROOT = pathlib.Path(__file__).parent.parent
PAGES = tuple(
    ROOT / page for page in ("README.md", "experiments/studies.md", "experiments/benchmark.md")
)
RESULTS = ROOT / "experiments" / "results"
BLOCK = re.compile(r"<!-- (\w+) (\S+) -->\n.*?<!-- end -->", re.DOTALL)


def render(text: str) -> str:
    """A page with every block made anew."""
    return BLOCK.sub(lambda block: _block(block[1], block[2]), text)


def _block(maker: str, file: str) -> str:
    made = OVER_SOURCES[file]() if maker == "sources" else MAKERS[maker](_kept(file))
    return f"<!-- {maker} {file} -->\n{made}\n<!-- end -->"


def _kept(file: str) -> dict[str, Any]:
    return json.loads((RESULTS / file).read_text())


def _rows(make: Callable[[Mapping[str, Any]], Table]) -> Callable[[Mapping[str, Any]], str]:
    """A maker of the table's rows, without its caption."""
    return lambda found: make(found).write("md").split("\n\n", 1)[1].strip()


def _about(summary: Mapping[str, Any]) -> str:
    """Seconds, run-steps, seeds and rates of a study."""
    timing, tuning, seeds = summary["timing"], summary["tuning"], summary["seeds"]
    return (
        f"{timing['total_s']:.0f} s from command to table, {timing['compile_s']:.0f} s of it "
        f"waiting for compilation; {timing['run_steps']:,} run-steps.\n"
        f"Seeds {seeds[0]} to {seeds[-1]}. Rates, {tuned(tuning)}."
    )


MAKERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "about": _about,
    "again": again_block,
    "scenario": _rows(scenario_table),
    "ablation": _rows(ablation_table),
    "claims": _rows(claims_table),
    "placebos": _rows(placebo_table),
    "search": _rows(search_table),
    "parts": _rows(parts_table),
    "benchmark": readme_block,
    "layers": _rows(layer_table),
    "calibration": calibration_block,
    "speeds": _rows(speed_table),
}


def _over_sources(make: Callable[[Summaries], Table]) -> Callable[[], str]:
    """A maker of a table over all studies and both sources, from the summaries that are kept."""

    def made() -> str:
        files = {source: [f"{study}/{source}.json" for study in STUDIES] for source in SOURCES}
        return _rows(make)(
            {
                source: [_kept(file) for file in named if (RESULTS / file).exists()]
                for source, named in files.items()
            }
        )

    return made


SOURCES = ("reef", "f4k")
OVER_SOURCES = {
    "claims": _over_sources(claims_by_source),
    "scenarios": _over_sources(scenarios_by_source),
}


def main() -> None:
    """Rewrites the pages in place."""
    for page in PAGES:
        page.write_text(render(page.read_text()))


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.readme")
