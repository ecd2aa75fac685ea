"""Strict JAX for every test: no silent promotion, no silent broadcasting, two CPU devices.

XLA compiles the same HLO to plainer machine code, in less than half the time: compiling is most of
what tests do.
"""

import importlib.metadata
import os
import pathlib
import shutil

import pytest

SHIPPED = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
    "xla_cpu_parallel_codegen_split_count": 32,
}
QUICK = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
)
EMITTERS = {}
"""Those that are shipped: they decide what the compiled program holds, not only its code."""
if importlib.metadata.version("jaxlib").startswith("0.10."):
    EMITTERS["xla_cpu_use_fusion_emitters"] = True
    QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{QUICK} {os.environ.get('XLA_FLAGS', '')}"

import jax  # noqa: E402

from fishjax.engine import program  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)
CACHE = pathlib.Path(__file__).parent.parent / ".pytest_cache" / "jax"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture
def shipped_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's programs as they are shipped, for tests that compare bits."""
    options = program._options
    monkeypatch.setattr(program, "_options", lambda name: {**SHIPPED, **EMITTERS, **options(name)})


@pytest.fixture(scope="session")
def quick_compiler(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A C++ compiler, to be named in CXX, that does not optimise; "" where there is none."""
    found = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if found is None:
        return ""
    script = tmp_path_factory.mktemp("compiler") / "c++"
    script.write_text(f'#!/bin/sh\nexec {found} "$@" -O0\n')
    script.chmod(0o755)
    return str(script)


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
