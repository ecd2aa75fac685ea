"""Strict JAX for every test: no silent promotion, no silent broadcasting, two CPU devices."""

import os
import pathlib
from collections.abc import Iterator

import jax
import pytest

from fishjax.engine import program
from tests.runs import QUICK

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)
CACHE = pathlib.Path(__file__).parent.parent / ".pytest_cache" / "jax"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="module")
def quick_programs() -> Iterator[None]:
    """The engine's programs compiled quickly, for tests of what is around them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "_options", lambda name: QUICK)
        yield


@pytest.fixture(scope="session")
def photographs() -> pathlib.Path:
    """The F4K photographs"""
    folder = os.environ.get("FISHJAX_F4K", "")
    if folder and pathlib.Path(folder, "index.csv").is_file():
        return pathlib.Path(folder)
    message = "set FISHJAX_F4K to a folder of Fish4Knowledge photographs with its index.csv"
    if os.environ.get("FISHJAX_REQUIRE_DATA") == "1":
        pytest.fail(message)
    pytest.skip(message)
