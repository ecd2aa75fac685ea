"""Which code ran: the git revision of the source tree, if it is one."""

import pathlib
import subprocess

_SOURCE = pathlib.Path(__file__).parent


def revision() -> dict[str, str | bool | None]:
    """`revision` (a commit's hash, None outside a repository) and `modified` (uncommitted work)."""
    head = _git("rev-parse", "HEAD")
    return {"revision": head, "modified": bool(_git("status", "--porcelain")) if head else None}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(_SOURCE), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
