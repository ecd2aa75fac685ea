"""What some tests need of the machine."""

import os

import pytest

from fishjax.engine import native


def need(library: str) -> None:
    """Skips where the machine has no compiler or no oneDNN; CI must have both."""
    if library not in native.load().loaded:
        reason = "; ".join(native.load().said)
        required = os.environ.get("FISHJAX_REQUIRE_NATIVE") == "1"
        pytest.fail(reason) if required else pytest.skip(reason)
