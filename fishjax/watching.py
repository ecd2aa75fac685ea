"""What a training loop of the user's own shows: `fishjax.watch` inside its jitted step."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fishjax.fields import UsageError, choose
from fishjax.measure.activations import saturated_share
from fishjax.measure.flow import along_depth, flow, relative
from fishjax.measure.units import silent_share
from fishjax.nn.layout import Layout, layout, path_of
from fishjax.sections import Model
from fishjax.setup import choices

_COLUMNS = (
    *("gradient_norm", "weight_norm", "flow", "update_ratio"),
    *("silent_share", "saturated_share"),
)


@dataclasses.dataclass(frozen=True)
class Seen:
    """The statistics of one step, or of many if a loop stacked them: a tree of arrays.

    layers: the names that `flow` `[..., layer]` is over, see `measure.flow.relative`. depth: the
    flow along those layers, see `measure.flow.along_depth`. taps: the names that `units`
    `[..., tap]` is over: the `silent_share` of units that are 0 on the whole minibatch, and the
    `saturated_share` of entries where the function is flat, see `measure.activations`.
    `str()` is a table of the last step.
    """

    layers: tuple[str, ...]
    taps: tuple[str, ...]
    flow: dict[str, jax.Array]
    depth: dict[str, jax.Array]
    units: dict[str, jax.Array]

    def __str__(self) -> str:
        by_layer = _table("layer", self.layers, self.flow)
        by_tap = _table("activation", self.taps, self.units) if self.taps else []
        along = [f"{name} {_last(value, 0):.3g}" for name, value in self.depth.items()]
        return "\n".join([*by_layer, *by_tap, "  ".join(along)])


jax.tree_util.register_dataclass(Seen, ["flow", "depth", "units"], ["layers", "taps"])


def watch(
    params: Any,
    grads: Any,
    updates: Any = None,
    activations: Any = None,
    *,
    layers: Sequence[str] | None = None,
    activation: str = "relu",
) -> Seen:
    """Per-layer gradient flow and silent units of one step, for any Flax or plain-JAX loop.

    params, grads, updates: trees of one shape (dictionaries, `nnx.State`, lists, dataclasses);
    updates are what is added to params. activations: any tree of `[batch, ..., unit]` as the
    function `activation`, a choice of `model.activation`, gave them. layers: those to watch by
    their tree path, input first; without it every layer with a kernel, sorted by name.

    It is pure, to be called inside the jitted step, and leaves the step's own numbers as they are:
    all is read behind a barrier. Raises UsageError for an unknown layer or activation, with the
    nearest name, and for trees that differ.
    """
    choose(activation, choices(Model, "activation"), "activation")
    plan = layout(params)
    named = tuple(choose(layer, plan.layers, "layer") for layer in layers or plan.layers)
    if not named:
        raise UsageError("params holds no kernel, an array of two axes or more")
    tapped = jax.tree_util.tree_flatten_with_path(activations)[0]
    params, grads, updates, taps = lax.optimization_barrier(
        (params, grads, updates, [h for _, h in tapped])
    )
    moved = jax.tree.map(jnp.zeros_like, params) if updates is None else updates
    each = plan.by_layer(params), _by_layer("grads", grads, plan), _by_layer("updates", moved, plan)
    seen = relative(flow(*each, named))
    if updates is None:
        del seen["update_ratio"]
    return Seen(
        layers=named,
        taps=_names([path_of(path) for path, _ in tapped]),
        flow=seen,
        depth=along_depth(seen["flow"]),
        units=_units(taps, activation),
    )


def _by_layer(name: str, tree: Any, plan: Layout) -> dict[str, dict[str, Any]]:
    found = layout(tree)
    if found.places != plan.places:
        raise UsageError(f"{name} is another tree than params: {found.layers}, not {plan.layers}")
    return found.by_layer(tree)


def _units(taps: Sequence[jax.Array], activation: str) -> dict[str, jax.Array]:
    if not taps:
        return {}
    return {
        "silent_share": jnp.stack([silent_share(h) for h in taps]),
        "saturated_share": jnp.stack([saturated_share(h, activation) for h in taps]),
    }


def _names(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The names of activations; what Flax's `intermediates` adds to a path is left out."""
    names = []
    for path in paths:
        alone = sum(other[:-1] == path[:-1] for other in paths) == 1
        kept = path[:-1] if len(path) > 1 and path[-1] == "0" and alone else path
        names.append("/".join(kept[:-1] if len(kept) > 1 and kept[-1] == "__call__" else kept))
    return tuple(names)


def _table(head: str, names: Sequence[str], columns: Mapping[str, jax.Array]) -> list[str]:
    """Rows of a name and its numbers, under a line of headings."""
    shown = [column for column in _COLUMNS if column in columns]
    rows = [[head, *shown]]
    for i, name in enumerate(names):
        rows.append([name, *(f"{_last(columns[column])[i]:.3g}" for column in shown)])
    width = max(12, *(len(row[0]) for row in rows))
    return [row[0].ljust(width) + "".join(cell.rjust(16) for cell in row[1:]) for row in rows]


def _last(values: jax.Array, axes: int = 1) -> np.ndarray:
    """The values of the last step, where a loop stacked the steps in front."""
    return np.asarray(values).reshape(-1, *np.shape(values)[np.ndim(values) - axes :])[-1]
