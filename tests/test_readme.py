"""The README's tables are those of the summaries kept beside the study, to the letter."""

import json
import pathlib

import pytest

from fishjax.present.tables import ablation_table, claims_table, scenario_table

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results" / "dying_relu"


@pytest.mark.parametrize("source", ["reef", "f4k"])
@pytest.mark.parametrize("make", [scenario_table, ablation_table, claims_table])
def test_a_table_in_the_readme_is_the_summarys(source, make):
    summary = json.loads((RESULTS / f"{source}.json").read_text())
    rows = make(summary).write("md").split("\n\n", 1)[1].strip()
    assert rows in (ROOT / "README.md").read_text()
