"""Folders of the user's own cache, whose contents are run and which nobody else may write to."""

import os
import pathlib
import stat
import warnings


def cache_folder(name: str) -> pathlib.Path | None:
    """Where the user's cache keeps `name`; None for a user who has no home."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    except RuntimeError:
        return None
    return pathlib.Path(base) / "fishjax" / name


def private(folder: pathlib.Path | None) -> pathlib.Path | None:
    """The folder, made if need be; None where it cannot be made or written, or where there is none.

    None with a warning where it is not the user's own or others may write to it.
    """
    if folder is None:
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return None
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        warnings.warn(
            f"{folder} belongs to someone else or can be written by others: nothing is kept there",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    return folder if os.access(folder, os.W_OK) else None
