"""The kernels that programs can compute with on this machine, by name."""

from collections.abc import Mapping
from typing import Any

import jax

from fishjax.engine import native
from fishjax.engine.devices import cores
from fishjax.fields import UsageError, choose
from fishjax.nn.lowering import Block, Geometry, Kernels, Lowering
from fishjax.nn.lowerings import native_convolution, winograd
from fishjax.nn.lowerings.canonical import CANONICAL
from fishjax.nn.lowerings.closed_block import closed_block
from fishjax.nn.lowerings.grouped import GROUPED
from fishjax.nn.lowerings.native_block import native_block
from fishjax.nn.lowerings.packed import packed
from fishjax.nn.lowerings.patches import PATCHES
from fishjax.nn.lowerings.strips import STRIPS
from fishjax.nn.lowerings.unrolled import unrolled

Names = Mapping[str, Any]
"""Kernels as plain JSON values: `block`, and `convolution` by geometry, "" for all others."""

AUTO = "auto"
ENGINES: Mapping[str, Names] = {
    "xla": {"block": "closed", "convolution": {"": "canonical"}},
    "native": {"block": "native", "convolution": {"": "onednn"}},
    "grouped": {"block": "closed", "convolution": {"": "grouped"}},
    "unrolled": {"block": "closed", "convolution": {"": "unrolled"}},
    "patches": {"block": "closed", "convolution": {"": "patches"}},
}
_EVERYWHERE: Mapping[str, Lowering] = {
    "canonical": CANONICAL,
    "grouped": GROUPED,
    "unrolled": unrolled(GROUPED),
    "patches": PATCHES,
    "packed": packed(32),
    "strips": STRIPS,
    "winograd-xla": winograd.WINOGRAD,
}


def candidates() -> tuple[str, ...]:
    """The convolutions worth trying on this backend; the first is taken where none is measured."""
    if jax.default_backend() != "cpu":
        return ("grouped", "unrolled", "patches")
    without_onednn = ("canonical", "packed", "strips", "patches", "winograd-xla")
    tried = ("onednn", "canonical") if _has("onednn") else without_onednn
    return (*tried, *(("winograd",) if _has("winograd") else ()))


def computable(geometry: Geometry) -> tuple[str, ...]:
    """Those of the candidates that can compute a convolution of this geometry, and may be fast."""
    return tuple(name for name in candidates() if _worth_a_try(name, geometry))


def kernels(names: Names) -> Kernels:
    """The kernels of these names. Raises UsageError for one that this machine does not have."""
    named: Mapping[str, str] = names["convolution"]
    found = {text: lowering(name) for text, name in named.items()}

    def convolution(geometry: Geometry) -> Lowering:
        return found.get(str(geometry), found[""])

    return Kernels(convolution, _block(names["block"]))


def described(names: Names) -> str:
    """The kernels in words."""
    convolutions = ", ".join(sorted(set(names["convolution"].values())))
    return f"computing with {convolutions} convolutions and {names['block']} blocks"


def lowering(name: str) -> Lowering:
    """The convolution of this name. Raises UsageError where this machine does not have it."""
    if name in native_convolution.TARGETS:
        return native_convolution.native_convolution(name, _version(name), _threads())
    choose(name, _EVERYWHERE, "convolution")
    return _EVERYWHERE[name]


def fastest_block() -> str:
    """The fastest block that this machine has."""
    return "native" if _has("block") else "closed"


def _worth_a_try(name: str, geometry: Geometry) -> bool:
    if name in native_convolution.TARGETS:
        return native_convolution.computes(name, geometry)
    return name != "winograd-xla" or winograd.pays(geometry)


def _block(name: str) -> Block:
    choose(name, ("native", "closed"), "block")
    return native_block(_version("block"), _threads()) if name == "native" else closed_block


def _has(library: str) -> bool:
    return jax.default_backend() == "cpu" and library in native.load().loaded


def _version(library: str) -> str:
    if not _has(library):
        said = "; ".join(native.load().said) or f"the backend is {jax.default_backend()}"
        raise UsageError(f"this study computes with the {library} kernels, missing here: {said}")
    return native.load().loaded[library]


def _threads() -> int:
    """Threads of one device, so that all devices together use every core."""
    return max(1, cores() // jax.local_device_count())
