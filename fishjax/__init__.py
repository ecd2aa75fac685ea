"""Why does my CNN not learn? Fast, paired ablations of fish-species classifiers in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

import fishjax.clock  # noqa: F401  (starts the clock before the heavy imports)

if TYPE_CHECKING:
    from fishjax.trained import Trained, load
    from fishjax.watching import Seen, watch

__all__ = ["Seen", "Trained", "load", "watch"]
_HOMES = {"Trained": "trained", "load": "trained", "Seen": "watching", "watch": "watching"}


def __getattr__(name: str) -> Any:
    """Public names on first use, so that a study's folder opens without JAX."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"fishjax.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fishjax' has no attribute {name!r}")
