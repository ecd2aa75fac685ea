"""Which code ran: the git revision of the source tree, if it is one, and a digest of its text."""

import functools
import hashlib
import pathlib
import subprocess
from importlib import metadata

_SOURCE = pathlib.Path(__file__).parent
_COMPILERS = ("jax", "jaxlib")
_TEXTS = (".py", ".cc", ".h")


def revision() -> dict[str, str | bool | None]:
    """`revision` (a commit's hash) and `modified` (uncommitted work); None outside a repository.

    A repository that merely surrounds the installed package is not its own.
    """
    tracked = _git("ls-files", "--error-unmatch", pathlib.Path(__file__).name)
    head = _git("rev-parse", "HEAD") if tracked else None
    return {"revision": head, "modified": bool(_git("status", "--porcelain")) if head else None}


def trainer() -> dict[str, str]:
    """The code and the compiler that a trained network is from: `code`, `jax` and `jaxlib`."""
    return {"code": digest("."), **{name: metadata.version(name) for name in _COMPILERS}}


@functools.cache
def digest(folder: str) -> str:
    """sha256 of the text of every source file below a folder of the package, at the first call."""
    text = hashlib.sha256()
    for file in sorted((_SOURCE / folder).rglob("*")):
        if file.suffix in _TEXTS:
            text.update(str(file.relative_to(_SOURCE)).encode() + file.read_bytes())
    return text.hexdigest()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(_SOURCE), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
