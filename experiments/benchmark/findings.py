"""What the rows of all workloads say together."""

from collections.abc import Sequence
from typing import Any

from experiments.benchmark.statistics import geometric_mean, paired_ratio
from experiments.benchmark.ways import NAIVE, PROBES, SHIPPED

Rows = Sequence[dict[str, Any]]


def over_best_torch(rows: Rows) -> dict[str, dict[str, float]]:
    """Of every fishjax peer timed on all workloads: the geometric mean of its ratios, the least."""
    found = {}
    for peer, own in _fishjax(rows).items():
        ratios = [row["ratio_to_best_torch"] for row in own]
        if all(ratios):
            values = [ratio["value"] for ratio in ratios]
            found[peer] = {"value": geometric_mean(values), "least": min(values)}
    return found


def over_naive_vmap(rows: Rows) -> dict[str, dict[str, float]]:
    """The same over `jax.vmap` of Flax's own convolution, where that was timed."""
    naive = {row["workload"]: row["run_steps_per_s"] for row in rows if row["peer"] == NAIVE}
    found = {}
    for peer, own in _fishjax(rows).items():
        if naive and all(row["workload"] in naive for row in own):
            values = [row["run_steps_per_s"] / naive[row["workload"]] for row in own]
            found[peer] = {"value": geometric_mean(values), "least": min(values)}
    return found


def probe_overhead(rows: Rows) -> dict[str, Any] | None:
    """Seconds of a step with all probes over one with none: geometric mean, and by workload."""
    by_peer = {(row["workload"], row["peer"]): row["rates"] for row in rows}
    workloads = {}
    for (workload, peer), rates in by_peer.items():
        if peer == PROBES and (workload, SHIPPED) in by_peer:
            ratio = paired_ratio(by_peer[workload, SHIPPED], rates)
            workloads[workload] = {"value": ratio.value, "interval": ratio.interval}
    if not workloads:
        return None
    values = [found["value"] for found in workloads.values()]
    return {"value": geometric_mean(values), "workloads": workloads}


def with_share_of_peak(rows: Rows, best_gflops: float) -> list[dict[str, Any]]:
    """The rows with `of_peak`, their GFLOP/s over the best that anything reached."""
    return [{**row, "of_peak": row["gflops"] / best_gflops} for row in rows]


def _fishjax(rows: Rows) -> dict[str, list[dict[str, Any]]]:
    """The rows of each fishjax peer that was timed on every workload."""
    workloads = {row["workload"] for row in rows}
    peers: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["peer"].startswith(SHIPPED):
            peers.setdefault(row["peer"], []).append(row)
    return {peer: own for peer, own in peers.items() if len(own) == len(workloads)}
