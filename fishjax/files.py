"""Files that are whole or not there: atomic writes, JSON, digests and seals, locks."""

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import pathlib
import secrets
from collections.abc import Iterator, Mapping
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

TEMPORARY = ".writing-"
"""How the names of files begin that are being written."""
_SEAL = "sha256"


def number(value: float) -> float | None:
    """`value` for JSON, which has neither NaN nor infinity."""
    return float(value) if math.isfinite(value) else None


def lock(file: IO[bytes], how: int) -> None:
    """Locks a file until it is closed; goes without where the file system has no locks."""
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        raise
    except OSError:
        pass


def write_json(path: pathlib.Path, value: Any) -> None:
    """Puts JSON in place by one rename, after it has reached the disk."""
    write_atomically(path, as_json(value))


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Readers see the old content or the new, never a part."""
    with _temporary(path) as temporary:
        temporary.write_bytes(content)
        _sync(temporary)
        os.replace(temporary, path)
    _sync_folder(path.parent)


def create(path: pathlib.Path, content: bytes) -> None:
    """Like `write_atomically`, but a FileExistsError where `path` is there already.

    Where the file system has no hard links, two first starts could overwrite each other's equal
    plans.
    """
    with _temporary(path) as temporary:
        temporary.write_bytes(content)
        _sync(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:
            os.replace(temporary, path)


def write_parquet(path: pathlib.Path, table: pa.Table) -> None:
    with _temporary(path) as temporary:
        pq.write_table(table, temporary)
        _sync(temporary)
        os.replace(temporary, path)


@contextlib.contextmanager
def _temporary(path: pathlib.Path) -> Iterator[pathlib.Path]:
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: pathlib.Path) -> None:
    """As far as the file system can: some shared ones only sync files."""
    try:
        _sync(path)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise


def sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """`value` and the sha256 of it all, by which `unsealed` knows it again."""
    return {**value, _SEAL: _digest(value)}


def unsealed(content: bytes) -> dict[str, Any]:
    """What was sealed, from its JSON; a ValueError where a part of it is no longer as it was."""
    found = json.loads(content)
    if not isinstance(found, dict) or found.pop(_SEAL, None) != _digest(found):
        raise ValueError("its seal does not fit")
    return found


def _digest(value: Mapping[str, Any]) -> str:
    """Of the JSON values, in whatever order."""
    plain = json.loads(as_json(value))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def as_json(value: Any, indent: int | None = 2) -> bytes:
    return (json.dumps(value, indent=indent, allow_nan=False) + "\n").encode()
