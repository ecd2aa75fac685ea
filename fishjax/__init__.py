"""Why does my CNN not learn? Fast, paired ablations of fish-species classifiers in JAX."""

from typing import TYPE_CHECKING, Any

import fishjax.clock  # noqa: F401  (starts the clock before the heavy imports)

if TYPE_CHECKING:
    from fishjax.trained import Trained, load

__all__ = ["Trained", "load"]


def __getattr__(name: str) -> Any:
    """Public names on first use, so that a study's folder opens without JAX."""
    if name in __all__:
        from fishjax import trained

        return getattr(trained, name)
    raise AttributeError(f"module 'fishjax' has no attribute {name!r}")
