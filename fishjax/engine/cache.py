"""The persistent compilation cache: private to the user, and no entry is trusted unseen.

What lies in it is run. JAX takes an entry as it finds it: one that cannot be unpacked is warned of
at every start and never replaced, one that can is run, whatever program it came from. Here every
entry is sealed by the sha256 of its name and content once it is written, and what does not agree
with its seal is deleted before JAX starts: it costs a warning and a compilation.
"""

import atexit
import contextlib
import hashlib
import pathlib
import time
import warnings

import jax
from jax._src import compilation_cache

from fishjax.engine.folders import private
from fishjax.files import write_atomically

_ENTRY, _SEAL = "-cache", "-seal"
_GRACE_S = 600.0
"""How long another process may take from writing an entry to sealing it."""
_KEPT_S = 30 * 86_400.0
"""The age from which an entry is deleted, so that the directory does not grow without end."""
_SETTLED_S = 1.0
"""The age at which an entry is whole: until then a compilation beside this may be writing it."""

_in_use: dict[pathlib.Path, float] = {}
"""The directory in use and the time of the start, which sealed nothing older."""


def enable(folder: pathlib.Path | None) -> None:
    """Makes JAX keep every compiled program in `folder`, made where it is missing.

    Goes without where it is not `private`.
    """
    folder = private(folder)
    if folder is None:
        return
    _drop_old(folder)
    if damaged := _drop_damaged(folder):
        warnings.warn(
            f"{damaged} damaged or unfinished entries in {folder} were deleted and are compiled "
            "again",
            RuntimeWarning,
            stacklevel=3,
        )
    _in_use[folder] = time.time()
    atexit.register(seal, settled_s=0.0)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def seal(settled_s: float = _SETTLED_S) -> None:
    """Seals what was written to the cache since this process started, and not just now.

    What a full disk cut off is not sealed, and where it leaves no room for a seal there is none.

    settled_s: the least age of what is sealed; 0 where nothing compiles any more.
    """
    newest = time.time() - settled_s
    for folder, start in _in_use.items():
        for entry in folder.glob(f"*{_ENTRY}"):
            mark = _mark(entry)
            with contextlib.suppress(OSError):
                due = not mark.exists() and start <= entry.stat().st_mtime <= newest
                if due and _unpacks(entry):
                    write_atomically(mark, _sum(entry).encode())


def _drop_old(folder: pathlib.Path) -> None:
    """Deletes the entries that were made long ago, with their seals."""
    for entry in folder.glob(f"*{_ENTRY}"):
        with contextlib.suppress(OSError):
            if time.time() - entry.stat().st_mtime > _KEPT_S:
                entry.unlink()
                _mark(entry).unlink(missing_ok=True)


def _drop_damaged(folder: pathlib.Path) -> int:
    """Deletes the entries that disagree with their seal, have none for long or cannot be read, and
    counts them.

    Another process may delete them at the same time.
    """
    count = 0
    for entry in folder.glob(f"*{_ENTRY}"):
        mark = _mark(entry)
        with contextlib.suppress(OSError):
            if not _sound(entry, mark):
                entry.unlink()
                mark.unlink(missing_ok=True)
                count += 1
    return count


def _sound(entry: pathlib.Path, mark: pathlib.Path) -> bool:
    """Whether an entry agrees with its seal, or is so new that it may have none yet."""
    try:
        if mark.exists():
            return mark.read_bytes() == _sum(entry).encode()
        return time.time() - entry.stat().st_mtime <= _GRACE_S
    except FileNotFoundError:
        raise
    except OSError:
        return False


def _unpacks(entry: pathlib.Path) -> bool:
    """Whether an entry is whole, by the check of the format that JAX packs it in."""
    try:
        compilation_cache.decompress_executable(entry.read_bytes())
    except OSError:
        raise
    except Exception:  # zlib's error, or that of zstandard or compression.zstd, whichever JAX uses
        return False
    return True


def _mark(entry: pathlib.Path) -> pathlib.Path:
    return entry.with_name(entry.name.removesuffix(_ENTRY) + _SEAL)


def _sum(entry: pathlib.Path) -> str:
    return hashlib.sha256(entry.name.encode() + entry.read_bytes()).hexdigest()
