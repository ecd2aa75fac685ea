"""A study's command, run inside the test's own process, and what it leaves."""

import contextlib
import json
import pathlib
from unittest import mock

import pytest

from fishjax import session
from fishjax.command import main
from fishjax.study import Study


def run_study(study: Study, *options: str, figures: bool = False) -> int:
    """The exit code of `python -m experiments.NAME OPTIONS`; unasked it draws no figures.

    They take a quarter of the time of a study as small as the tests', and few look at them.
    """
    undrawn = contextlib.nullcontext() if figures else mock.patch.object(session, "write_figures")
    with undrawn, pytest.raises(SystemExit) as stop:
        main(study, options)
    return stop.value.code


def derived(folder: pathlib.Path) -> dict[str, bytes]:
    """Everything derived that holds no time: the tables, and the summary without its timing."""
    found = {file.name: file.read_bytes() for file in (folder / "tables").iterdir()}
    summary = json.loads((folder / "summary.json").read_bytes())
    summary.pop("timing")
    return {**found, "summary": json.dumps(summary).encode()}
