"""The package's own CPU kernels: compiled on this machine at first use, kept, and told to XLA."""

import ctypes
import functools
import hashlib
import importlib.resources
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata

import jax

from fishjax.engine.devices import cores, processor
from fishjax.engine.folders import cache_folder, private
from fishjax.nn.lowerings import native_block, native_convolution

_COMPILERS = ("c++", "g++", "clang++")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")
_PATIENCE_S = 300


@dataclass(frozen=True)
class Library:
    """A C++ source of the package. targets: its handlers; includes: files that lie beside it;
    header: what it needs beside XLA's, whose `version` macros tell which it is; links: what it is
    linked with.
    """

    name: str
    targets: tuple[str, ...]
    includes: tuple[str, ...] = ()
    header: str = ""
    version: tuple[str, ...] = ()
    links: tuple[str, ...] = ()

    @property
    def files(self) -> dict[str, bytes]:
        """The texts by name, its own first."""
        folder = importlib.resources.files("fishjax.engine") / "sources"
        return {name: (folder / name).read_bytes() for name in (f"{self.name}.cc", *self.includes)}


LIBRARIES = (
    Library("block", native_block.TARGETS, ("channels.h",)),
    Library("winograd", native_convolution.TARGETS["winograd"], ("tiles.h",)),
    Library(
        "onednn",
        native_convolution.TARGETS["onednn"],
        header="dnnl_version.h",
        version=("DNNL_VERSION_MAJOR", "DNNL_VERSION_MINOR", "DNNL_VERSION_PATCH"),
        links=("-ldnnl",),
    ),
)


@dataclass(frozen=True)
class Native:
    """The version of each library that is loaded, and what there is to say of them, a line each.

    XLA knows a handler by its name and the version, so that no program that it kept can meet
    another version's.
    """

    loaded: Mapping[str, str]
    said: tuple[str, ...]


class UnavailableError(Exception):
    """A library that cannot be had on this machine, and why."""


@functools.cache
def load() -> Native:
    """Loads and registers every library, once a process; what cannot be had is left out.

    Those that are not kept are compiled side by side.
    """
    loaded, said = {}, []
    with ThreadPoolExecutor(min(len(LIBRARIES), cores()), "compile") as threads:
        building = {library: threads.submit(_built, library) for library in LIBRARIES}
    for library, built in building.items():
        try:
            path, built_s = built.result()
            _register(library, path)
        except (UnavailableError, OSError) as reason:
            if str(reason) not in said:
                said.append(str(reason))
            continue
        loaded[library.name] = _version_of(path)
        if built_s:
            said.append(f"compiled the {library.name} kernels in {built_s:.0f} s, kept in {path}")
    return Native(loaded, tuple(said))


def _built(library: Library) -> tuple[pathlib.Path, float]:
    """The compiled library, and the seconds that compiling it took; 0 where it was kept."""
    compiler = _compiler()
    command = [compiler, *_FLAGS, "-isystem", jax.ffi.include_dir()]
    folder = private(cache_folder("native"))
    if folder is None:
        raise UnavailableError("no private cache folder for compiled kernels: XLA's own are used")
    path = folder / f"{library.name}-{_key(library, command)}.so"
    if _is_whole(path):
        return path, 0.0
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder) as work:
        source, made = pathlib.Path(work, f"{library.name}.cc"), pathlib.Path(work, "made.so")
        for name, text in library.files.items():
            pathlib.Path(work, name).write_bytes(text)
        _run([*command, str(source), "-o", str(made), *library.links], library)
        with made.open("r+b") as file:
            file.write(hashlib.sha256(file.read()).digest())
        os.replace(made, path)
    return path, time.monotonic() - start


def _compiler() -> str:
    """The system's C++ compiler, or the one that CXX names."""
    for name in filter(None, (os.environ.get("CXX"), *_COMPILERS)):
        if found := shutil.which(name):
            return found
    raise UnavailableError(
        "no C++ compiler: with one and libdnnl-dev (or its like) training is 2 to 3 times as fast"
    )


def _key(library: Library, command: list[str]) -> str:
    """Of everything that the compiled library depends on."""
    parts = [
        *library.files.values(),
        " ".join(command).encode(),
        _run([command[0], "--version"], library),
        _version(library, command[0]).encode(),
        metadata.version("jaxlib").encode(),
        processor().encode(),
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _version(library: Library, compiler: str) -> str:
    """The version of the header that a library needs; empty where it needs none."""
    if not library.header:
        return ""
    asked = f"#include <{library.header}>\nversion {' '.join(library.version)}\n"
    try:
        found = subprocess.run(
            [compiler, "-E", "-P", "-x", "c++", "-"],
            input=asked.encode(),
            capture_output=True,
            check=True,
            timeout=_PATIENCE_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(
            f"no {library.name}: with libdnnl-dev (or its like) convolutions run faster"
        ) from error
    return found.stdout.decode().strip().splitlines()[-1]


def _run(command: list[str], library: Library) -> bytes:
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=_PATIENCE_S)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
        raise UnavailableError(f"{library.name} kernels do not compile: {last}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"{library.name} kernels do not compile: {error}") from error
    return done.stdout


def _register(library: Library, path: pathlib.Path) -> None:
    """Tells XLA of the handlers. The library stays loaded for the life of the process."""
    try:
        handlers = ctypes.CDLL(str(path))
    except OSError as error:
        raise UnavailableError(f"{library.name} kernels do not load: {error}") from error
    for target in library.targets:
        capsule = jax.ffi.pycapsule(getattr(handlers, target))
        jax.ffi.register_ffi_target(f"{target}_{_version_of(path)}", capsule, platform="cpu")


def _version_of(path: pathlib.Path) -> str:
    return path.stem.partition("-")[2]


def _is_whole(path: pathlib.Path) -> bool:
    """Whether a kept library is as it was made: its last 32 bytes are the digest of the others."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content[:-32]).digest() == content[-32:]
