"""The README's tables are those of the results kept beside the studies, to the letter."""

import pathlib

from experiments.readme import BLOCK, render

README = pathlib.Path(__file__).parent.parent / "README.md"


def test_the_readme_is_what_its_command_writes():
    text = README.read_text()
    assert render(text) == text, "run python -m experiments.readme"


def test_the_readme_shows_the_study_on_both_sources():
    shown = {tuple(block) for block in BLOCK.findall(README.read_text())}
    for source in ("reef", "f4k"):
        for maker in ("about", "scenario", "ablation", "claims"):
            assert (maker, f"dying_relu/{source}.json") in shown
