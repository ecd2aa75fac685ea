"""A study on disk: the plan, sealed as a cell's mark is, its cells, and who may work on them."""

import contextlib
import fcntl
import json
import math
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from fishjax.cellfolder import CellFolder
from fishjax.fields import UsageError
from fishjax.files import TEMPORARY, as_json, create, lock, sealed, unsealed, write_json

PLAN, ENVIRONMENT = "sweep.json", "env.json"
TIMING, LOOKS = "timing.jsonl", "looks.jsonl"
SUMMARY, SEARCH = "summary.json", "search.json"
DECLARED = "declared"
"""The part of a plan that stays as the first start had it, though a later one may have another."""
_LOCK = ".lock-"


@dataclass(frozen=True)
class SweepFolder:
    """The directory of a study: its plan, its cells, and what is derived from them."""

    path: pathlib.Path

    def cell(self, folder: str) -> CellFolder:
        return CellFolder(self.path / "cells" / folder)

    def started(self) -> list[tuple[dict[str, Any], CellFolder]]:
        """Every cell that was ever started, with what its `config.json` says, in a fixed order."""
        cells = [CellFolder(path) for path in sorted((self.path / "cells").glob("*/seed=*"))]
        return [(about, cell) for cell in cells if (about := cell.about())]

    @property
    def planned(self) -> bool:
        """Whether a plan is pinned."""
        return (self.path / PLAN).exists()

    def plan(self) -> dict[str, Any]:
        """The pinned plan; a UsageError where there is none."""
        try:
            return unsealed((self.path / PLAN).read_bytes())
        except FileNotFoundError:
            raise UsageError(f"{self.path} holds no study (no {PLAN})") from None
        except OSError as error:
            raise UsageError(f"{self.path / PLAN} cannot be read: {error}") from None
        except ValueError as error:
            raise UsageError(f"{self.path / PLAN} is damaged: {error}") from None

    def claim(self, plan: Mapping[str, Any], growing: str) -> None:
        """Makes the folder, and checks what an earlier start pinned against as much of the plan.

        The list under `growing` may gain entries from one start to the next, and what stands under
        DECLARED is not compared; anything else that differs is a UsageError that names it, and so
        is a folder that cannot be written or that holds something else.
        """
        self._enter()
        if self.planned:
            pinned = self.plan()
            self._compare(plan, {name: pinned.get(name) for name in plan}, growing)

    def pin(self, plan: Mapping[str, Any], growing: str) -> dict[str, Any]:
        """Claims the folder and pins the whole plan, or checks that it is the one pinned before.

        Returns the plan in force. Raises what `claim` does.
        """
        self.claim(plan, growing)
        target = self.path / PLAN
        with self._one_by_one():
            if not self.planned:
                with contextlib.suppress(FileExistsError):
                    create(target, as_json(sealed(plan)))
            pinned = self.plan()
            self._compare(plan, pinned, growing)
            grown = sorted({*pinned.get(growing, ()), *plan[growing]})
            if grown != pinned.get(growing):
                pinned[growing] = grown
                write_json(target, sealed(pinned))
            return pinned

    @contextlib.contextmanager
    def alone(self, share: int, shares: int, seeds: Sequence[int]) -> Iterator[None]:
        """Keeps this share of the work from other processes; it ends with this one, however.

        seeds: what is divided; with others the same share would hold other cells. Raises UsageError
        where another process is at the share, or at one of another division, and what `claim` does
        of the folder.
        """
        self._enter()
        other = f"another process runs this in {self.path}"
        advice = "wait for it, or name another --out"
        with self._lock_file(f"{share}-of-{shares}") as own, self._lock_file("shares") as division:
            try:
                lock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{other}; {advice}") from None
            with self._one_by_one():
                agreed = _agree(division, as_json([shares, list(seeds)], indent=None))
            if not agreed:
                raise UsageError(f"{other} with other shares or seeds; {advice}")
            yield

    def _compare(self, plan: Mapping[str, Any], pinned: Mapping[str, Any], growing: str) -> None:
        """Raises UsageError for the first thing that differs."""
        plan, loose = json.loads(as_json(plan)), {growing: 0, DECLARED: 0}
        for name, ours, theirs in _differences("", {**plan, **loose}, {**pinned, **loose}):
            raise UsageError(
                f"{self.path} holds another study: its {name} is {json.dumps(theirs)}, "
                f"not {json.dumps(ours)}; name another --out"
            )

    def log_timing(self, line: Mapping[str, Any]) -> None:
        """Adds one start's seconds and run-steps to those of earlier starts."""
        self._log(TIMING, line)

    def timing(self) -> dict[str, float]:
        """The sum over all starts."""
        total: dict[str, float] = {}
        for line in self._logged(TIMING):
            if isinstance(line, dict):
                for name, value in line.items():
                    if isinstance(value, int | float) and math.isfinite(value):
                        total[name] = total.get(name, 0) + value
        return total

    def look(self, seeds: Sequence[int]) -> list[list[int]]:
        """Notes that what came of these seeds is looked at; returns the seeds of earlier looks."""
        looks: list[list[int]] = []
        for look in self._logged(LOOKS):
            looks += [look] if isinstance(look, list) and look not in looks else []
        if list(seeds) not in looks:
            self._log(LOOKS, list(seeds))
        return [look for look in looks if look != list(seeds)]

    def _log(self, name: str, entry: Any) -> None:
        """Adds a line of its own to a file, also after one that a full disk has cut short."""
        with open(self.path / name, "ab") as file:
            file.write(b"\n" + as_json(entry, indent=None))

    def _logged(self, name: str) -> Iterator[Any]:
        """Every whole line of a file."""
        with contextlib.suppress(FileNotFoundError):
            for line in (self.path / name).read_bytes().splitlines():
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    @contextlib.contextmanager
    def _one_by_one(self) -> Iterator[None]:
        """Lets one process at a time do what takes a moment."""
        with self._lock_file("plan") as file:
            lock(file, fcntl.LOCK_EX)
            yield

    def _lock_file(self, name: str) -> IO[bytes]:
        """Opened to be locked; a UsageError where it is somebody else's."""
        try:
            return open(self.path / f"{_LOCK}{name}", "a+b")
        except OSError as error:
            raise UsageError(f"cannot write to {error.filename}: {error.strerror}") from None

    def _enter(self) -> None:
        """Makes the folder; a UsageError where that fails or it holds something else."""
        self._make()
        if self._holds_something_else() and not self.planned:
            raise UsageError(f"{self.path} holds something else; name another --out")

    def _holds_something_else(self) -> bool:
        """Anything but what another start of this study may be writing at this moment."""
        return any(not file.name.startswith((TEMPORARY, _LOCK)) for file in self.path.iterdir())

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path, prefix=TEMPORARY):
                pass
        except OSError as error:
            raise UsageError(f"cannot write to {self.path}: {error.strerror}") from None


def _agree(division: IO[bytes], ours: bytes) -> bool:
    """Whether the processes at work divide it as `ours` says; the first of them writes that down.

    Each holds the file by a lock that it shares with the others.
    """
    try:
        lock(division, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock(division, fcntl.LOCK_SH)
        division.seek(0)
        return division.read() == ours
    division.truncate(0)
    division.write(ours)
    division.flush()
    lock(division, fcntl.LOCK_SH)
    return True


def _differences(name: str, ours: Any, theirs: Any) -> Iterator[tuple[str, Any, Any]]:
    """The dotted names at which two trees of JSON values differ, with both values."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({*ours, *theirs}):
            inner = f"{name}.{key}" if name else key
            yield from _differences(inner, ours.get(key), theirs.get(key))
    elif ours != theirs:
        yield name, ours, theirs


def concluded(file: pathlib.Path) -> dict[str, Any] | None:
    """A study's or a search's SUMMARY or SEARCH, None where there is none; UsageError where it is
    damaged.
    """
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None
    if not isinstance(found, dict) or "study" not in found:
        raise UsageError(f"{file} is damaged: it holds no study")
    return found
