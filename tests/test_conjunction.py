"""Claims of several parts: what must hold besides, premises, one contrast found among several."""

import json
import math

import numpy as np
import pytest
import xarray as xr

from fishjax.evidence import paired
from fishjax.evidence.contrast import Contrast, Reading, Requirement
from fishjax.evidence.effect import ROUNDING
from fishjax.evidence.max_t import max_t
from fishjax.evidence.plan import Claim, Plan
from fishjax.evidence.verdict import judge
from fishjax.fields import UsageError

DELTA = 0.02
NOISE = np.array([0.4, -1.0, 0.8, -0.6, 1.0, -0.2, 0.1, -0.5])
SMALL, LARGE = 0.004 * NOISE, 0.06 * NOISE
MOVED, OPPOSITE, NEGLIGIBLE, OPEN = 0.1 + SMALL, -0.1 + SMALL, 0.0 + SMALL, 0.03 + LARGE


def results(diverged=(), **differences):
    """A study of 0.5 for `base`, 0.5 plus the differences for `arm`, of each keyword's metric."""
    n = len(NOISE)
    made = {
        name: (("arm", "seed"), 0.5 + np.stack([np.zeros(n), np.asarray(values, float)]))
        for name, values in differences.items()
    }
    lost = np.zeros((2, n), bool)
    lost[1, list(diverged)] = True
    made["diverged"] = (("arm", "seed"), lost)
    return xr.Dataset(made, {"arm": ["base", "arm"], "seed": range(n)}, attrs={"classes": 4})


def contrast(metric, direction=1):
    return Contrast(Reading(metric), "arm", "base", direction, DELTA)


def requirement(metric, expects, direction=1):
    return Requirement(contrast(metric, direction), expects)


def judged(study, **rest):
    """The entry of one claim about `outcome`."""
    claim = Claim(
        **{"id": "1", "text": "t", "kind": "directional", "outcome": contrast("outcome"), **rest}
    )
    (entry,) = judge(Plan(None, (claim,)), study)
    json.dumps(entry, allow_nan=False)
    assert (entry["verdict"] == "supported") <= (entry["p_holm"] <= 0.05)
    return entry


STANDINGS = [
    ("moves", MOVED, "met"),
    ("moves", NEGLIGIBLE, "refuted"),
    ("moves", OPPOSITE, "refuted"),
    ("moves", OPEN, "open"),
    ("stays", NEGLIGIBLE, "met"),
    ("stays", MOVED, "refuted"),
    ("stays", OPPOSITE, "refuted"),
    ("stays", OPEN, "open"),
    ("exceeds", MOVED, "met"),
    ("exceeds", 0.019 + SMALL, "open"),
    ("exceeds", NEGLIGIBLE, "refuted"),
    ("exceeds", OPPOSITE, "refuted"),
    ("exceeds", OPEN, "open"),
]


@pytest.mark.parametrize(("expects", "effect", "standing"), STANDINGS)
@pytest.mark.parametrize("direction", [1, -1])
def test_what_must_hold_besides(expects, effect, standing, direction):
    study = results(outcome=MOVED, other=direction * effect)
    entry = judged(study, also=(requirement("other", expects, direction),))
    verdicts = {"met": "supported", "refuted": "refuted", "open": "inconclusive"}
    assert entry["verdict"] == verdicts[standing]
    assert (entry["also"][0]["standing"], entry["also"][0]["expects"]) == (standing, expects)
    assert entry["p"] == max(entry["p_outcome"], entry["also"][0]["p"])
    assert (standing == "met") <= (entry["also"][0]["p"] <= 0.05)
    if expects != "moves":
        assert (standing == "refuted") <= (entry["also"][0]["p"] == 1.0)


@pytest.mark.parametrize(("expects", "effect", "standing"), STANDINGS)
def test_a_mechanism_may_have_to_stay_or_exceed(expects, effect, standing):
    study = results(outcome=MOVED, other=effect)
    entry = judged(study, mechanism=requirement("other", expects))
    assert entry["verdict"] == ("supported" if standing == "met" else "outcome only")


@pytest.mark.parametrize(
    ("outcome", "first", "second", "verdict"),
    [
        (MOVED, MOVED, MOVED, "supported"),
        (MOVED, MOVED, OPEN, "inconclusive"),
        (MOVED, OPPOSITE, OPEN, "refuted"),
        (OPEN, MOVED, MOVED, "inconclusive"),
        (OPEN, MOVED, OPPOSITE, "refuted"),
        (OPPOSITE, MOVED, MOVED, "refuted"),
    ],
)
def test_all_parts_of_a_conjunction_must_hold(outcome, first, second, verdict):
    study = results(outcome=outcome, first=first, second=second)
    also = (requirement("first", "moves"), requirement("second", "moves"))
    assert judged(study, also=also)["verdict"] == verdict


def test_an_open_part_names_itself_and_the_most_seeds_of_those_open():
    study = results(outcome=OPEN, other=0.02 + LARGE)
    alone = judged(study)["seeds_needed"]
    entry = judged(study, also=(requirement("other", "moves"),))
    assert entry["seeds_needed"] > alone
    assert "required besides: other of arm is not shown to move" in entry["note"]
    hopeless = judged(study, also=(requirement("other", "stays"),))
    assert hopeless["seeds_needed"] is None


@pytest.mark.parametrize(
    ("effect", "verdict", "words"),
    [
        (MOVED, "supported", ""),
        (NEGLIGIBLE, "premise fails", "is refuted: other of arm did not exceed delta"),
        (OPEN, "premise fails", "is not shown"),
        (np.full(8, np.nan), "premise fails", "premise not measured at seeds 0"),
    ],
)
def test_a_claim_without_its_premise_has_no_object(effect, verdict, words):
    entry = judged(results(outcome=MOVED, other=effect), premise=(requirement("other", "exceeds"),))
    assert entry["verdict"] == verdict
    assert words in entry["note"]
    assert entry["premise"][0]["moved"] == (verdict == "supported")
    assert entry["p"] == entry["p_outcome"], "a premise is no part of the claim"


def test_every_premise_has_to_hold_and_each_that_does_not_is_named():
    study = results(outcome=MOVED, fine=MOVED, small=NEGLIGIBLE, open=OPEN)
    premises = [requirement(metric, "exceeds") for metric in ("fine", "small", "open")]
    entry = judged(study, premise=tuple(premises))
    assert entry["verdict"] == "premise fails"
    assert "is refuted: small of arm" in entry["note"]
    assert "is not shown: open of arm" in entry["note"]
    assert [each["moved"] for each in entry["premise"]] == [True, False, False]


def test_a_bare_premise_is_refused():
    with pytest.raises(UsageError, match="a tuple of requirements"):
        judged(results(outcome=MOVED), premise=requirement("outcome", "exceeds"))


LAYERS = ("one", "two", "three")
THREE = tuple(map(contrast, LAYERS))
OTHER_NOISE = NOISE[::-1]


def some(study, **rest):
    return judged(study, kind="existential", outcome=THREE, **rest)


@pytest.mark.parametrize(
    ("one", "two", "three", "verdict", "found"),
    [
        (NEGLIGIBLE, MOVED, OPEN, "supported", "two"),
        (NEGLIGIBLE, OPPOSITE, MOVED, "supported", "three"),
        (NEGLIGIBLE, OPPOSITE, 0.012 + SMALL, "refuted", None),
        (NEGLIGIBLE, NEGLIGIBLE, OPEN, "inconclusive", None),
        (OPPOSITE, OPPOSITE, OPPOSITE, "refuted", None),
    ],
)
def test_one_contrast_among_several(one, two, three, verdict, found):
    entry = some(results(one=one, two=two, three=three))
    assert entry["verdict"] == verdict
    assert [member["metric"] for member in entry["members"]] == list(LAYERS)
    if found:
        assert entry["metric"] == found
        assert f"found: {found} of arm" in entry["note"]
        assert (
            entry["p"] == dict(zip(LAYERS, (m["p"] for m in entry["members"]), strict=True))[found]
        )


def test_where_none_is_found_it_is_read_at_one_in_the_claims_direction():
    """A contrast that goes clearly the other way says less of the claim than an open one."""
    entry = some(results(one=OPPOSITE, two=NEGLIGIBLE - 0.01, three=OPEN))
    assert (entry["verdict"], entry["metric"]) == ("inconclusive", "three")
    assert entry["members"][0]["p"] < entry["p"]


def test_where_all_go_the_other_way_it_is_read_at_the_one_that_leaves_it_open():
    entry = some(results(one=OPPOSITE, two=OPEN - 0.04, three=OPPOSITE - 0.1))
    assert (entry["verdict"], entry["metric"]) == ("inconclusive", "two")
    assert max(member["ci"][1] for member in entry["members"]) == entry["ci"][1] > 0


def test_members_have_the_p_and_the_interval_of_max_t():
    columns = np.stack([0.03 + LARGE, 0.05 + 0.06 * OTHER_NOISE, NEGLIGIBLE], axis=1)
    entry = some(results(**dict(zip(LAYERS, columns.T, strict=True))))
    ties = [ROUNDING * DELTA] * len(LAYERS)
    for member, course in zip(entry["members"], max_t(columns, ties), strict=True):
        assert member["p"] == course.p(0.0)
        assert member["ci"] == pytest.approx(course.interval(0.05))
        assert member["test"] == "sign-flip, max-T"
        assert (member["ci"][0] <= 0 <= member["ci"][1]) == (member["p"] > 0.05)


def test_the_mechanism_is_read_at_the_layer_found_and_corrected_for_the_choice():
    a, c = 0.06 * np.random.default_rng(0).normal(size=(2, 8))
    b = 0.035 + 0.8 * LARGE
    study = results(one=NEGLIGIBLE, two=MOVED, three=NEGLIGIBLE, a=a, b=b, c=c, moved=MOVED)
    entry = some(study, mechanism=tuple(map(contrast, "abc")))
    assert entry["mechanism"]["metric"] == "b"
    assert paired.sign_flip(b) <= 0.05 < entry["mechanism"]["p"]
    assert entry["verdict"] == "outcome only"
    moved = (contrast("a"), contrast("moved"), contrast("c"))
    assert some(study, mechanism=moved)["verdict"] == "supported"


def test_a_diverged_pair_gives_max_t_up_for_bonferroni():
    study = results([3], one=NEGLIGIBLE, two=MOVED, three=NEGLIGIBLE)
    entry = some(study)
    assert {member["test"] for member in entry["members"]} == {"sign, Bonferroni"}
    assert entry["p"] == pytest.approx(3 * paired.sign(MOVED))
    assert entry["verdict"] == "supported"


def test_a_member_not_measured_cannot_be_refuted_but_another_is_found():
    gap = np.where(np.arange(8) == 2, np.nan, NEGLIGIBLE)
    entry = some(results(one=gap, two=MOVED, three=NEGLIGIBLE))
    assert (entry["verdict"], entry["metric"]) == ("supported", "two")
    entry = some(results(one=gap, two=NEGLIGIBLE, three=NEGLIGIBLE))
    assert entry["verdict"] == "inconclusive"
    assert "not measured at seeds 2" in entry["note"]
    assert "1000" not in entry["note"]


def test_an_undecided_search_names_the_seeds_of_the_sooner_way():
    """The one that may be found; or, where all seem short of delta, the last to be shown so."""
    found = some(results(one=NEGLIGIBLE, two=NEGLIGIBLE, three=OPEN))["seeds_needed"]
    assert 8 < found < 100
    short = some(results(one=NEGLIGIBLE, two=OPPOSITE, three=-0.003 + 0.7 * LARGE))["seeds_needed"]
    assert 8 < short < 100


def test_an_existential_claim_counts_once():
    study = results(one=NEGLIGIBLE, two=MOVED, three=NEGLIGIBLE, outcome=MOVED)
    several = Claim("1", "t", "existential", THREE)
    entries = judge(
        Plan(None, (several, Claim("2", "t", "directional", contrast("outcome")))), study
    )
    assert [entry["m"] for entry in entries] == [2, 2]
    assert [entry["members"] != [] for entry in entries] == [True, False]


def test_supported_is_significant_and_no_random_claim_escapes_json():
    """Random conjunctions: a support is never without p_holm <= 0.05, whatever the draws."""
    rng, supported = np.random.default_rng(11), 0
    for _ in range(150):
        draws = {
            n: rng.choice([0.0, 0.05, 0.1]) + rng.choice([1, 9]) * 0.004 * rng.normal(size=8)
            for n in "abcdef"
        }
        if rng.random() < 0.2:
            draws["a"][0] = math.inf
        claims = (
            Claim(
                "1", "t", "existential", tuple(map(contrast, "abc")), tuple(map(contrast, "def"))
            ),
            Claim("2", "t", "directional", contrast("d"), also=(requirement("e", "exceeds"),)),
            Claim("3", "t", "no_effect", contrast("f"), also=(requirement("a", "stays"),)),
        )
        for entry in judge(Plan(None, claims), results(**draws)):
            json.dumps(entry, allow_nan=False)
            if entry["verdict"] == "supported":
                supported += 1
                assert entry["p_holm"] <= 0.05
    assert supported > 30
