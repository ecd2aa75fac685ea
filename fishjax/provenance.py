"""Which code ran: the git revision of the source tree, if it is one."""

import pathlib
import subprocess
from importlib import metadata

_SOURCE = pathlib.Path(__file__).parent


def revision() -> dict[str, str | bool | None]:
    """`revision` (a commit's hash) and `modified` (uncommitted work); None outside a repository.

    A repository that merely surrounds the installed package is not its own.
    """
    tracked = _git("ls-files", "--error-unmatch", pathlib.Path(__file__).name)
    head = _git("rev-parse", "HEAD") if tracked else None
    return {"revision": head, "modified": bool(_git("status", "--porcelain")) if head else None}


def trainer() -> dict[str, str | bool | None]:
    """What a trained network depends on beside its settings and the machine: code and compiler."""
    return {**revision(), "jaxlib": metadata.version("jaxlib")}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(_SOURCE), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
