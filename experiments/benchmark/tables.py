"""The benchmark's findings as tables, for the terminal and the README."""

from collections.abc import Mapping
from typing import Any

from fishjax.present.table import Column, Table

Found = Mapping[str, Any]
DASH = "–"


def speed_table(found: Found) -> Table:
    """A row per peer: run-steps per second of each workload, and over the best PyTorch way."""
    workloads = _workloads(found)
    columns = [Column("peer", "way")]
    for name in workloads:
        columns += [
            Column(f"rate_{name}", f"{name}, run-steps/s"),
            Column(f"over_{name}", "over best PyTorch"),
        ]
    rows = []
    for title, own in _peers(found).items():
        cells = [title]
        for name in workloads:
            cells += _speed(own[name]) if name in own else [DASH, DASH]
        rows.append(tuple(cells))
    caption = (
        f"Optimisation steps of single runs per second, {found['runs']} runs, median of "
        f"{found['rounds']} interleaved rounds; paired ratio to the best PyTorch way of the "
        "workload with its 95 % bootstrap interval. * one round of a few steps of a few runs."
    )
    return Table("benchmark_speed", caption, tuple(columns), tuple(rows))


def cost_table(found: Found) -> Table:
    """A row per workload and peer: share of the peak, compilation, memory."""
    columns = (
        Column("workload", "workload"),
        Column("peer", "way"),
        Column("gflops", "GFLOP/s"),
        Column("of_peak", "of peak, %"),
        Column("cold", "compile, s"),
        Column("cached", "cached, s"),
        Column("memory", "peak memory, MiB"),
    )
    rows = tuple(
        (
            row["workload"],
            row["title"],
            f"{row['gflops']:.1f}",
            f"{100 * row['of_peak']:.0f}",
            _seconds(row["compile_s"]["cold"]),
            _seconds(row["compile_s"]["cached"]),
            f"{row['peak_rss_mb']:.0f}",
        )
        for row in found["rows"]
    )
    peak = found["peak_gflops"]
    caption = (
        f"Of the peak: GFLOP/s over the best of this run, {peak['best']:.0f} ({peak['by']}). "
        "Compilation in a fresh process, with an empty cache and with a full one."
    )
    return Table("benchmark_cost", caption, columns, rows)


def layer_table(found: Found) -> Table:
    """A row per convolution of every workload: fishjax as shipped beside PyTorch."""
    columns = (
        Column("workload", "workload"),
        Column("layer", "convolution"),
        Column("fishjax", "fishjax, GFLOP/s"),
        Column("torch", "PyTorch, GFLOP/s"),
        Column("share", "share of time, %"),
    )
    rows = []
    for workload, layers in found["layers"].items():
        ours, theirs = layers.get("fishjax", []), layers.get("torch", [])
        total = sum(row["seconds"] for row in ours)
        for i, row in enumerate(ours):
            beside = f"{theirs[i]['gflops']:.0f}" if theirs else DASH
            share = f"{100 * row['seconds'] / total:.0f}"
            rows.append((workload, row["layer"], f"{row['gflops']:.0f}", beside, share))
    caption = "Each convolution alone with its gradients; share: of fishjax's convolutions."
    return Table("benchmark_layers", caption, columns, tuple(rows))


def scaling_table(found: Found) -> Table:
    """A row per workload and size of the sweep."""
    columns = (
        Column("workload", "workload"),
        Column("runs", "runs"),
        Column("rate", "run-steps/s"),
        Column("over", "over the smallest sweep"),
        Column("memory", "peak memory, MiB"),
    )
    rows = tuple(
        (
            row["workload"],
            row["runs"],
            f"{row['run_steps_per_s']:.0f}",
            _ratio(row["over_fewest"]),
            f"{row['peak_rss_mb']:.0f}",
        )
        for row in found["scaling"]
    )
    return Table("benchmark_scaling", "fishjax as shipped, by runs in the sweep.", columns, rows)


def headlines(found: Found) -> list[str]:
    """The figures that sum the tables up, a sentence each; who was left out, and why."""
    machine = found["machine"]
    took = "all but the study took" if "study" in found else "the command took"
    lines = [
        f"jax {machine['versions']['jax']} on Python {machine['python']}, {machine['cpus']} cores, "
        f"{found['rounds']} rounds; {took} {machine['seconds'] / 60:.0f} minutes."
    ]
    for peer, ratio in found["geomean_over_best_torch"].items():
        lines.append(
            f"{peer}: {ratio['value']:.2f} times the best PyTorch way in the geometric mean, "
            f"{ratio['least']:.2f} at least."
        )
    for peer, ratio in found["geomean_over_naive_vmap"].items():
        lines.append(f"{peer}: {ratio['value']:.0f} times jax.vmap over flax.linen.Conv in a scan.")
    if overhead := found["probe_overhead"]:
        lines.append(
            f"All per-layer probes at every step cost a factor of {overhead['value']:.3f}."
        )
    for workload, layers in found["layers"].items():
        if layer := layers["costliest"]:
            share = 100 * layer["share_of_convolutions"]
            lines.append(
                f"{workload}: the convolution {layer['layer']} costs most, {share:.0f} % of all "
                f"convolutions, at {layer['gflops']:.0f} GFLOP/s."
            )
    if study := found.get("study"):
        lines.append(
            f"The dying-ReLU study, cold, from command to table: {study['fishjax_s']:.0f} s; "
            f"written in PyTorch eager {study['torch_s']:.0f} s; {study['ratio']:.2f} of it."
        )
    lines += [
        f"Left out: {each['peer']} on {each['workload']}: {each['reason']}."
        for each in found["left_out"]
    ]
    return lines


def report(found: Found) -> str:
    """Everything, for the terminal."""
    makers = [speed_table, cost_table, layer_table]
    makers += [scaling_table] if found["scaling"] else []
    return "\n".join([*(make(found).write("md") for make in makers), *headlines(found)])


def readme_block(found: Found) -> str:
    """What `experiments.readme` puts into the README: the speeds, the headlines, sweeps."""
    tables = [speed_table(found)] + ([scaling_table(found)] if found["scaling"] else [])
    rows = [table.write("md").split("\n\n", 1)[1].strip() for table in tables]
    bullets = "\n".join(f"- {line}" for line in headlines(found))
    return "\n\n".join([rows[0], bullets, *rows[1:]])


def _workloads(found: Found) -> list[str]:
    return list(dict.fromkeys(row["workload"] for row in found["rows"]))


def _peers(found: Found) -> dict[str, dict[str, Mapping[str, Any]]]:
    """The rows by title and workload."""
    peers: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in found["rows"]:
        peers.setdefault(row["title"], {})[row["workload"]] = row
    return peers


def _speed(row: Mapping[str, Any]) -> list[str]:
    few = " *" if row["rounds"] < 2 else ""
    rate = row["run_steps_per_s"]
    return [
        f"{rate:.3g}{few}" if rate < 100 else f"{rate:.0f}{few}",
        _ratio(row["ratio_to_best_torch"]),
    ]


def _ratio(ratio: Mapping[str, Any] | None) -> str:
    if ratio is None:
        return DASH
    text = f"{ratio['value']:.2f}" if ratio["value"] >= 0.095 else f"{ratio['value']:.1g}"
    if not ratio["interval"]:
        return text
    low, high = ratio["interval"]
    return f"{text} [{low:.2f}, {high:.2f}]"


def _seconds(value: float | None) -> str:
    return DASH if value is None else f"{value:.1f}"
