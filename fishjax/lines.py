"""Loss barriers between the final networks of a study's arms, kept in its folder."""

import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from fishjax.barrier import Barrier, barrier, check_alike
from fishjax.config import Config
from fishjax.files import number, sealed, unsealed, write_json
from fishjax.metrics import BARRIER
from fishjax.study import Line
from fishjax.sweep import Cell
from fishjax.trained import restored
from fishjax.workplace import Stage, Workplace


def check_lines(lines: Iterable[Line], configs: Mapping[str, Config], classes: int) -> None:
    """Raises UsageError for a line between networks that cannot be mixed; configs: by arm."""
    for line in lines:
        check_alike(configs[line.arm], configs[line.start], classes)


def barriers(place: Workplace, stage: Stage, lines: Iterable[Line]) -> xr.DataArray:
    """The barrier in nats between each line's arm and the one it starts at, `(arm, seed, epoch)`.

    Of the final networks, at the last epoch of the line's arm, on its training subset; see
    `barrier.barrier`. What an earlier start has found is read back.
    """
    cells = {(cell.arm, cell.seed): cell for cell in stage.cells}
    seeds = sorted({cell.seed for cell in stage.cells})
    ends = {line: float(cells[line.arm, seeds[0]].config.optim.epochs) for line in lines}
    arms, epochs = [line.arm for line in ends], sorted(set(ends.values()))
    coords = {"arm": arms, "seed": seeds, "epoch": epochs}
    found = xr.DataArray(math.nan, coords, ("arm", "seed", "epoch"), name=BARRIER)
    for line, end in ends.items():
        for seed in seeds:
            height = _height(place, cells[line.arm, seed], cells[line.start, seed])
            found.loc[line.arm, seed, end] = height
    return found


def _height(place: Workplace, arm: Cell, start: Cell) -> float:
    file = _file(place, arm, start)
    folders = [place.sweep.cell(cell.folder) for cell in (arm, start)]
    networks = [folder.mark for folder in folders]
    kept = _kept(file, networks)
    if kept is None:
        end, origin = map(restored, folders)
        found = barrier(end, origin, *place.shown_in_training(arm))
        kept = {"networks": networks, **_plain(found)}
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, sealed(kept))
    return math.nan if kept["height"] is None else kept["height"]


def _file(place: Workplace, arm: Cell, start: Cell) -> pathlib.Path:
    """Named by both cells' folders."""
    (to, seed), (origin, _) = (cell.folder.split("/") for cell in (arm, start))
    return place.sweep.path / "lines" / f"{to}--{origin}" / f"{seed}.json"


def _kept(file: pathlib.Path, networks: list[str]) -> dict[str, Any] | None:
    """What an earlier start wrote; None where there is nothing whole, or of other networks."""
    try:
        kept = unsealed(file.read_bytes())
    except (OSError, ValueError):
        return None
    return kept if kept["networks"] == networks else None


def _plain(found: Barrier) -> dict[str, Any]:
    """The barrier as JSON values; what is not finite is None."""
    columns = {name: np.asarray(values).tolist() for name, values in found._asdict().items()}
    return {
        name: [number(x) for x in values] if isinstance(values, list) else number(values)
        for name, values in columns.items()
    }
