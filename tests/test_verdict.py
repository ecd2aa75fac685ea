"""The ruling table, each row on a constructed sample, and what a verdict is told about its runs."""

import json
import math

import numpy as np
import pytest
import xarray as xr

from fishjax.evidence import paired
from fishjax.evidence.placebo import placebos
from fishjax.evidence.plan import Claim, Contrast, Crossing, Placebo, Plan, Reading
from fishjax.evidence.verdict import judge
from fishjax.fields import UsageError

NOISE = np.array([0.4, -1.0, 0.8, -0.6, 1.0, -0.2, 0.1, -0.5])
"""Mean 0, of the size of one."""
DELTA = 0.02
SMALL, LARGE = 0.004 * NOISE, 0.06 * NOISE


def results(*, diverged=(), **differences):
    """A study of 0.5 for `base`, 0.5 plus the differences for `arm`; a variable for each keyword.

    diverged: (arm, seed) of the runs that diverged.
    """
    n = len(next(iter(differences.values())))
    coords = {"arm": ["base", "arm"], "seed": range(n), "epoch": [0.0, 10.0]}
    made = {}
    for name, values in differences.items():
        last = 0.5 + np.stack([np.zeros(n), np.asarray(values, float)])
        made[name] = (("arm", "seed", "epoch"), np.stack([np.zeros_like(last), last], axis=-1))
    lost = [[(arm, seed) in diverged for seed in range(n)] for arm in coords["arm"]]
    made["diverged"] = (("arm", "seed"), np.array(lost))
    return xr.Dataset(made, coords, attrs={"classes": 4})


def contrast(metric="outcome", direction=1, delta=DELTA, control="base"):
    return Contrast(Reading(metric), "arm", control, direction, delta)


def claim(id="1", kind="directional", direction=1, **rest):
    return Claim(id, "text", kind, contrast(direction=direction), **rest)


def verdict(study, *claims, placebos=()):
    """The first entry's verdict and the whole entry."""
    entry = judge(Plan(None, claims, placebos), study)[0]
    json.dumps(entry, allow_nan=False)
    return entry["verdict"], entry


@pytest.mark.parametrize(
    ("effect", "kind", "expected"),
    [
        (0.1 + SMALL, "directional", "supported"),
        (0.1 + LARGE, "directional", "supported"),
        (0.012 + SMALL, "directional", "refuted"),
        (0.0 + SMALL, "directional", "refuted"),
        (-0.012 + SMALL, "directional", "refuted"),
        (-0.1 + SMALL, "directional", "refuted"),
        (0.021 + SMALL, "directional", "supported"),
        (-0.021 + SMALL, "directional", "refuted"),
        (0.0 + LARGE, "directional", "inconclusive"),
        (0.03 + LARGE, "directional", "inconclusive"),
        (-0.03 + LARGE, "directional", "inconclusive"),
        (0.0 + SMALL, "no_effect", "supported"),
        (0.012 + SMALL, "no_effect", "supported"),
        (-0.012 + SMALL, "no_effect", "supported"),
        (0.1 + SMALL, "no_effect", "refuted"),
        (0.021 + SMALL, "no_effect", "inconclusive"),
        (-0.1 + SMALL, "no_effect", "inconclusive"),
        (0.0 + LARGE, "no_effect", "inconclusive"),
        (-0.012 + SMALL, "equivalence", "supported"),
        (0.1 + SMALL, "equivalence", "refuted"),
        (-0.1 + SMALL, "equivalence", "refuted"),
        (0.021 + SMALL, "equivalence", "inconclusive"),
        (0.0 + LARGE, "equivalence", "inconclusive"),
    ],
)
@pytest.mark.parametrize("direction", [1, -1])
def test_the_interval_rules(effect, kind, expected, direction):
    ruled, entry = verdict(
        results(outcome=direction * effect), claim(kind=kind, direction=direction)
    )
    assert ruled == expected
    assert entry["effect"] == pytest.approx(direction * effect.mean())
    low, high = entry["ci"]
    assert low <= entry["effect"] <= high


@pytest.mark.parametrize(
    ("effect", "kind", "words"),
    [
        (0.012 + SMALL, "directional", "negligible"),
        (-0.1 + SMALL, "directional", "opposite"),
        (0.1 + SMALL, "no_effect", "benefit beyond delta"),
        (-0.1 + SMALL, "no_effect", "harm beyond delta"),
        (-0.1 + SMALL, "equivalence", "an effect beyond delta"),
    ],
)
def test_the_note_says_why(effect, kind, words):
    _, entry = verdict(results(outcome=effect), claim(kind=kind, note="as declared"))
    assert words in entry["note"]
    assert entry["note"].startswith("as declared; ")


@pytest.mark.parametrize(
    ("kind", "reached", "expected"),
    [
        ("directional", 0, "inconclusive"),
        ("no_effect", 0, "inconclusive"),
        ("directional", 2, "inconclusive"),
        ("directional", 10, "supported"),
    ],
)
def test_what_neither_run_lived_to_see_is_no_sign_that_they_are_alike(kind, reached, expected):
    """The control reaches the level at some of 12 seeds, the arm at none."""
    study = results(outcome=np.zeros(12))
    study["outcome"].loc[{"arm": "base", "seed": range(reached)}] = 1.0
    reading = Reading("epoch", when=Crossing("outcome", 0.9), scale="log2")
    later = Claim("1", "text", kind, Contrast(reading, "arm", "base", 1, DELTA))
    ruled, entry = verdict(study, later)
    assert ruled == expected
    assert f"{12 - reached} of 12 pairs infinite on both sides" in entry["note"]
    assert (entry["p"] <= 0.05) == (expected == "supported")


@pytest.mark.parametrize(
    ("effect", "moved", "expected"),
    [
        (0.1 + SMALL, True, "supported"),
        (0.03 + LARGE, False, "outcome only"),
        (-0.1 + SMALL, False, "outcome only"),
        (0.012 + SMALL, False, "outcome only"),
        (0.0 + LARGE, False, "outcome only"),
    ],
)
@pytest.mark.parametrize("kind", ["directional", "no_effect"])
def test_a_mechanism_that_did_not_move_leaves_the_outcome_only(effect, moved, expected, kind):
    """It must move in its own direction, past 0, and not by a negligible amount."""
    outcome = (0.1 if kind == "directional" else 0.0) + SMALL
    study = results(outcome=outcome, mechanism=-effect)
    ruled, entry = verdict(study, claim(kind=kind, mechanism=contrast("mechanism", direction=-1)))
    assert (ruled, entry["mechanism"]["moved"]) == (expected, moved)
    assert entry["p"] == max(entry["p_outcome"], entry["mechanism"]["p"])


@pytest.mark.parametrize(
    ("effect", "expected"), [(-0.1 + SMALL, "refuted"), (0.0 + LARGE, "inconclusive")]
)
def test_a_mechanism_cannot_save_an_outcome(effect, expected):
    study = results(outcome=effect, mechanism=0.1 + SMALL)
    assert verdict(study, claim(mechanism=contrast("mechanism")))[0] == expected


def test_too_few_seeds_for_the_number_of_claims():
    seven = results(outcome=0.1 + SMALL[:7])
    three = [claim(str(k)) for k in range(3)]
    assert verdict(seven, *three)[0] == "supported"
    ruled, entry = verdict(seven, *three, claim("3", part="another"))
    assert (ruled, entry["seeds_needed"], entry["n"], entry["m"]) == ("too few seeds", 8, 7, 4)
    assert "7 of the 8" in entry["note"]


def test_a_claim_by_construction_gets_no_verdict_and_does_not_count():
    seven = results(outcome=0.1 + SMALL[:7])
    fitted = claim("fitted", by_construction=True)
    ruled, entry = verdict(seven, fitted, *[claim(str(k)) for k in range(3)])
    assert (ruled, entry["p_holm"], entry["m"]) == ("by construction", None, 3)
    assert entry["effect"] == pytest.approx(0.1 + SMALL[:7].mean())
    assert verdict(seven, claim("0"), fitted)[0] == "supported"
    assert verdict(seven, fitted)[0] == "by construction"


def test_on_data_that_nothing_was_fitted_to_the_fitted_claim_is_judged_and_counts():
    eight = results(outcome=0.1 + SMALL)
    plan = Plan(None, (claim("fitted", by_construction=True), claim("0")))
    assert (plan.m, plan.unfitted().m) == (1, 2)
    there = judge(plan.unfitted(), eight)
    assert [(entry["verdict"], entry["m"]) for entry in there] == [("supported", 2)] * 2
    assert None not in [entry["p_holm"] for entry in there]


@pytest.mark.parametrize(
    ("effect", "void", "within"),
    [
        (0.0 + SMALL, False, True),
        (0.1 + SMALL, True, False),
        (-0.1 + SMALL, True, False),
        (0.03 + LARGE, False, False),
        (0.021 + SMALL, False, False),
    ],
)
def test_a_placebo_wholly_beyond_delta_voids_every_claim(effect, void, within):
    study = results(outcome=0.1 + SMALL, other=effect)
    placebo = Placebo("fresh order", "text", contrast("other"))
    plan = Plan(None, (claim(), claim("2", by_construction=True)), (placebo,))
    found = [entry["verdict"] for entry in judge(plan, study)]
    assert found == (["void (placebo)"] * 2 if void else ["supported", "by construction"])
    assert ("fresh order" in judge(plan, study)[0]["note"]) == void
    (entry,) = placebos(plan, study)
    assert (entry["beyond_delta"], entry["within_delta"]) == (void, within)


def test_a_diverged_pair_counts_as_chance_in_an_exact_sign_test():
    study = results(test_accuracy=0.1 + SMALL, diverged=[("base", 2), ("arm", 5)])
    ruled, entry = verdict(study, Claim("1", "text", "directional", contrast("test_accuracy")))
    differences = 0.1 + SMALL
    differences[2] += 0.5 - 0.25
    differences[5] = 0.25 - 0.5
    assert (entry["test"], entry["diverged_pairs"]) == ("sign", 2)
    assert entry["p"] == paired.sign(differences) == pytest.approx(2 * 9 / 2**8)
    assert entry["effect"] == pytest.approx(np.median(differences))
    assert entry["ci"] == pytest.approx([differences.min(), differences.max()])
    assert ruled == "inconclusive"
    assert "2 of 8 pairs diverged" in entry["note"]


def test_sign_test_still_supports_what_every_pair_shows():
    study = results(test_accuracy=0.1 + SMALL, diverged=[("base", 2)])
    ruled, entry = verdict(study, Claim("1", "text", "directional", contrast("test_accuracy")))
    assert (ruled, entry["test"], entry["p"]) == ("supported", "sign", 2 / 2**8)


def test_infinite_differences_are_ordered_and_never_reach_json():
    study = results(outcome=[math.inf] * 5 + [1.0, 2.0, 3.0])
    ruled, entry = verdict(study, claim())
    assert (ruled, entry["test"]) == ("supported", "sign")
    assert (entry["effect"], entry["ci"]) == (None, [pytest.approx(1.0), None])
    assert entry["infinite"] == [1, 0, 1]
    assert "infinite" in entry["note"]


def test_where_every_difference_is_infinite_the_entry_says_which_way():
    ruled, entry = verdict(results(outcome=[-math.inf] * 8), claim())
    assert (ruled, entry["effect"], entry["ci"]) == ("refuted", None, [None, None])
    assert entry["infinite"] == [-1, -1, -1]


@pytest.mark.parametrize("what", ["outcome", "mechanism"])
def test_what_was_not_measured_decides_nothing_and_is_named(what):
    values = {"outcome": 0.1 + SMALL, "mechanism": 0.1 + SMALL}
    values[what] = np.where(np.arange(8) == 3, np.nan, values[what])
    ruled, entry = verdict(results(**values), claim(mechanism=contrast("mechanism")))
    assert ruled == ("inconclusive" if what == "outcome" else "outcome only")
    assert f"{what} not measured at seeds 3" in entry["note"]
    part = entry if what == "outcome" else entry["mechanism"]
    assert (part["effect"], part["ci"], part["p"]) == (None, [None, None], 1)
    assert "infinite" not in part
    assert "1000" not in entry["note"]


HITS = np.array([179, 187, 172, 159, 209, 174, 162, 202])
MORE = np.array([5, 6, 3, 0, 2, 5, 4, -3])
"""5 + 3 = 6 + 2 and others: sums of such differences tie."""


def counted(hits, images):
    """Accuracies as a study keeps them: float32, read as float64."""
    return (hits / np.float32(images)).astype(np.float32).astype(float)


@pytest.mark.parametrize("images", [225, 240])
def test_counts_tie_whatever_their_accuracies_were_rounded_to(images):
    study = results(outcome=np.zeros(8))
    for arm, hits in (("base", HITS), ("arm", HITS + MORE)):
        study["outcome"].loc[{"arm": arm, "epoch": 10.0}] = counted(hits, images)
    ruled, entry = verdict(study, claim())
    assert (ruled, entry["p"]) == ("inconclusive", paired.sign_flip(MORE)) == (ruled, 0.0625)
    assert entry["ci"][0] <= 0


def test_a_run_at_chance_ties_with_a_diverged_one_in_five_species():
    study = results(outcome=np.zeros(16), diverged=[("base", seed) for seed in range(16)])
    study = study.rename(outcome="test_accuracy").assign_attrs(classes=5)
    hits = np.where(np.arange(16) < 10, 70, 20)
    study["test_accuracy"].loc[{"arm": "arm", "epoch": 10.0}] = counted(hits, 100)
    chance = Claim("1", "text", "directional", contrast("test_accuracy"))
    ruled, entry = verdict(study, chance)
    assert (ruled, entry["test"]) == ("inconclusive", "sign")
    assert entry["p"] == pytest.approx(paired.sign(np.where(hits > 20, 0.5, 0.0)))


def test_p_is_adjusted_over_the_claims_and_supported_is_always_significant():
    study = results(outcome=0.1 + SMALL, other=0.03 + LARGE)
    weak = Claim("weak", "text", "directional", contrast("other"))
    entries = judge(Plan(None, (weak, claim("1"), claim("2")), ()), study)
    np.testing.assert_allclose(
        [entry["p_holm"] for entry in entries], paired.holm([entry["p"] for entry in entries])
    )
    assert entries[0]["p_holm"] == entries[0]["p"] > 0.05
    assert [entry["p_holm"] <= 0.05 for entry in entries[1:]] == [True, True]


def test_the_interval_outranks_holm():
    """The last of three p needs 0.05 under Holm and 0.05/3 for the simultaneous interval."""
    between = 0.045 + LARGE
    assert 0.05 / 3 < paired.sign_flip(between) <= 0.05
    study = results(outcome=0.1 + SMALL, other=between)
    last = Claim("last", "text", "directional", contrast("other"))
    ruled, entry = verdict(study, last, claim("1"), claim("2"))
    assert entry["p_holm"] <= 0.05
    assert ruled == "inconclusive"
    assert verdict(study, last)[0] == "supported"


def test_p_of_a_no_effect_claim_is_small_when_it_is_supported():
    ruled, entry = verdict(results(outcome=SMALL), claim(kind="no_effect"))
    assert (ruled, entry["p"]) == ("supported", 2 / 2**8)
    for effect in (LARGE, 0.021 + SMALL, -0.021 + SMALL, 0.1 + SMALL, -0.1 + SMALL):
        _, entry = verdict(results(outcome=effect), claim(kind="no_effect"))
        assert entry["p"] > 0.05


@pytest.mark.parametrize(
    ("effect", "kind", "hopeless"),
    [
        (0.03 + LARGE, "directional", False),
        (0.0 + 0.6 * LARGE, "directional", False),
        (0.0 + 0.6 * LARGE, "no_effect", False),
        (0.03 + 0.3 * LARGE, "no_effect", False),
        (0.0 + 90 * LARGE, "directional", True),
        (0.02 + LARGE, "no_effect", True),
    ],
)
def test_an_undecided_claim_names_the_seeds_that_would_decide(effect, kind, hopeless):
    ruled, entry = verdict(results(outcome=effect), claim(kind=kind))
    assert ruled == "inconclusive"
    if hopeless:
        assert entry["seeds_needed"] is None
        assert "1000 seeds" in entry["note"]
    else:
        assert 8 < entry["seeds_needed"] <= 1000
        assert f"about {entry['seeds_needed']} seeds" in entry["note"]


def test_seeds_count_towards_whichever_ruling_comes_first():
    """Near 0 it is `negligible` that more seeds would show, as they would of a no-effect claim."""
    study = results(outcome=0.006 + 0.6 * LARGE)
    found = [
        verdict(study, claim(kind=kind))[1]["seeds_needed"] for kind in ("directional", "no_effect")
    ]
    assert found[0] == found[1] < 100


def test_a_constant_control_makes_one_sample():
    study = results(outcome=0.1 + SMALL)
    one = Claim("1", "text", "directional", contrast(control=0.55))
    ruled, entry = verdict(study, one)
    assert (ruled, entry["control"]) == ("supported", 0.55)
    assert entry["effect"] == pytest.approx(0.05)


def test_entries_hold_the_keys_of_the_summary():
    _, entry = verdict(
        results(outcome=0.1 + SMALL, other=SMALL), claim(mechanism=contrast("other"))
    )
    effect = {"metric", "arm", "control", "direction", "delta", "effect", "ci", "p", "test"}
    effect |= {"diverged_pairs"}
    ruling = {"id", "part", "text", "kind", "verdict", "p_holm", "n", "m", "seeds_needed", "note"}
    assert set(entry) >= effect | ruling | {"mechanism"}
    assert set(entry["mechanism"]) >= effect | {"moved"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: contrast(direction=0), "direction"),
        (lambda: contrast(delta=0.0), "delta"),
        (lambda: Contrast(Reading("outcome"), "arm", "arm", 1, DELTA), "against"),
        (lambda: claim(kind="directed"), "directed"),
        (lambda: Plan(None, (claim(), claim())), "'1' is declared 2 times"),
        (lambda: Reading("outcome", epoch=10, since=10), "since"),
        (lambda: judge(Plan(None, (claim(),)), results(outcom=SMALL)), "mean 'outcom'"),
    ],
)
def test_a_plan_that_cannot_be_judged_is_refused(make, words):
    with pytest.raises(UsageError, match=words):
        make()


def test_a_plan_names_its_arms():
    pair = Contrast(Reading("outcome"), ("a", "b"), "c", 1, DELTA)
    plan = Plan(None, (Claim("1", "t", "directional", pair, contrast(control=1.0)),))
    assert plan.arms == {"a", "b", "c", "arm"}
