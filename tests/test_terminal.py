"""The terminal's view: what it says, within its width, whatever the names."""

import numpy as np
import pytest
from rich.cells import cell_len
from studies import (
    HOSTILE,
    arm,
    claim,
    diverge,
    effect,
    made_up_results,
    made_up_summary,
    placebo,
    required,
    scenario,
)

from fishjax.present.strips import layers
from fishjax.present.terminal import render

FIRST = """\
dying_relu on reef, 8 seeds, data 01234567

Scenario S3, reproduced: no gain in accuracy after epoch 50
  figure  the seed's figure    target                        measured  n  within
  ──────────────────────────────────────────────────────────────────────────────
  gain    no gain after epoch  ≤ 1.0 points  +0.3 [−0.2, +0.8] points  8  yes
          50

Ablation: mean over n seeds [95 % interval]
  arm    n  test accuracy (%)
  ───────────────────────────
  relu   8  71.2 [69.1, 73.3]
  leaky  8  71.2 [69.1, 73.3]

Layers over 20 epochs: dead units (· none, █ all; then at the end)
"""


def report(summary, results, folder, width=80) -> list[str]:
    text = render(summary, results, folder, width)
    assert text.endswith("\n")
    lines = text.splitlines()
    assert max(cell_len(line) for line in lines if not line.startswith("Files in")) <= width
    assert all(line == line.rstrip() for line in lines)
    return lines


def section(lines: list[str], word: str) -> list[str]:
    start = next(i for i, line in enumerate(lines) if line.startswith(word))
    end = next((i for i in range(start, len(lines)) if not lines[i]), len(lines))
    return lines[start:end]


def test_a_whole_report(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "summary.json").touch()
    lines = report(made_up_summary(), made_up_results(), tmp_path)
    assert "\n".join(lines).startswith(FIRST)
    assert section(lines, "Claims") == [
        "Claims: arm minus control, paired by seed [simultaneous 95 % interval], Holm's p",
        "  over m contrasts; m = 3",
        "  3.3     SUPPORTED       +12.3 [+9.8, +14.9] points  Holm p 0.023  n 8",
        "          Leaky ReLU keeps the gradient and repairs it",
        "          test accuracy: leaky − relu",
    ]
    assert section(lines, "Placebos") == [
        "Placebos: what should not matter [95 % interval]",
        "  another order: within the margin, +0.4 [−1.0, +1.8] points, margin 2.0 points,",
        "          n 8",
        "          the same images in another order",
    ]
    assert section(lines, "Time")[:1] == [
        "Time: 12.0 s waiting for compilation, 95.0 s running, 121.0 s in all, 1,297 run-"
    ]
    assert lines[-1] == "  summary.json tables/"


def test_layers_have_a_strip_a_percentage_and_a_flow():
    results = made_up_results(arms=("relu",), seeds=1, epochs=4, layers=2)
    results["dead_share"][0, 0] = np.array([[0, np.nan], [0.1, np.nan], [0.5, np.nan], [1, np.nan]])
    results["flow"][0, 0] = np.array([[1, 1], [1, 1], [1, 1], [0.001, 0]])
    assert layers(results, 80)[2:] == [
        "  relu",
        "  conv1  ·▁▄█           100 %  −3.00",
        "  logits                    –     −∞",
    ]


def test_arms_of_unlike_length_are_not_said_to_be_alike():
    results = made_up_results()
    assert layers(results, 80)[0].startswith("Layers over 20 epochs:")
    shorter = (results["arm"] == "leaky") & (results["epoch"] > 10)
    assert layers(results.where(~shorter), 80)[0].startswith("Layers over up to 20 epochs:")


def test_a_long_history_is_thinned_and_keeps_its_ends():
    results = made_up_results(arms=("relu",), seeds=1, epochs=100, layers=2)
    results["dead_share"][0, 0, :, 0] = np.r_[0.0, np.full(98, 0.5), 1.0]
    assert layers(results, 80)[3].startswith("  conv1  ·▄▄▄▄▄▄▄▄▄▄▄▄█ 100 %")


@pytest.mark.parametrize(("width", "across"), [(40, 1), (80, 2), (120, 3)])
def test_arms_stand_side_by_side_where_they_fit(width, across):
    names = [f"arm{i}" for i in range(6)]
    lines = layers(made_up_results(arms=names), width)
    assert lines[2].split() == names[:across]
    assert max(map(cell_len, lines[2:])) <= width


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("arms", [1, 5, 12])
def test_any_number_of_arms_and_metrics_fits(width, arms, tmp_path):
    names = [f"quite a long name of arm {i}" for i in range(arms)]
    metrics = {
        name: {"n": 8, "mean": 0.5, "ci": [0.25, 0.75]}
        for name in ("test_accuracy", "val_accuracy", "train_accuracy", "train_loss", "dead_share")
    }
    summary = made_up_summary(arms=[arm(name, metrics) for name in names])
    lines = report(summary, made_up_results(arms=names, layers=6), tmp_path, width)
    for heading in ("test accuracy (%)", "training loss", "dead share (%)"):
        assert any(heading in line for line in lines)
    for name in names:
        assert sum(name in line for line in lines) >= 3


def test_a_name_that_fills_the_line_leaves_a_block_for_each_metric(tmp_path):
    metrics = {name: {"n": 8, "mean": 0.5, "ci": None} for name in ("test_accuracy", "train_loss")}
    summary = made_up_summary(arms=[arm("x" * 90, metrics)])
    ablation = render(summary, made_up_results(), tmp_path, 80).partition("Ablation")[2]
    blocks = ablation.partition("Layers")[0].split("\n\n")[:-1]
    assert ["training loss" in block for block in blocks] == [False, True]


def test_diverged_runs_are_counted(tmp_path):
    summary = made_up_summary(arms=[arm("relu"), arm("leaky", n_diverged=2)])
    lines = report(summary, diverge(made_up_results(), "leaky", [0, 1]), tmp_path)
    assert "Diverged, counted as chance: 2 of 8 runs of leaky." in lines
    assert any("leaky (2 of 4 diverged)" in line for line in lines)
    assert any(line.split()[:3] == ["leaky", "8", "2"] for line in lines)


def test_an_inconclusive_claim_says_how_many_seeds_it_needs(tmp_path):
    found = claim(verdict="inconclusive", seeds_needed=24, p_holm=0.4, part="high rate")
    lines = report(made_up_summary(claims=[found]), made_up_results(), tmp_path, 100)
    (line,) = [line for line in lines if "INCONCLUSIVE" in line]
    assert line.endswith("Holm p 0.400  n 8  needs 24 seeds")
    assert "          high rate: Leaky ReLU keeps the gradient and repairs it" in lines


def test_a_claim_without_numbers_and_a_mechanism_that_did_not_move(tmp_path):
    still = required(standing="open", reading="flow_slope", effect=0.01, ci=[None, None])
    found = claim(
        effect=None, ci=[None, None], p_holm=None, verdict="by construction", mechanism=still
    )
    lines = report(made_up_summary(claims=[found]), made_up_results(), tmp_path, 100)
    assert "  3.3     BY CONSTRUCTION –  Holm p –  n 8" in lines
    assert any("is not shown to move, +0.01 [−∞, ∞] decades per layer." in line for line in lines)


def test_a_broken_placebo_and_a_failed_scenario_are_said(tmp_path):
    broken = placebo(within_delta=False, beyond_delta=True)
    summary = made_up_summary(placebos=[broken], scenarios=[scenario(reproduced=False)])
    text = "\n".join(report(summary, made_up_results(), tmp_path))
    assert "beyond the margin: the study is void" in text
    assert "Scenario S3, not reproduced" in text


def test_a_study_without_plan_or_timing_is_shown(tmp_path):
    bare = made_up_summary(scenarios=[], claims=[], placebos=[], timing={"run_steps_per_s": None})
    heads = [line.split(":")[0] for line in report(bare, made_up_results(), tmp_path) if line]
    assert not {"Claims", "Placebos", "Time"} & set(heads)


@pytest.mark.parametrize("width", [80, 100])
def test_hostile_names_stay_on_their_line_and_send_no_codes(width, tmp_path):
    summary = made_up_summary(
        study="\x1b]0;title\x07",
        arms=[arm(name, n_diverged=1) for name in HOSTILE],
        claims=[claim(text=name, note=name, **effect(name, [name])) for name in HOSTILE],
        placebos=[placebo(id=name, text=name) for name in HOSTILE],
        scenarios=[scenario(text=name) for name in HOSTILE],
    )
    results = made_up_results(arms=HOSTILE).assign_coords(layer=["a\nb", "\x1b[2J", "鱼" * 20])
    text = "\n".join(report(summary, results, tmp_path / "\x1b[31m", width))
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "[opt]" in text
    assert "<script>alert(1)</script>" in text


def test_results_with_holes_are_shown(tmp_path):
    whole = made_up_results()
    for results in (
        whole.isel(seed=[0]),
        whole.isel(epoch=[0]),
        diverge(whole, "leaky", [0, 1, 2, 3]),
        whole.where(whole["arm"] == "relu"),
        whole.assign(dead_share=whole["dead_share"] * np.nan, flow=whole["flow"] * np.nan),
        whole.drop_vars("flow"),
    ):
        report(made_up_summary(), results, tmp_path)


def test_the_same_study_reads_the_same(tmp_path):
    first, second = (render(made_up_summary(), made_up_results(), tmp_path, 90) for _ in range(2))
    assert first == second


def test_settings_that_were_searched_are_counted(tmp_path):
    search = {"settings_tried": 142, "seeds": [1100, 1101]}
    text = render(made_up_summary(search=search), made_up_results(), tmp_path)
    assert "142 settings tried, the last on 2 other seeds" in text
    assert "searched" not in render(made_up_summary(), made_up_results(), tmp_path)


def test_tuned_rates_are_told_with_how_they_were_chosen(tmp_path):
    tuning = {"rates": [0.01, 0.03, 0.1], "seeds": [1000, 1001]}
    chosen = {"deep": 0.03, "wide": 0.1, "tiny": 0.01}
    text = render(made_up_summary(tuning={**tuning, "chosen": chosen}), made_up_results(), tmp_path)
    told = "deep 0.03, wide 0.1 (the highest tried), tiny 0.01 (the lowest tried)"
    assert f"rates, best of 3 on 2 other seeds: {told}" in " ".join(text.split())


def test_a_missed_target_names_its_knob_and_a_changed_plan_both_versions(tmp_path):
    missed = scenario(reproduced=False)
    missed["measured"]["gain"] |= {"mean": 0.05, "within": False, "advice": "lower hyper.lr"}
    changed = {
        "differs": ["claim 3.3"],
        "pinned": {"revision": "0123456789", "modified": False},
        "claims": [claim(verdict="refuted")],
        "error": "unknown metric",
    }
    summary = made_up_summary(
        scenarios=[missed], plan_changed=changed, auc_without={"wrasse": 3}, claims=[claim()]
    )
    lines = report(summary, made_up_results(), tmp_path, 100)
    assert "  gain is +5.0 points, not ≤ 1.0 points: lower hyper.lr." in lines
    assert " ".join(" ".join(lines[1:3]).split()) == (
        "The plan was changed after it was pinned at revision 01234567; both versions are given of "
        "claim 3.3. The pinned plan cannot be judged: unknown metric."
    )
    missed["measured"]["gain"] |= {"mean": 0.005, "n": 7, "of": 8, "advice": ""}
    again = " ".join(" ".join(report(summary, made_up_results(), tmp_path, 100)).split())
    assert "gain is a finite number in 7 of 8 runs only, so not met." in again
    assert "Left out of AUC, for too few test images: wrasse (3)." in lines
    claims = section(lines, "Claims")
    assert "  3.3     REFUTED         +12.3 [+9.8, +14.9] points  Holm p 0.023  n 8" in claims
    assert "          as pinned: Leaky ReLU keeps the gradient and repairs it" in claims
    assert "          as changed: Leaky ReLU keeps the gradient and repairs it" in claims


def test_an_existential_claim_lists_its_contrasts(tmp_path):
    members = [effect("bn 1", p=0.5), effect("bn 2", p=2**-7)]
    stayed = required("stays", effect=0.001, ci=[-0.01, 0.012])
    summary = made_up_summary(claims=[claim(members=members, also=[stayed])])
    claims = section(report(summary, made_up_results(), tmp_path, 95), "Claims")
    assert [" ".join(line.split()) for line in claims[-4:]] == [
        "test accuracy: bn 1 − relu: +12.3 [+9.8, +14.9] points, p 0.500",
        "test accuracy: bn 2 − relu: +12.3 [+9.8, +14.9] points, p 0.008",
        "Required besides: test accuracy: leaky − relu stayed within the margin, +0.1 [−1.0,",
        "+1.2] points.",
    ]
