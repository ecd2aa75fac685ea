"""A small study's results and summary, made up, for the tests of what people see."""

import numpy as np
import xarray as xr

HOSTILE = (
    "<script>alert(1)</script>",
    r"\write18{rm -rf /}",
    "=cmd()|'x'!A1",
    "a|b",
    "two\nlines",
    "$x_1$ {50%} ~^ & #1",
    "[opt]",
    "*star_",
    "_hidden",
    "鱼 Böse ± −1 …",
    "\x1b[31mred\u202e",
)


def made_up_results(arms=("relu", "leaky"), seeds=4, epochs=5, layers=3) -> xr.Dataset:
    """Curves that rise and layers that die, no two runs the same; nothing diverged."""
    rng = np.random.default_rng(0)
    time = np.linspace(0, 1, epochs)
    shape = (len(arms), seeds, epochs)
    accuracy = 0.2 + 0.6 * time + rng.uniform(0, 0.05, shape)
    dead = np.clip(
        np.outer(time, np.linspace(1, 0.2, layers)) + rng.uniform(0, 0.1, (*shape, layers)), 0, 1
    )
    dead[..., -1] = np.nan
    run, unit = ("arm", "seed", "epoch"), ("arm", "seed", "epoch", "layer")
    return xr.Dataset(
        {
            "val_accuracy": (run, accuracy),
            "train_loss": (run, 2 - time - rng.uniform(0, 0.1, shape)),
            "dead_share": (unit, dead),
            "flow": (unit, 10.0 ** -rng.uniform(1, 3, (*shape, layers))),
            "diverged": (("arm", "seed"), np.zeros(shape[:2], bool)),
        },
        coords={
            "arm": list(arms),
            "seed": range(seeds),
            "epoch": 5.0 * np.arange(epochs),
            "layer": [f"conv{i + 1}" for i in range(layers - 1)] + ["logits"],
        },
    )


def diverge(results: xr.Dataset, arm: str, seeds: list[int]) -> xr.Dataset:
    """The results with some runs of an arm diverged: NaN from the second evaluation on."""
    lost = (results["arm"] == arm) & results["seed"].isin(seeds)
    gone = lost & (results["epoch"] > 0)
    return results.where(~gone).assign(diverged=results["diverged"] | lost)


def effect(arm="leaky", control="relu", **changes):
    """What `evidence` says of one contrast."""
    return {
        "metric": "test_accuracy",
        "reading": "test_accuracy",
        "arm": arm,
        "control": control,
        "direction": 1,
        "delta": 0.02,
        "effect": 0.123456789,
        "ci": [0.098, 0.149],
        "p": 0.0078125,
        "test": "sign-flip",
        "diverged_pairs": 0,
    } | changes


def required(expects="moves", standing="met", *sides, **changes):
    """What `evidence` says of one requirement."""
    stands = {"expects": expects, "standing": standing, "moved": standing == "met"}
    return effect(*sides, **changes) | stands


def claim(**changes):
    return {
        **effect(),
        "id": "3.3",
        "part": "",
        "text": "Leaky ReLU keeps the gradient and repairs it",
        "kind": "directional",
        "verdict": "supported",
        "p_holm": 0.0234375,
        "n": 8,
        "m": 3,
        "mechanism": None,
        "seeds_needed": None,
        "note": "",
    } | changes


def placebo(**changes):
    return {
        "id": "another order",
        "text": "the same images in another order",
        **effect("other order", "relu", effect=0.004, ci=[-0.01, 0.018]),
        "n": 8,
        "within_delta": True,
        "beyond_delta": False,
        "note": "",
    } | changes


def scenario(**changes):
    return {
        "id": "S3",
        "text": "no gain in accuracy after epoch 50",
        "target": {
            "gain": {
                "seed_figure": "no gain after epoch 50",
                "reading": "test_accuracy, gain since epoch 50",
                "arm": "relu",
                "control": 0.0,
                "low": None,
                "high": 0.01,
            }
        },
        "measured": {
            "gain": {"n": 8, "mean": 0.003, "sd": 0.01, "ci": [-0.002, 0.008], "within": True}
        },
        "reproduced": True,
    } | changes


def arm(name, metrics=None, **changes):
    found = {"n": 8, "mean": 0.71234, "sd": 0.02, "ci": [0.691, 0.733]}
    return {
        "name": name,
        "overrides": {"hyper.lr": 0.1, "model.widths": [8, 16]},
        "n": 8,
        "n_diverged": 0,
        "metrics": {"test_accuracy": found} if metrics is None else metrics,
    } | changes


def made_up_summary(**changes):
    return {
        "schema": 1,
        "study": "dying_relu",
        "data": {"spec": "reef", "hash": "0123456789abcdef"},
        "seeds": list(range(8)),
        "arms": [arm("relu"), arm("leaky")],
        "scenarios": [scenario()],
        "claims": [claim()],
        "placebos": [placebo()],
        "timing": {"compile_s": 12.0, "run_s": 95.0, "total_s": 121.0, "run_steps_per_s": 1297.0},
    } | changes
