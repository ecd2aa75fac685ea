"""The README's example runs as printed."""

import doctest
import pathlib

ROOT = pathlib.Path(__file__).parent.parent


def test_the_example_of_watch_prints_what_the_readme_shows():
    section = (ROOT / "README.md").read_text().split("## In your own training loop\n")[1]
    block = section.split("```")[1].removeprefix("python\n")
    example = doctest.DocTestParser().get_doctest(block, {}, "README", "README.md", 0)
    assert len(example.examples) == 5
    said: list[str] = []
    result = doctest.DocTestRunner().run(example, out=said.append)
    assert result.failed == 0, "".join(said)
