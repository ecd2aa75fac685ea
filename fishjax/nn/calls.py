"""What happens where a network calls a layer: noted once, then tapped, nudged and masked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax

from fishjax.nn.axes import along_units
from fishjax.nn.model import Probe

Hook = Callable[[str, bool, Any, Any], tuple[jax.Array | None, Any]]
"""hook(place, norm, input, output) -> (what to tap or None, the output to go on with), after every
call of a module. place: its path; norm: whether it is a normalisation."""


class Hooked(NamedTuple):
    """A network of any kind, its parameters and other state still in their own tree.

    init(key, images) -> (params, rest). apply(params, rest, images, train, key, hook) ->
    (logits, tapped, sown, rest): tapped by place, sown by the name it was sown under.
    """

    init: Callable[..., tuple[Any, Any]]
    apply: Callable[..., tuple[jax.Array, dict, dict, Any]]


@dataclass
class Trail:
    """The calls of a pass, in the order they ended."""

    calls: list[tuple[str, bool, Any, Any]] = field(default_factory=list)

    def __call__(self, place: str, norm: bool, x: Any, out: Any) -> tuple[Any, Any]:
        """Notes the call, and taps whatever has units."""
        if not isinstance(out, jax.Array) or out.ndim < 2:
            return None, out
        self.calls.append((place, norm, x, out))
        return out, out

    def sites(self, layers: tuple[str, ...]) -> dict[str, str]:
        """Where each layer's pre-activation is: its own place, or that of the norm that it feeds.

        Layers in the order of their first call.
        """
        found: dict[str, str] = {}
        made: list[tuple[Any, str]] = []
        for place, norm, x, out in self.calls:
            if place in layers and place not in found:
                found[place] = place
                made.append((out, place))
            elif norm:
                found |= {layer: place for before, layer in made if before is x}
        return found


@dataclass
class Touch:
    """A `Probe` at work: the first call at each site is nudged, tapped and masked."""

    probe: Probe
    layers: Mapping[str, str]
    done: set[str] = field(default_factory=set)

    def __call__(self, place: str, norm: bool, x: Any, out: Any) -> tuple[Any, Any]:
        """The tap is taken after the nudge and before the mask."""
        layer = self.layers.get(place)
        if layer is None or layer in self.done:
            return None, out
        self.done.add(layer)
        if layer in self.probe.nudge:
            out = out + self.probe.nudge[layer]
        mask = self.probe.mask.get(layer)
        return out, out if mask is None else out * along_units(mask, out)
