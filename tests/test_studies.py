"""Every study, at every scale and on both sources, up to the moment it would compile."""

import functools
import importlib

import pytest

from experiments.all import STUDIES
from fishjax.data import source
from tests.commands import run_study


@pytest.fixture(scope="module", autouse=True)
def _images_of_a_source_are_drawn_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "make_reef", functools.cache(source.make_reef))
        yield


@pytest.mark.parametrize(
    "scale", ["smoke", "laptop", pytest.param("paper", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_can_be_run_on_reef(name, scale, tmp_path, capfd):
    study = importlib.import_module(f"experiments.{name}").STUDY
    assert study.name == name
    assert run_study(study, "--scale", scale, "--out", str(tmp_path), "--dry-run") == 0
    assert "run-steps of arms" in capfd.readouterr().err


@pytest.mark.parametrize("name", STUDIES)
def test_every_search_can_be_started_again(name, tmp_path):
    study = importlib.import_module(f"experiments.{name}").STUDY
    assert run_study(study, "--fit", "--out", str(tmp_path), "--dry-run") == 0


@pytest.mark.parametrize("scale", ["smoke", "laptop"])
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_can_be_run_on_photographs(name, scale, photographs, tmp_path, capfd):
    study = importlib.import_module(f"experiments.{name}").STUDY
    options = ("--scale", scale, "--data", f"f4k:{photographs}", "--out", str(tmp_path))
    assert run_study(study, *options, "--dry-run") == 0
    assert "run-steps of arms" in capfd.readouterr().err


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_knows_a_placebo_and_claims_and_tunes_on_seeds_of_its_own(name):
    study = importlib.import_module(f"experiments.{name}").STUDY
    assert study.plan.placebos
    assert study.plan.claims
    assert study.search is not None
    laptop = study.scales["laptop"]
    assert not set(laptop.seeds) & (set(laptop.tuning.seeds) | set(study.search.seeds))
