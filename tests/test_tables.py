"""Tables: what they say, and that no name can break Markdown, LaTeX or a spreadsheet."""

import csv
import io
import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from studies import HOSTILE, arm, claim, effect, made_up_summary, placebo, required, scenario

from fishjax.fields import UsageError
from fishjax.present import phrases
from fishjax.present.search import search_table
from fishjax.present.table import Column, Number, Table, escape_latex
from fishjax.present.tables import ablation_table, effect_cell, tables, write_tables
from fishjax.present.wording import P_VALUE, Quantity, difference, plain, quantity

names = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(), max_size=20))


def text_table(*texts: str) -> Table:
    columns = (Column("name", "name"), Column("value", "value", estimate=True))
    rows = tuple((text, Number(-0.5, quantity("loss"), (-1.0, None))) for text in texts)
    return Table("names", texts[0], columns, rows)


def read_csv(table: Table) -> list[list[str]]:
    return list(csv.reader(io.StringIO(table.write("csv"))))


def test_ablation_in_markdown():
    few = {"test_accuracy": {"n": 5, "mean": 0.4, "ci": None}}
    table = ablation_table(made_up_summary(arms=[arm("relu"), arm("leaky", few, n_diverged=3)]))
    assert table.write("md").splitlines()[2:] == [
        "| arm | n | diverged | test accuracy (%) |",
        "| :-- | --: | --: | --: |",
        "| relu | 8 | 0 | 71.2 [69.1, 73.3] |",
        "| leaky | 8 | 3 | 40.0 (5 of 8) |",
    ]


def test_ablation_in_csv_keeps_whole_numbers():
    ends = ["test_accuracy_low", "test_accuracy_high", "test_accuracy_n"]
    assert read_csv(ablation_table(made_up_summary()))[:2] == [
        ["arm", "n", "n_diverged", "test_accuracy", *ends],
        ["relu", "8", "0", "0.71234", "0.691", "0.733", "8"],
    ]


def test_ablation_in_latex():
    lines = ablation_table(made_up_summary()).write("tex").splitlines()
    assert lines[0] == r"\begin{table}"
    assert r"\label{tab:ablation}" in lines
    assert r"\begin{tabular}{lrrr}" in lines
    assert r"arm & n & diverged & test accuracy (\%) \tabularnewline" in lines
    assert r"relu & 8 & 0 & 71.2 [69.1, 73.3] \tabularnewline" in lines


def test_metrics_are_the_headline_or_those_named():
    found = {
        name: {"n": 8, "mean": 0.5, "ci": None} for name in ("flow", "train_loss", "test_accuracy")
    }
    summary = made_up_summary(arms=[arm("relu", found)])
    assert [c.key for c in ablation_table(summary).columns[3:]] == ["test_accuracy", "train_loss"]
    assert [c.key for c in ablation_table(summary, ["flow"]).columns[3:]] == ["flow"]
    with pytest.raises(UsageError, match="unknown metric 'flwo'; did you mean 'flow'"):
        ablation_table(summary, ["flwo"])


def test_a_metric_not_measured_is_a_dash_and_an_empty_field():
    none = {"n": 0, "mean": None, "sd": None, "ci": None}
    arms = [arm("relu", {"test_accuracy": none}), arm("leaky", {})]
    table = ablation_table(made_up_summary(arms=arms))
    assert [row[3] for row in table.texts] == ["–", "–"]
    assert [row[3:] for row in read_csv(table)[1:]] == [["", "", "", "0"], ["", "", "", ""]]


def test_claims_say_effect_p_and_mechanism():
    moved = required(reading="dormant_share", effect=-0.4, ci=[-0.5, -0.3])
    open_ended = claim(id="2.4", part="a", ci=[None, 0.2], p_holm=None, seeds_needed=24)
    noted = {"mechanism": moved, "test": "sign", "caveats": ["2 of 8 pairs diverged"]}
    summary = made_up_summary(claims=[claim(**noted), open_ended])
    (table,) = [t for t in tables(summary) if t.name == "claims"]
    first, second = table.texts
    assert first[2:] == [
        "supported",
        "test accuracy: leaky − relu",
        "+12.3 [+9.8, +14.9] points",
        "0.023",
        "sign",
        "8",
        "–",
        "dormant share: leaky − relu moved, −40.0 [−50.0, −30.0] points; 2 of 8 pairs diverged",
    ]
    void = claim(verdict="void (placebo)", reason="beyond delta: another order")
    (told,) = [t for t in tables(made_up_summary(claims=[void])) if t.name == "claims"]
    assert told.texts[0][-1] == "beyond delta: another order"
    assert second[0] == "2.4 (a)"
    assert second[4:] == ["+12.3 [−∞, +20.0] points", "–", "sign-flip", "8", "24", "–"]
    assert read_csv(table)[2][4:8] == ["0.123456789", "-inf", "0.2", ""]


def test_what_must_hold_besides_stands_with_the_mechanism():
    stayed = required("stays", effect=0.001, ci=[-0.01, 0.012])
    short = required("exceeds", "refuted", "big", 0.98, effect=0.0)
    summary = made_up_summary(claims=[claim(also=[stayed], premise=[short])])
    (table,) = [t for t in tables(summary) if t.name == "claims"]
    assert table.texts[0][-1] == (
        "Required besides: test accuracy: leaky − relu stayed within the margin, "
        "+0.1 [−1.0, +1.2] points; "
        "Premise: test accuracy: big − 98.0 % did not exceed the margin, 0.0 [+9.8, +14.9] points"
    )


def test_members_of_an_existential_claim_have_a_table():
    members = [effect("bn 1", p=0.5, test="sign-flip, max-T"), effect("bn 2", p=2**-7, test="t")]
    summary = made_up_summary(claims=[claim(), claim(id="1.4", members=members)])
    (table,) = [t for t in tables(summary) if t.name == "members"]
    assert [row[:2] for row in table.texts] == [
        ["1.4", "test accuracy: bn 1 − relu"],
        ["1.4", "test accuracy: bn 2 − relu"],
    ]
    assert table.texts[0][2:] == ["+12.3 [+9.8, +14.9] points", "0.500", "sign-flip, max-T"]


CHANGED = {
    "differs": ["claim 3.3"],
    "pinned": {"revision": "0123456789", "modified": False},
    "present": {"revision": None, "modified": False},
    "claims": [claim(verdict="refuted")],
    "scenarios": [],
    "placebos": [],
    "error": "",
}


def test_a_table_that_says_nothing_any_more_is_removed(tmp_path):
    kept = tmp_path / "auc_by_species.csv"
    write_tables(made_up_summary(), tmp_path)
    kept.write_text("")
    assert (tmp_path / "placebos.md").exists()
    write_tables(made_up_summary(placebos=[]), tmp_path)
    assert not list(tmp_path.glob("placebos.*"))
    assert kept.exists()
    assert (tmp_path / "claims.tex").exists()


def test_a_changed_plan_shows_both_versions():
    (table,) = [t for t in tables(made_up_summary(plan_changed=CHANGED)) if t.name == "claims"]
    assert [(row[0], row[2]) for row in table.texts] == [
        ("3.3, as pinned", "refuted"),
        ("3.3, as changed", "supported"),
    ]
    assert table.caption.endswith(
        "The plan was changed after it was pinned at revision 01234567; both versions are given "
        "of claim 3.3."
    )


def test_a_changed_scenario_is_not_said_to_be_shown_twice():
    changed = {**CHANGED, "differs": ["scenario S3", "claim 3.3", "placebo x"]}
    (table,) = [t for t in tables(made_up_summary(plan_changed=changed)) if t.name == "claims"]
    assert table.caption.endswith(
        "; both versions are given of claim 3.3; as pinned, scenario S3, placebo x is in "
        "summary.json."
    )


def test_a_study_without_a_tuned_rate_says_so_and_a_single_rate_is_at_no_edge():
    told = {"rates": [0.1], "seeds": [1000], "chosen": {"relu": 0.1}}
    assert phrases.tuned(told) == "best of 1 on 1 other seeds: relu 0.1"
    assert phrases.tuned({"rates": [], "seeds": [], "chosen": {}}) == "none tuned"


def test_settings_keep_their_digits():
    assert phrases.setting([0.0316227766, 1234567, 0.1 * 3]) == "0.0316227766,1234567,0.3"


@pytest.mark.parametrize("name", ["__init__", "___a___", "_a", "a_", "a _ b"])
def test_no_underscore_starts_or_ends_emphasis(name):
    row = text_table(name).write("md").splitlines()[-1]
    assert "_" not in row.replace(r"\_", "")
    assert "| conv_1_b |" in text_table("conv_1_b").write("md")


def test_a_species_left_out_of_auc_is_named():
    caption = ablation_table(made_up_summary(auc_without={"wrasse": 3})).caption
    assert caption.endswith("Left out of AUC, for too few test images: wrasse (3).")


def test_a_missed_target_says_what_was_measured_and_which_knob_to_turn():
    missed = scenario()
    missed["measured"]["gain"] |= {"mean": 0.05, "within": False, "advice": "lower hyper.lr"}
    (table,) = [t for t in tables(made_up_summary(scenarios=[missed])) if t.name == "scenarios"]
    assert table.caption.endswith("gain is +5.0 points, not ≤ 1.0 points: lower hyper.lr.")


def test_a_figure_without_bounds_is_neither_met_nor_missed():
    free = scenario()
    free["target"]["gain"] |= {"low": None, "high": None}
    (table,) = [t for t in tables(made_up_summary(scenarios=[free])) if t.name == "scenarios"]
    assert table.texts[0][-1] == "–"


def test_scenario_stands_beside_the_seed():
    (table,) = [t for t in tables(made_up_summary()) if t.name == "scenarios"]
    assert table.texts == [
        [
            "S3",
            "gain",
            "no gain after epoch 50",
            "≤ 1.0 points",
            "+0.3 [−0.2, +0.8] points",
            "8",
            "yes",
        ]
    ]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (None, 0.01, "≤ 1.0 %"),
        (0.15, None, "≥ 15.0 %"),
        (0.52, 0.58, "52.0 to 58.0 %"),
        (None, None, "–"),
    ],
)
def test_bounds_of_a_target(low, high, words):
    target = {"reading": "val_accuracy", "control": 0.0, "low": low, "high": high}
    assert phrases.bound(target) == words


@pytest.mark.parametrize(
    ("within", "beyond", "words"),
    [
        (True, False, "within the margin"),
        (False, True, "beyond the margin: the study is void"),
        (False, False, "no effect beyond the margin shown"),
    ],
)
def test_what_a_placebo_says(within, beyond, words):
    assert phrases.finding(placebo(within_delta=within, beyond_delta=beyond)) == words


def test_a_margin_has_no_sign():
    (table,) = [t for t in tables(made_up_summary()) if t.name == "placebos"]
    assert table.texts[0][3:5] == ["+0.4 [−1.0, +1.8] points", "2.0 points"]


@pytest.mark.parametrize(
    ("reading", "label"),
    [
        (
            "epoch, when val_loss ≤ 0.5, in doublings",
            "epoch, when validation loss ≤ 0.5, in doublings",
        ),
        ("val_auc, minus train_auc, at epoch 5", "validation AUC, minus training AUC, at epoch 5"),
        ("test_auc_of, species when_red", "test AUC of, species when_red"),
    ],
)
def test_every_metric_of_a_label_is_in_words(reading, label):
    assert quantity(reading).label == label


def test_a_negative_level_is_in_brackets():
    below = effect(reading="least_eigenvalue", control=-0.1)
    assert phrases.contrast(below) == "least eigenvalue: leaky − (−0.100)"


def test_contrast_names_levels_and_several_arms():
    assert phrases.contrast(effect("dying", 0.05, reading="revival")) == "revival: dying − 5.0 %"
    assert phrases.contrast(effect("dying", 0.0)) == "test accuracy: dying"
    several = phrases.contrast(effect(["a", "b"], "c"))
    assert several == "test accuracy: mean of (a, b) − c"


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (quantity("test_accuracy"), 0.71234, "71.2"),
        (difference("test_accuracy"), 0.0123, "+1.2"),
        (difference("test_accuracy"), -0.0123, "−1.2"),
        (quantity("batch_stats_accuracy_gap"), 0.0123, "+1.2"),
        (difference("batch_stats_accuracy_gap"), -0.0123, "−1.2"),
        (quantity("batch_stats_loss_gap"), 0.0123, "+0.012"),
        (difference("test_accuracy"), -0.0001, "0.0"),
        (quantity("test_auc"), 0.55, "0.550"),
        (quantity("flow"), 1.234e-6, "1.23×10⁻⁶"),
        (quantity("flow"), 123.4, "123"),
        (quantity("flow"), 0.2, "0.200"),
        (quantity("flow"), 123456.0, "1.23×10⁵"),
        (quantity("flow"), 0.0, "0"),
        (quantity("flow"), math.nan, "–"),
        (quantity("flow"), None, "–"),
        (quantity("flow"), -math.inf, "−∞"),
        (quantity("flow_slope"), -0.123, "−0.12"),
        (quantity("val_accuracy, in logits"), 0.3141, "0.31"),
        (difference("epoch, when val_accuracy ≥ 0.5"), 12.0, "+12.00"),
        (P_VALUE, 2**-15, "<0.001"),
        (P_VALUE, 0.03125, "0.031"),
    ],
)
def test_numbers_read_well(kind: Quantity, value, text):
    assert kind.text(value) == text


@pytest.mark.parametrize(
    ("reading", "unit"),
    [
        ("val_accuracy, in logits", "logits"),
        ("epoch, when val_accuracy ≥ 0.5, in doublings", "doublings"),
        ("train_loss, instability from epoch 5", "doublings"),
        ("test_auc_of, species fish in guesses", ""),
        ("test_auc_of, species of instability", ""),
        ("epoch, when val_accuracy ≥ 0.5", "epochs"),
    ],
)
def test_a_scale_is_the_unit(reading, unit):
    assert quantity(reading).unit == difference(reading).unit == unit


def test_a_reading_less_another_is_a_difference():
    target = {"reading": "val_accuracy, minus train_accuracy", "control": 0.0}
    assert phrases.figure_kind(target).unit == "points"


def test_a_gap_of_two_shares_is_in_points():
    gap = quantity("batch_stats_accuracy_gap")
    assert gap.heading == "batch stats accuracy gap (points)"
    assert difference("batch_stats_accuracy_gap").unit == "points"


def test_only_tables_with_rows_are_made():
    bare = made_up_summary(scenarios=[], claims=[], placebos=[])
    assert [table.name for table in tables(bare)] == ["ablation", "arms"]


def test_written_twice_the_bytes_are_equal(tmp_path):
    for folder in ("first", "second"):
        written = write_tables(made_up_summary(arms=[*map(arm, HOSTILE)]), tmp_path / folder)
    names = {
        f"{stem}.{form}"
        for stem in ("ablation", "arms", "claims", "placebos", "scenarios")
        for form in ("md", "tex", "csv")
    }
    assert {path.name for path in written} == names
    assert {path.name for path in (tmp_path / "first").iterdir()} == names
    for path in written:
        assert path.read_bytes() == (tmp_path / "first" / path.name).read_bytes()


def test_a_table_refuses_ragged_rows_and_odd_names():
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Table("t", "", (Column("a", "a"), Column("b", "b")), (("x",),))
    with pytest.raises(ValueError, match="cannot name a table"):
        Table("../t", "", (), ())


@given(st.lists(names, min_size=1, max_size=4))
@example(list(HOSTILE))
def test_no_name_breaks_markdown(texts):
    caption, blank, *lines = text_table(*texts).write("md").removesuffix("\n").split("\n")
    assert blank == ""
    assert len(lines) == len(texts) + 2
    for line in lines:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3
    for line in (caption, *lines):
        assert not re.search(r"[<>]|(?<!\\)(?:\\\\)*[`$]|[\x00-\x1f\x7f-\x9f\u2028\u202e]", line)


@given(st.lists(names, min_size=1, max_size=4))
@example(list(HOSTILE))
def test_no_name_breaks_latex(texts):
    table = text_table(*texts)
    body = table.write("tex").split("\\midrule\n")[1].split("\n\\bottomrule")[0]
    rows = body.split("\n")
    assert len(rows) == len(texts)
    for row in rows:
        bare = re.sub(r"\\[&%$#_{}]", "", row)
        assert bare.count("&") == 1
        assert not set("#%_~") & set(re.sub(r"\$[_^]\{[^$]*\}\$", "", bare))
        assert bare.count("$") % 2 == 0
        depth = 0
        for character in bare:
            depth += (character == "{") - (character == "}")
            assert depth >= 0
        assert depth == 0
        commands = set(re.findall(r"\\([a-zA-Z]+)", bare))
        assert commands <= LATEX_COMMANDS, row
        assert not row.startswith(("[", "*"))


LATEX_COMMANDS = {
    *("textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar"),
    *("textasciigrave", "ldots", "pm", "times", "cdot", "infty", "leq", "geq", "approx", "mu"),
    *("rightarrow", "Delta", "delta", "epsilon", "gamma", "alpha", "beta", "sigma", "lambda"),
    *("circ", "texttt", "tabularnewline"),
}


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        (r"\write18{x}", r"\textbackslash{}write18\{x\}"),
        ("a_b & 5 % of #1 $", r"a\_b \& 5 \% of \#1 \$"),
        ("--set ''x'' ,,", r"-{}-set '{}'x'{}' ,{},"),
        ("~^<|>", r"\textasciitilde{}\textasciicircum{}\textless{}\textbar{}\textgreater{}"),
        ("−1 ± 2 – 3×10⁻⁵", r"$-$1 $\pm$ 2 {--} 3$\times$10$^{-}$$^{5}$"),
        ("–- ?‘ ‘‘ ’’", r"{--}- ?{`} {`}{`} {'}{'}"),
        ("Böse 鱼", r"Böse \texttt{U+9C7C}"),
    ],
)
def test_latex_escapes(text, escaped):
    assert escape_latex(text) == escaped


@given(st.lists(names, min_size=1, max_size=4))
@example(list(HOSTILE))
def test_no_name_starts_a_formula(texts):
    header, *rows = read_csv(text_table(*texts))
    assert header == ["name", "value", "value_low", "value_high"]
    assert [row[0].removeprefix("'") for row in rows] == [plain(t).removeprefix("'") for t in texts]
    for name, *numbers in rows:
        assert not name.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert list(map(float, numbers)) == [-0.5, -1.0, math.inf]


def test_every_kind_of_name_survives_every_table():
    for name in HOSTILE:
        summary = made_up_summary(
            study=name,
            data={"spec": name, "hash": "0"},
            arms=[arm(name)],
            claims=[claim(**effect(name, [name, name]), text=name, note=name)],
            scenarios=[scenario(text=name)],
            placebos=[placebo(text=name)],
        )
        for table in tables(summary):
            for form in ("md", "tex", "csv"):
                assert "\x1b" not in table.write(form)


def test_the_settings_of_a_search_are_written_as_they_are_set():
    target, measured = scenario()["target"], scenario()["measured"]
    tried = {"setting": {"model.norm_at": [0, 2], "hyper.lr": 0.5}, "rates": {"relu": 0.01}}
    search = {
        "study": "dying_relu",
        "scenario": "S3",
        "data": {"spec": "reef"},
        "knobs": [{"key": "model.norm_at"}, {"key": "hyper.lr"}],
        "target": target,
        "tried": [{**tried, "measured": measured, "reproduced": True}],
        "settings_tried": 1,
        "rates": [0.01],
        "tuning_seeds": [1000],
        "seeds": [1100],
    }
    assert search_table(search).rows[0][:3] == ("0,2", "0.5", "0.01")


@pytest.mark.parametrize(
    ("value", "interval", "signs", "shown", "written"),
    [
        (None, [9.5, None], [1, 0, 1], "∞ [+9.50, ∞]", ["inf", "9.5", "inf"]),
        (None, [None, 9.5], [-1, -1, 0], "−∞ [−∞, +9.50]", ["-inf", "-inf", "9.5"]),
        (None, [None, None], [1, 1, 1], "∞ [∞, ∞]", ["inf", "inf", "inf"]),
        (None, [None, None], [-1, -1, 1], "−∞ [−∞, ∞]", ["-inf", "-inf", "inf"]),
        (None, [None, None], None, "–", ["", "-inf", "inf"]),
        (2.0, [1.0, None], [0, 0, 1], "+2.00 [+1.00, ∞]", ["2.0", "1.0", "inf"]),
    ],
)
def test_an_effect_without_end_is_told_from_one_not_measured(
    value, interval, signs, shown, written
):
    found = effect(reading="loss in guesses", effect=value, ci=interval)
    found |= {} if signs is None else {"infinite": signs}
    table = Table("t", "c", (Column("x", "x", estimate=True),), ((effect_cell(found),),))
    assert table.texts == [[shown]]
    assert read_csv(table)[1] == written


@pytest.mark.parametrize(
    ("standing", "words"),
    [
        ("met", "moved, +12.3 [+9.8, +14.9] points"),
        ("refuted", "did not move as expected, +12.3 [+9.8, +14.9] points"),
        ("open", "is not shown to move, +12.3 [+9.8, +14.9] points"),
    ],
)
def test_what_is_open_is_not_called_refuted(standing, words):
    found = required("moves", standing)
    assert phrases.required(found) == f"test accuracy: leaky − relu {words}"
    torn = {**found, "effect": None, "ci": [None, None], "infinite": [0, -1, 1]}
    assert phrases.required(torn).endswith("–")
    lost = {**found, "effect": None, "ci": [None, None]}
    assert phrases.required(lost).endswith("was not measured at every seed")
