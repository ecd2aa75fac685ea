"""A run on disk: a directory of its own, committed by one rename.

It exists once its `DONE.json`, which names the sha256 of each of its files, is in place. That mark
is sealed: a byte that changes in it is seen.
"""

import json
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fishjax.fields import UsageError
from fishjax.files import as_json, sealed, sha256, unsealed, write_json, write_parquet

_CONFIG, _LOG, _DONE = "config.json", "metrics.jsonl", "DONE.json"


@dataclass(frozen=True)
class CellFolder:
    """The files of one cell: `config.json`, `metrics.jsonl`, `metrics.parquet`,
    `predictions.parquet`, where some are flipped `labels.parquet`, `params/` and, once all of them
    are whole, `DONE.json`. Whatever else lies there is not the cell's.
    """

    path: pathlib.Path

    @property
    def params(self) -> pathlib.Path:
        """Where the checkpoint of the final network goes."""
        return self.path / "params"

    def start(self, about: Mapping[str, Any]) -> None:
        """Makes the folder, writes `about` to `config.json`, drops an unfinished start's log."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / _CONFIG, about)
        (self.path / _LOG).write_bytes(b"")

    def about(self) -> dict[str, Any] | None:
        """What `start` was told, or None where it cannot be read."""
        try:
            told = json.loads((self.path / _CONFIG).read_bytes())
        except (OSError, ValueError):
            return None
        return told if isinstance(told, dict) and {"arm", "seed"} <= told.keys() else None

    def log(self, line: Mapping[str, Any]) -> None:
        """Appends one line to `metrics.jsonl`, to be read while the run goes on."""
        with open(self.path / _LOG, "ab") as file:
            file.write(as_json(line, indent=None))

    def commit(self, tables: Mapping[str, pa.Table], outcome: Mapping[str, Any]) -> None:
        """Writes the tables, then the commit mark with `outcome` and every file's sha256."""
        written = [self.path / _CONFIG, self.path / _LOG]
        for name, table in tables.items():
            written.append(self.path / f"{name}.parquet")
            write_parquet(written[-1], table)
        written += sorted(file for file in self.params.rglob("*") if file.is_file())
        files = {str(file.relative_to(self.path)): sha256(file) for file in written}
        write_json(self.path / _DONE, sealed({**outcome, "files": files}))

    @property
    def committed_ns(self) -> int:
        """When a committed cell was committed, by the file system's clock, in nanoseconds."""
        return (self.path / _DONE).stat().st_mtime_ns

    @property
    def mark(self) -> str:
        """The sha256 of a committed cell's `DONE.json`: another for everything else it may hold."""
        return sha256(self.path / _DONE)

    def outcome(self) -> dict[str, Any] | None:
        """What `DONE.json` says, or None where the cell is not committed or a file has changed.

        Raises UsageError where a file is there and cannot be read: training it again would lose it.
        """
        try:
            mark = (self.path / _DONE).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read: {error}") from None
        try:
            done = unsealed(mark)
            whole = all(sha256(self.path / name) == sha for name, sha in done["files"].items())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read: {error}") from None
        except ValueError:
            return None
        return done if whole else None

    def table(self, name: str) -> pa.Table:
        """A committed table: `metrics`, `predictions` or `labels`."""
        return pq.read_table(self.path / f"{name}.parquet")
