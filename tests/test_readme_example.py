"""The README's examples run as printed."""

import doctest
import pathlib
import runpy

from tests.commands import run_study

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()


def test_the_example_of_watch_prints_what_the_readme_shows():
    section = README.split("## In your own training loop\n")[1]
    block = section.split("```")[1].removeprefix("python\n")
    example = doctest.DocTestParser().get_doctest(block, {}, "README", "README.md", 0)
    assert len(example.examples) == 5
    said: list[str] = []
    result = doctest.DocTestRunner().run(example, out=said.append)
    assert result.failed == 0, "".join(said)


def test_the_study_of_ones_own_can_be_run(tmp_path):
    block = README.split("<!-- own-study -->\n```python\n")[1].split("```")[0]
    file = tmp_path / "my_study.py"
    file.write_text(block.replace("my_net:Net", "tests.own_nets:linen_net"))
    study = runpy.run_path(str(file))["STUDY"]
    assert run_study(study, "--out", str(tmp_path / "out"), "--dry-run") == 0
