"""What probes cost is the median of paired rounds, of a network that is named."""

import json
import time

import pytest

from experiments.benchmark.fishjax_peers import Packed
from experiments.probe_cost import __main__ as probe_cost
from experiments.timing import RUNS, Chunk

SECONDS = {"off": 0.02, "step": 0.03}


def test_the_cost_is_the_time_with_probes_over_that_without(monkeypatch, capsys):
    def sleeping(network: str, watch: str) -> Chunk:
        return Chunk(lambda: time.sleep(SECONDS[watch]), RUNS)

    monkeypatch.setattr(probe_cost, "_chunk", sleeping)
    with pytest.raises(SystemExit, match="0"):
        probe_cost.main("study,T", rounds=5, json_=True)
    found = json.loads(capsys.readouterr().out)
    assert [row["network"] for row in found["rows"]] == ["study", "T"]
    for row in found["rows"]:
        assert row["probe_overhead"] == pytest.approx(1.5, rel=0.2)
        assert row["run_steps_per_s"]["off"] == pytest.approx(RUNS / 0.02, rel=0.2)
    assert found["probe_overhead"] == pytest.approx(1.5, rel=0.2)


def test_the_two_programs_of_a_workload_differ_by_their_probes(monkeypatch):
    asked = []

    def packed(job, make, probes: bool) -> Packed:
        asked.append(probes)
        return Packed(job, make, probes)

    monkeypatch.setattr(probe_cost, "Packed", packed)
    off, step = (probe_cost._chunk("smoke", watch) for watch in ("off", "step"))
    assert asked == [False, True]
    assert off.run_steps == step.run_steps == RUNS * 2 * 2
    off.run()
    step.run()


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"networks": "smoky"}, "did you mean 'smoke'?"), ({"rounds": 0}, "--rounds 0: at least one")],
)
def test_a_wrong_setting_is_refused_before_anything_is_timed(capsys, settings, said):
    with pytest.raises(SystemExit, match="2"):
        probe_cost.main(**settings)
    assert said in capsys.readouterr().err
