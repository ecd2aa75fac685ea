"""What two runs of the same studies say differently is counted and shown."""

import copy
import json
import pathlib

import pytest

from experiments.again import again_block, compare
from fishjax.fields import UsageError
from fishjax.files import sealed

KEPT = pathlib.Path(__file__).parent.parent / "experiments" / "results" / "dying_relu"


@pytest.fixture
def summary():
    return json.loads((KEPT / "reef-second.json").read_text())


def write(root, summary, convolution):
    folder = root / "reef" / summary["study"]
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    about = {name: summary[name] for name in ("study", "scale", "data", "seeds")}
    plan = {**about, "arms": {}, "engine": {"kernels": {"convolution": {"": convolution}}}}
    (folder / "sweep.json").write_text(json.dumps(sealed(plan)))
    return root


def test_changed_verdicts_and_moved_rates_are_counted(tmp_path, summary):
    again = copy.deepcopy(summary)
    supported = next(c for c in again["claims"] if c["verdict"] == "supported")
    supported |= {"verdict": "refuted", "effect": 0.123}
    arm = next(iter(again["tuning"]["chosen"]))
    again["tuning"]["chosen"][arm] = 0.5
    first = write(tmp_path / "a", summary, "onednn")
    found = compare(first, write(tmp_path / "b", again, "canonical"))
    assert found["verdicts"] == len(summary["claims"])
    assert [c["second"]["effect"] for c in found["changed"]] == [0.123]
    assert [(rate["arm"], rate["second"]) for rate in found["moved"]] == [(arm, 0.5)]
    said = " ".join(again_block(found).split())
    assert "first with onednn convolutions, again with canonical" in said
    assert f"1 of {found['verdicts']} verdicts differ, 1 of them between supported" in said
    assert "| refuted | +12.3" in said
    same = again_block(compare(first, first))
    assert f"0 of {found['verdicts']} verdicts differ" in same
    assert "|" not in same


def test_other_studies_are_no_repetition(tmp_path, summary):
    first = write(tmp_path / "a", summary, "onednn")
    with pytest.raises(UsageError, match="no finished study in common"):
        compare(first, tmp_path / "none")
    with pytest.raises(UsageError, match="dying_relu was run on other data"):
        compare(first, write(tmp_path / "b", {**summary, "seeds": [0, 1]}, "onednn"))
