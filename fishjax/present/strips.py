"""Every layer's units and gradients as lines of text: a strip over epochs, and where it ended."""

import numpy as np
import numpy.typing as npt
import xarray as xr
from rich.cells import cell_len, set_cell_size

from fishjax.present.layers import casualties, dead_percent, log_flow
from fishjax.present.wording import MISSING, Quantity, plain

STRIP = 14
LABEL = 10
LEVELS = "·▁▂▃▄▅▆▇█"
SHARE = Quantity("dead units", "%", decimals=0)
FLOW = Quantity("log₁₀ flow", decimals=2)


def layers(results: xr.Dataset, width: int) -> list[str]:
    """A block per arm with a row per layer, as many blocks side by side as `width` holds."""
    dead, flow = dead_percent(results), log_flow(results)
    blocks = []
    for name in results["arm"].values:
        heading = f"{plain(str(name))} {casualties(results, name)}".rstrip()
        blocks.append([heading, *_rows(dead.sel(arm=name), flow.sel(arm=name)), ""])
    wide = max(cell_len(line) for _, *rows in blocks for line in rows)
    across = max(1, (width + 1) // (wide + 3))
    lines = [
        f"Layers over {_span(dead)} epochs: dead units "
        f"({LEVELS[0]} none, {LEVELS[-1]} all; then at the end)",
        "  and log₁₀ of gradient norm over weight norm at the end",
    ]
    for start in range(0, len(blocks), across):
        for cells in zip(*blocks[start : start + across], strict=True):
            row = (set_cell_size(cell, wide) for cell in cells)
            lines.append("  " + "   ".join(row).rstrip())
    return [line.rstrip() for line in lines[:-1]]


def _span(values: xr.DataArray) -> str:
    """`30`, or `up to 30` where not every arm is as long."""
    known = values.notnull().any([dim for dim in values.dims if dim not in ("arm", "epoch")])
    epochs = values["epoch"].where(known, 0.0)
    ends = np.unique(epochs.max("epoch").values)
    return f"{'up to ' * (len(ends) > 1)}{ends[-1]:g}"


def _rows(dead: xr.DataArray, flow: xr.DataArray) -> list[str]:
    """A row per layer of one arm; `dead` and `flow` are `[epoch, layer]`."""
    names = [plain(str(name)) for name in dead["layer"].values]
    label = min(LABEL, max(map(cell_len, names)))
    dead, flow = dead.dropna("epoch", how="all"), flow.dropna("epoch", how="all")
    rows = []
    for index, name in enumerate(names):
        shares = dead.transpose("layer", "epoch").values[index]
        flows = flow.transpose("layer", "epoch").values[index]
        end = SHARE.with_unit(_last(SHARE, shares))
        strip = f"{_strip(shares):{STRIP}}"
        rows.append(f"{set_cell_size(name, label)} {strip} {end:>5} {_last(FLOW, flows):>6}")
    return rows


def _last(kind: Quantity, values: npt.NDArray[np.floating]) -> str:
    return kind.text(float(values[-1])) if len(values) else MISSING


def _strip(shares: npt.NDArray[np.floating]) -> str:
    """At most STRIP characters for per cents `[epoch]`; blank where not measured."""
    if not len(shares):
        return ""
    chosen = np.linspace(0, len(shares) - 1, min(STRIP, len(shares))).round().astype(int)
    steps = np.ceil(shares[chosen] / 100 * (len(LEVELS) - 1))
    return "".join(" " if np.isnan(step) else LEVELS[int(step)] for step in steps)
