"""Folders of the user's own cache, whose contents are run and which nobody else may write to."""

import os
import pathlib
import stat


def private_folder(name: str) -> pathlib.Path | None:
    """The folder `fishjax/NAME` of the user's cache, made if need be; None where there can be none.

    It must belong to the user, who alone may write to it.
    """
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(base) / "fishjax" / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return None
    shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    mine = found.st_uid == os.getuid() and not shared and os.access(folder, os.W_OK)
    return folder if mine else None
