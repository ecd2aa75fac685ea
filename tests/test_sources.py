"""Two tables over all studies, a column for each source of images."""

import copy
import json

import pytest

from experiments import all as all_studies
from experiments.all import source_name
from experiments.readme import RESULTS
from fishjax.present import phrases
from fishjax.present.sources import claims_by_source, scenarios_by_source


@pytest.fixture(scope="module")
def found():
    return {
        source: [json.loads((RESULTS / "dying_relu" / f"{source}.json").read_bytes())]
        for source in ("reef", "f4k")
    }


def rows(table):
    keys = [column.key for column in table.columns]
    return [dict(zip(keys, texts, strict=True)) for texts in table.texts]


def test_every_claim_has_the_verdict_and_the_effect_of_each_source(found):
    shown = {row["claim"]: row for row in rows(claims_by_source(found))}
    for source, (summary,) in found.items():
        assert len(shown) == len(summary["claims"])
        for claim in summary["claims"]:
            row = shown[f"{claim['id']} ({claim['part']})" if claim["part"] else claim["id"]]
            assert row[f"{source}_verdict"] == claim["verdict"]
            effect, said = claim["effect"], row[f"{source}_effect"]
            if effect is None:
                assert said == "–"
            elif "doublings" not in said:
                assert f"{abs(effect) * 100:.1f}" in said


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (("supported", "supported"), "agree"),
        (("supported", "refuted"), "disagree"),
        (("supported", "outcome only"), "disagree"),
        (("supported", "inconclusive"), "not both decided"),
        (("too few seeds", "inconclusive"), "not both decided"),
        (("inconclusive", "inconclusive"), "not both decided"),
        (("by construction", "by construction"), "not both decided"),
    ],
)
def test_sources_disagree_where_both_decide_and_not_alike(found, verdicts, said):
    changed = copy.deepcopy(found)
    for summaries, verdict in zip(changed.values(), verdicts, strict=True):
        summaries[0]["claims"] = summaries[0]["claims"][:1]
        summaries[0]["claims"][0]["verdict"] = verdict
    assert [row["agreement"] for row in rows(claims_by_source(changed))] == [said]


def test_a_claim_that_one_source_lacks_is_a_dash_there(found):
    changed = copy.deepcopy(found)
    lost = changed["f4k"][0]["claims"].pop(0)
    first = rows(claims_by_source(changed))[0]
    assert first["text"] == lost["text"]
    assert (first["f4k_verdict"], first["f4k_effect"], first["agreement"]) == ("–", "–", "–")


def test_caveats_of_a_study_are_told_with_its_source(found):
    changed = copy.deepcopy(found)
    changed["f4k"][0]["looks"] = [[48, 49]]
    assert "Seeds were added" not in claims_by_source(found).caption
    assert "dying relu on f4k: Seeds were added after" in claims_by_source(changed).caption


def test_a_claim_of_a_changed_plan_has_both_verdicts(found):
    """Also where only a placebo was changed, and with it what the verdict was."""
    changed = copy.deepcopy(found)
    (summary,) = changed["f4k"]
    pinned = copy.deepcopy(summary["claims"])
    pinned[1]["verdict"] = "void (placebo)"
    summary["plan_changed"] = {
        "differs": ["placebo x"],
        "pinned": {"revision": "0123456789", "modified": False},
        "claims": pinned[:-1],
        "error": "",
    }
    shown = [row["f4k_verdict"] for row in rows(claims_by_source(changed))]
    present = [claim["verdict"] for claim in summary["claims"]]
    assert shown[0] == present[0]
    assert shown[1] == f"{present[1]} (as pinned: void (placebo))"
    assert shown[-1] == f"{present[-1]} (as pinned: not judged)"
    pinned[0]["verdict"] = summary["claims"][0]["verdict"] = "refuted"
    changed["reef"][0]["claims"][0]["verdict"] = "refuted"
    summary["plan_changed"]["differs"] = [f"claim {phrases.title(pinned[0])}"]
    first = rows(claims_by_source(changed))[0]
    assert first["f4k_verdict"] == "refuted (as pinned: refuted)"
    assert first["agreement"] == "agree"


def test_a_source_that_is_not_there_is_told_before_the_first_study(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(all_studies, "SIGNALS", ())
    monkeypatch.setattr(all_studies, "_wait", lambda *_: pytest.fail("a study was started"))
    with pytest.raises(SystemExit) as ended:
        all_studies.main(data=(("f4k:no/such/place",),), out=tmp_path)
    assert ended.value.code == 2
    assert "no/such/place" in capsys.readouterr().err


def test_a_source_is_called_by_the_last_part_of_its_path():
    names = [source_name(source) for source in ("reef", "f4k:a/b", "f4k:photos", "tfds:set")]
    assert names == ["reef", "f4k b", "f4k photos", "tfds set"]


def test_every_figure_of_a_scenario_stands_beside_its_target(found):
    shown = rows(scenarios_by_source(found))
    (scenario,) = found["reef"][0]["scenarios"]
    assert [row["figure"] for row in shown] == list(scenario["target"])
    assert {row["study"] for row in shown} == {"dying relu"}
    within = [figure["within"] for figure in scenario["measured"].values()]
    assert [row["reef_within"] == "yes" for row in shown] == within
