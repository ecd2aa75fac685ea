"""A study's command, run inside the test's own process, and what it leaves."""

import json
import pathlib

import pytest

from fishjax.command import main
from fishjax.study import Study


def run_study(study: Study, *options: str) -> int:
    """The exit code of `python -m experiments.NAME OPTIONS`."""
    with pytest.raises(SystemExit) as stop:
        main(study, options)
    return stop.value.code


def derived(folder: pathlib.Path) -> dict[str, bytes]:
    """Everything derived that holds no time: the tables, and the summary without its timing."""
    found = {file.name: file.read_bytes() for file in (folder / "tables").iterdir()}
    summary = json.loads((folder / "summary.json").read_bytes())
    summary.pop("timing")
    return {**found, "summary": json.dumps(summary).encode()}
