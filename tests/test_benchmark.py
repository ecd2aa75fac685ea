"""The benchmark against fishjax's peers, at a scale of seconds."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmark import (
    findings,
    fishjax_peers,
    heat,
    jax_peers,
    peaks,
    racer,
    reference,
    statistics,
    study,
    tables,
    ways,
    workload,
)
from experiments.benchmark.__main__ import benchmark, chosen_peers
from experiments.benchmark.course import GATE_RTOL, GATE_STEPS, Course
from experiments.benchmark.remote import PeerError, Remote
from experiments.benchmark.workload import WORKLOADS, Job, Workload
from fishjax.fields import UsageError
from tests.needs import need

RUNS = 2
KEYS = {
    *("machine", "runs", "rounds", "peak_gflops", "rows", "left_out", "layers", "scaling"),
    *("geomean_over_best_torch", "geomean_over_naive_vmap", "probe_overhead"),
}
ROW_KEYS = {
    *("workload", "peer", "title", "runs", "rounds", "steps_per_call", "gate_steps", "gate_error"),
    *("rates", "run_steps_per_s", "gflops", "of_peak", "ratio_to_best_torch", "compile_s"),
    "peak_rss_mb",
}


def job_of(workload_: Workload, runs: int = RUNS) -> Job:
    job = workload.draw(workload_, runs)
    return Job(workload_, {**job.arrays, "batches": fishjax_peers.order(job, GATE_STEPS + 4)})


@pytest.fixture(scope="module")
def job() -> Job:
    return job_of(WORKLOADS["smoke"])


@pytest.fixture(scope="module")
def expected(job) -> np.ndarray:
    return np.stack([reference.losses(job, run, GATE_STEPS) for run in range(RUNS)])


def torch_peers():
    pytest.importorskip("torch", reason="the extra bench brings PyTorch")
    from experiments.benchmark import torch_peers

    torch_peers.torch.set_num_threads(1)
    return torch_peers


def apart(peer, expected: np.ndarray, steps: int = GATE_STEPS) -> float:
    found = np.asarray(peer.losses(range(RUNS), steps))
    return float(np.abs(found / expected[:, :steps] - 1).max())


OTHER_ENGINES = {"fishjax-grouped", "fishjax-unrolled", "fishjax-patches", "fishjax-vmap"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in OTHER_ENGINES else [])
        for name in (*jax_peers.PEERS, *fishjax_peers.PEERS)
    ],
)
def test_every_jax_peer_trains_as_the_reference_does(name, job, expected):
    if name == "fishjax-native":
        need("onednn")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        peer = {**jax_peers.PEERS, **fishjax_peers.PEERS}[name](job)
        peer.run(1)
        assert apart(peer, expected) < GATE_RTOL
        assert peer.compile_s > 0


@pytest.mark.parametrize("name", ["torch-eager", "torch-contiguous", "torch-vmap", "torch-grouped"])
def test_every_torch_peer_trains_as_the_reference_does(name, job, expected):
    peer = torch_peers().PEERS[name](job)
    peer.run(1)
    assert apart(peer, expected) < GATE_RTOL
    assert peer.compile_s is None


@pytest.mark.parametrize("bug", [("MOMENTUM", 0.89), ("EPSILON", 1e-3)])
def test_a_planted_bug_fails_the_gate(bug, job, expected, monkeypatch):
    monkeypatch.setattr(jax_peers, *bug)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert apart(jax_peers.PEERS["jax-loop"](job), expected) > GATE_RTOL


def test_fishjax_with_another_epsilon_is_not_compared(job, monkeypatch):
    monkeypatch.setattr(fishjax_peers, "EPSILON", 1e-3)
    with pytest.raises(ValueError, match="epsilon"):
        fishjax_peers.lowered(job.workload, probes=False)


def test_rates_differ_and_so_do_losses(job, expected):
    assert len(set(job["rates"].tolist())) == RUNS
    assert (np.abs(expected[0] - expected[1]) > 1e-3).any()
    assert expected[-1, -4:].mean() < expected[-1, :4].mean()


def test_the_order_is_that_of_the_training_indices(job):
    for run in range(RUNS):
        assert set(job["batches"][run].ravel()) <= set(job["train"][run])
        assert all(len(set(batch)) == job.workload.batch for batch in job["batches"][run])


def test_a_pack_with_idle_slots_trains_every_run(job, expected, monkeypatch):
    monkeypatch.setattr(fishjax_peers, "planned", lambda *needs: 2)
    three = job_of(job.workload, 3)
    ours = fishjax_peers.PEERS["fishjax"](three).losses([0, 2], 4)
    theirs = [reference.losses(three, run, 4) for run in (0, 2)]
    np.testing.assert_allclose(ours, theirs, rtol=GATE_RTOL)


def test_the_references_gradients_are_those_of_torch_in_float64(job):
    peers = torch_peers()
    torch = peers.torch
    net = peers.loaded(job, 1).double()
    batch = job["batches"][1][0]
    pixels = job["images"][batch].astype(np.float64) / 255.0
    images = (pixels - job["mean"]) / job["deviation"]
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    labels = torch.from_numpy(job["labels"][batch].astype(np.int64))
    loss = torch.nn.functional.cross_entropy(net(x), labels)
    loss.backward()
    params = reference._initial(job, 1)
    found, gradients = reference.loss_and_gradients(job, params, images, job["labels"][batch])
    assert found == pytest.approx(loss.item(), rel=1e-12)
    convs = [layer for layer in net.body if isinstance(layer, torch.nn.Conv2d)]
    normed = [layer for layer in net.body if isinstance(layer, torch.nn.BatchNorm2d)]
    for i, (conv, norm) in enumerate(zip(convs, normed, strict=True)):
        theirs = conv.weight.grad.permute(2, 3, 1, 0).numpy()
        np.testing.assert_allclose(gradients[f"kernel{i}"], theirs, atol=1e-12)
        np.testing.assert_allclose(gradients[f"scale{i}"], norm.weight.grad, atol=1e-12)
        np.testing.assert_allclose(gradients[f"shift{i}"], norm.bias.grad, atol=1e-12)
    np.testing.assert_allclose(gradients["head"], net.head.weight.grad.T, atol=1e-12)
    np.testing.assert_allclose(gradients["head bias"], net.head.bias.grad, atol=1e-12)


def test_flops_of_the_convolutions_are_xlas_but_for_the_padding():
    layer = workload.Layer(32, 16, 32, pooled=False)

    def forward(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    args = (jnp.zeros((4, 32, 32, 16)), jnp.zeros((3, 3, 16, 32)))
    counted = jax.jit(forward).lower(*args).compile().cost_analysis()["flops"]
    padding = (94 / 96) ** 2
    assert counted == pytest.approx(4 * layer.forward_flops * padding, rel=0.01)


def test_flops_of_a_step_are_the_hand_count():
    tiny = Workload("tiny", (2, 4), batch=3, chunk=1, size=4)
    first, second, head = 2 * 16 * 9 * 3 * 2, 2 * 4 * 9 * 2 * 4, 2 * 4 * 8
    assert tiny.flops == 3 * (2 * first + 3 * second + 3 * head)
    assert [layer.side for layer in WORKLOADS["M"].layers] == [32, 32, 16, 16, 8, 8]
    assert [layer.pooled for layer in WORKLOADS["T"].layers] == [True] * 3


def test_the_bootstrap_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        low, high = statistics.interval(rng.normal(2.0, 0.1, 15))
        covered += low <= 2.0 <= high
    assert 0.90 <= covered / 200 <= 0.995


def test_ratios_are_paired_and_their_median_taken():
    ratio = statistics.paired_ratio([2.0, 4.0, 9.0], [1.0, 2.0, 3.0])
    assert ratio.value == 2.0
    assert ratio.interval == (2.0, 3.0)
    assert statistics.paired_ratio([4.0], [1.0, 2.0, 3.0]) == (2.0, None)
    assert statistics.geometric_mean([1.0, 4.0]) == pytest.approx(2.0)


def test_peers_are_chosen_by_name_or_by_its_beginning():
    assert chosen_peers("") == list(ways.WAYS)
    assert chosen_peers("fishjax,torch-e") == ["torch-eager", "fishjax"]
    assert len(chosen_peers("torch")) == 6
    with pytest.raises(UsageError, match="unknown peer 'fishjx'; did you mean 'fishjax'"):
        chosen_peers("torch,fishjx")


def test_rounds_go_there_and_back():
    order = []

    @dataclasses.dataclass
    class Fake:
        way: ways.Way
        rounds: int
        rates: list

        def rate(self):
            order.append(self.way.name)
            if len(order) == 6:
                raise PeerError("broke down")
            return 1.0

    named = [dataclasses.replace(ways.WAYS["jax-loop"], name=name) for name in "abc"]
    racers = [Fake(way, 1 if way.name == "c" else 3, []) for way in named]
    broken = racer.run_rounds(racers, 3)
    assert "".join(order) == "abcbaab"
    assert broken == {"a": "broke down"}
    assert [len(each.rates) for each in racers] == [0, 3, 1]


@pytest.fixture(scope="module")
def found(quick_compiler) -> dict:
    """The whole benchmark by its processes, with few peers."""
    chosen = ["torch-processes", "jax-vmap", "fishjax"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", quick_compiler)
        return benchmark(["smoke"], chosen, RUNS, 1, sys.executable, scale=False)


@pytest.mark.slow
def test_the_object_has_its_keys_and_says_who_ran(found):
    assert set(found) == KEYS
    assert all(set(row) == ROW_KEYS for row in found["rows"])
    peers = {row["peer"] for row in found["rows"]}
    assert {"jax-vmap", "fishjax"} <= peers
    json.dumps(found, allow_nan=False)
    row = next(row for row in found["rows"] if row["peer"] == "fishjax")
    assert 0 < row["of_peak"] <= 1
    assert row["compile_s"]["cold"] > row["compile_s"]["cached"] > 0
    assert row["peak_rss_mb"] > 50
    assert row["gate_steps"] == GATE_STEPS
    slow = next(row for row in found["rows"] if row["peer"] == "jax-vmap")
    assert (slow["runs"], slow["rounds"], slow["gate_steps"]) == (2, 1, 3)
    assert set(found["geomean_over_naive_vmap"]) == {"fishjax"}
    assert found["probe_overhead"] is None


@pytest.mark.slow
def test_the_peers_beside_torch_are_compared_with_its_best(found):
    pytest.importorskip("torch", reason="the extra bench brings PyTorch")
    torch = [row for row in found["rows"] if row["peer"].startswith("torch")]
    assert [row["ratio_to_best_torch"]["value"] for row in torch] == [1.0]
    assert set(found["geomean_over_best_torch"]) == {"fishjax"}
    assert found["machine"]["torch"]["threads"] >= 1


@pytest.mark.slow
def test_the_tables_say_it_in_words(found):
    text = tables.report(found)
    assert "fishjax as shipped, probes off" in text
    assert "costs most" in text
    assert tables.readme_block(found).startswith("| way |")


def rated(workload_: str, peer: str, rates: list[float], over_torch: float | None = None) -> dict:
    ratio = over_torch and {"value": over_torch, "interval": None}
    speed = {"rates": rates, "run_steps_per_s": rates[0], "ratio_to_best_torch": ratio}
    return {"workload": workload_, "peer": peer, **speed}


def test_what_rows_say_together_is_of_peers_timed_on_every_workload():
    rows = [
        rated("T", "jax-vmap", [2.0]),
        rated("T", "fishjax", [8.0, 6.0, 4.0], 3.0),
        rated("T", "fishjax-probes", [4.0, 2.0, 4.0], 1.5),
        rated("T", "fishjax-xla", [1.0], 9.0),
        rated("S", "jax-vmap", [1.0]),
        rated("S", "fishjax", [9.0, 9.0, 9.0], 12.0),
        rated("S", "fishjax-probes", [1.0, 1.0, 1.0], None),
    ]
    assert findings.over_best_torch(rows) == {"fishjax": {"value": 6.0, "least": 3.0}}
    assert findings.over_naive_vmap(rows) == {
        "fishjax": {"value": pytest.approx(6.0), "least": 4.0},
        "fishjax-probes": {"value": pytest.approx(2**0.5), "least": 1.0},
    }
    cost = findings.probe_overhead(rows)
    assert {name: each["value"] for name, each in cost["workloads"].items()} == {"T": 2.0, "S": 9.0}
    assert cost["value"] == pytest.approx(18**0.5)
    assert findings.probe_overhead(rows[:2]) is None


@pytest.fixture
def course(job, tmp_path) -> Course:
    """One whose PyTorch lives in a Python that is not there."""
    return Course(job, tmp_path, {"backend": "cpu"}, str(tmp_path / "python"), 1, 0.01)


@pytest.mark.slow
def test_a_python_that_does_not_start_is_left_out_with_its_reason(course, found, monkeypatch):
    rows, left_out, about = heat.run(course, ["torch-eager"], print)
    assert (rows, about) == ([], {})
    assert [each["peer"] for each in left_out] == ["torch-eager"]
    assert not left_out[0]["failed_gate"]
    monkeypatch.setattr(sys, "executable", course.torch_python)
    _, alone, unreached = peaks.measure(course)
    assert alone == {}
    assert set(unreached) == {"torch peaks", "jax peaks", "fishjax peaks"}
    assert all("does not start" in said for said in [left_out[0]["reason"], *unreached.values()])
    shown = {**found["rows"][-1], "ratio_to_best_torch": None}
    text = tables.report({**found, "rows": [shown], "left_out": left_out})
    assert "Left out: torch-eager" in text


class Answering:
    """A peer's process that is `apart` from the reference, relative to it, after its first step."""

    def __init__(self, expected: np.ndarray, apart: float) -> None:
        self.losses = expected * np.where(np.arange(GATE_STEPS) == 0, 1.0, 1.0 + apart)
        self.closed = False

    def ask(self, do: str, **about) -> dict:
        return {"seconds": 0.01} if do == "run" else {"losses": self.losses.tolist()}

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("way", ["jax-loop", "jax-vmap"])
def test_a_peer_whose_losses_are_wrong_is_not_timed(way, course, monkeypatch):
    def started(way, course):
        return racer.Racer(way, remote, {}, RUNS, 1, 2.0, 1.0)

    monkeypatch.setattr(racer, "_started", started)
    remote = Answering(course.expected, 0.5 * GATE_RTOL)
    assert racer.qualify(ways.WAYS[way], course).gate_error == pytest.approx(0.5 * GATE_RTOL)
    assert not remote.closed
    for wrong in (2 * GATE_RTOL, np.nan):
        remote = Answering(course.expected, wrong)
        with pytest.raises(racer.GateError, match="off the float64 reference"):
            racer.qualify(ways.WAYS[way], course)
        assert remote.closed


def test_a_process_that_ends_says_what_it_said_last():
    code = "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"
    remote = Remote([sys.executable, "-c", code], {})
    with pytest.raises(PeerError, match="ended with 3: no such thing"):
        remote.receive()
    remote.close()


def test_the_torch_side_imports_neither_jax_nor_fishjax():
    torch_peers()
    code = (
        "import sys; import experiments.benchmark.torch_worker, experiments.benchmark.torch_study;"
        "print([name for name in sys.modules if name.split('.')[0] in ('jax', 'fishjax')])"
    )
    root = pathlib.Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


def test_the_study_in_torch_trains_the_studys_arms(tmp_path, capsys):
    torch_peers()
    from experiments.benchmark import torch_study

    scale = study.STUDY.scales["smoke"]
    short = dataclasses.replace(scale, settings={**scale.settings, "optim.epochs": 10})
    data, plan = study._handed(short, tmp_path)
    arms = json.loads(plan.read_text())["arms"]
    assert len(arms) == 12
    assert {arm["init"] for arm in arms} == {"he", "normal"}
    assert next(arm for arm in arms if arm["name"] == "leaky")["slope"] == 0.1
    torch_study.main(str(data), str(plan))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 13
    assert lines[0].startswith("arm | rate")
