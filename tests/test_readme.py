"""The README's tables are those of the results kept beside the studies, to the letter."""

import pytest

from experiments.all import STUDIES
from experiments.readme import BLOCK, PAGES, RESULTS, SOURCES, render

README, OF_STUDIES, _ = PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_what_its_command_writes(page):
    text = page.read_text()
    assert render(text) == text, "run python -m experiments.readme"


def test_the_readme_shows_the_study_on_both_sources():
    shown = {tuple(block) for block in BLOCK.findall(README.read_text())}
    for source in ("reef", "f4k"):
        for maker in ("about", "scenario", "ablation", "claims"):
            assert (maker, f"dying_relu/{source}.json") in shown


def test_every_other_study_that_has_verdicts_is_shown_with_its_claims():
    shown = {tuple(block) for block in BLOCK.findall(OF_STUDIES.read_text())}
    for study in set(STUDIES) - {"dying_relu"}:
        for source in SOURCES:
            if (RESULTS / study / f"{source}.json").exists():
                assert ("claims", f"{study}/{source}.json") in shown
