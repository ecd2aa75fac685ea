"""The picture in the README is a law: no module imports from its own row's right or below."""

import ast
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "fishjax"
ROWS = [
    {"clock", "fields"},
    {"sections"},
    {"config"},
    {"setup", "effects", "metrics"},
    {"settings", "exits", "provenance"},
    {"files"},
    {"cellfolder"},
    {"store"},
    {"results"},
    {"measure"},
    {"sweep"},
    {"data"},
    {"nn"},
    {"schedules"},
    {"optim"},
    {"feed"},
    {"augment"},
    {"evaluate"},
    {"network"},
    {"landscape"},
    {"further"},
    {"train"},
    {"engine"},
    {"evidence"},
    {"present"},
    {"study", "readable", "turned"},
    {"workplace", "trained", "watching"},
    {"barrier"},
    {"lines"},
    {"session", "fitting", "lrfind"},
    {"job"},
    {"command", "cli", "__init__"},
]
RIGHT_WING = {
    "evidence",
    "present",
    "files",
    "metrics",
    "readable",
    "turned",
    "cellfolder",
    "store",
    "results",
    "fields",
    "config",
    "sections",
    "setup",
    "clock",
    "settings",
    "exits",
    "cli",
}
LEFT_WING = {
    "measure",
    "data",
    "nn",
    "schedules",
    "optim",
    "feed",
    "augment",
    "evaluate",
    "network",
    "landscape",
    "further",
    "train",
    "engine",
}
HEAVY = {"jax", "flax", "optax", "tensorflow_datasets", "orbax"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: pathlib.Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_used(path: pathlib.Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("fishjax.")}


def row(name: str) -> int:
    return next(i for i, names in enumerate(ROWS) if name in names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_import_goes_up(path):
    here = room(path)
    for used in rooms_used(path) - {here}:
        assert row(used) < row(here), f"{here} imports {used}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_wings_do_not_touch(path):
    here, used = room(path), rooms_used(path)
    if here in {"evidence", "present"}:
        assert not used & LEFT_WING
    if here in LEFT_WING:
        assert not used & {"evidence", "present"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_results_open_without_jax(path):
    if room(path) in RIGHT_WING:
        assert not {name.split(".")[0] for name in imports(path)} & HEAVY


def test_the_readme_draws_these_rooms_in_this_order():
    readme = (PACKAGE.parent / "README.md").read_text()
    picture = readme.split("## The house")[1].split("```")[1]
    drawn = re.findall(r"\b(\w+)(?:\.py|/)", picture.split("experiments/")[0])[1:]
    assert set(drawn) == {name for names in ROWS for name in names} - {"__init__"}
    order = [row(name) for name in drawn]
    assert order == sorted(order)


def test_no_module_is_two_things():
    long = {str(p): n for p in MODULES if (n := len(p.read_text().splitlines())) > 300}
    assert not long
