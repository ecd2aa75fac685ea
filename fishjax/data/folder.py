"""The user's photographs: a sub-folder per species, perhaps an `index.csv` that names groups."""

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fishjax.data.dataset import DataError, Dataset
from fishjax.data.photographs import ENDINGS, decode_all, printable
from fishjax.fields import nearest

_UNREAD = (".bmp", ".gif", ".heic", ".heif", ".tif", ".tiff", ".webp", ".jp2", ".avif")


def read_folder(path: str, image_size: int) -> Dataset:
    """The photographs below `path`, in byte order of their names; no fixed test set.

    A species is a sub-folder, its photographs lie directly in it and end in .png, .jpg or .jpeg.
    Hidden names and files of other kinds are passed over, except that a picture of a kind fishjax
    does not read, a photograph outside a species and a folder in a species' folder are refused.

    `index.csv`, if there, has a header with `file` and `group`, and perhaps `species`: `file` is
    `sub-folder/name`, or the name alone where `species` holds the sub-folder. It lists every
    photograph once. An empty group, like every photograph without an index, stands for itself.

    Raises DataError for a folder that is missing, empty or of one species, a species without
    photographs, an index that does not fit, and whatever `photographs.decode` refuses.
    """
    root = open_folder(path)
    folders = subfolders(root)
    if len(folders) < 2:
        found = ", ".join(printable(folder.name) for folder in folders) or "none"
        raise DataError(
            f"{printable(root)} needs a sub-folder for each of 2 or more species: {found}"
        )
    stray = photographs(root)
    if stray:
        raise DataError(f"{printable(stray[0])} lies in no species' folder")
    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        found = _of_species(folder)
        files += found
        labels += [label] * len(found)
    index = root / "index.csv"
    return Dataset(
        spec=f"folder:{path}",
        images=decode_all(files, root, image_size),
        labels=np.array(labels, np.int32),
        groups=_indexed(index, files) if os.path.lexists(index) else enumerated(range(len(files))),
        species=tuple(printable(folder.name) for folder in folders),
        fixed_test=np.zeros(len(files), bool),
    )


def open_folder(path: str) -> Path:
    """`path` with `~` expanded; DataError, with the nearest name beside it, if it is no folder."""
    try:
        folder = Path(path).expanduser()
        if folder.is_dir():
            return folder
    except (OSError, RuntimeError) as error:
        raise DataError(f"{printable(Path(path))} cannot be opened: {error}") from None
    if folder.exists():
        raise DataError(f"{printable(folder)} is a file; a folder is needed")
    if not folder.parent.is_dir():
        raise DataError(f"no folder {printable(folder)}: {printable(folder.parent)} is missing too")
    beside = (printable(sibling.name) for sibling in subfolders(folder.parent))
    raise DataError(f"no folder {printable(folder)}{nearest(folder.name, beside)}")


def subfolders(folder: Path) -> list[Path]:
    """The sub-folders that are not hidden, in byte order of their names."""
    return [entry for entry in _entries(folder) if is_folder(entry)]


def is_folder(path: Path) -> bool:
    """Whether it is a folder, links followed; DataError where that cannot be seen."""
    try:
        return path.is_dir()
    except OSError as error:
        raise DataError(f"{printable(path)} cannot be opened: {error.strerror}") from None


def photographs(folder: Path) -> list[Path]:
    """The names in `folder` that end as photographs do, in byte order.

    Raises DataError for a picture of a kind that is not read.
    """
    found = []
    for entry in _entries(folder):
        ending = entry.suffix.lower()
        if ending in ENDINGS:
            found.append(entry)
        elif ending in _UNREAD:
            raise DataError(f"{printable(entry)} is not read; convert it to .png or .jpg")
    return found


def read_table(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a CSV file, without space about a cell; other columns may be empty in some.

    Raises DataError, with the nearest header, where one of `columns` is missing, and where a row
    ends before it.
    """
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file, restval=None)
            header = [name for name in reader.fieldnames or () if name]
            rows = list(reader)
    except (OSError, csv.Error) as error:
        raise DataError(f"{printable(path)} cannot be read: {error}") from None
    for column in columns:
        if column not in header:
            raise DataError(f"{printable(path)} has no column {column!r}{nearest(column, header)}")
        if short := next((n for n, row in enumerate(rows, 1) if row[column] is None), None):
            raise DataError(f"{printable(path)}, row {short}, ends before its {column}")
    return [{name: (row[name] or "").strip() for name in header} for row in rows]


def enumerated(names: Sequence) -> np.ndarray:
    """int32 `[example]`: equal names have equal numbers, counted from 0."""
    return np.unique(names, return_inverse=True)[1].astype(np.int32)


def _of_species(folder: Path) -> list[Path]:
    nested = subfolders(folder)
    if nested:
        raise DataError(f"{printable(nested[0])} is a folder inside a species' folder")
    found = photographs(folder)
    if not found:
        raise DataError(f"{printable(folder)} holds no photograph ({', '.join(ENDINGS)})")
    return found


def _indexed(index: Path, files: Sequence[Path]) -> np.ndarray:
    """The groups of `files` by the index: int32 `[example]`."""
    group_of: dict[str, str] = {}
    for row in read_table(index, ("file", "group")):
        name = row["file"] if "/" in row["file"] else f"{row.get('species', '')}/{row['file']}"
        if name in group_of:
            raise DataError(f"{printable(index)} lists {printable(name)} twice")
        group_of[name] = row["group"]
    names = [f"{file.parent.name}/{file.name}" for file in files]
    for name in names:
        if name not in group_of:
            raise DataError(f"{printable(index)} does not list {printable(name)}")
    for name in sorted(group_of.keys() - set(names)):
        raise DataError(f"{printable(index)} lists {printable(name)}, which is not there")
    return enumerated([f"g{group_of[name]}" if group_of[name] else f"f{name}" for name in names])


def _entries(folder: Path) -> list[Path]:
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{printable(folder)} cannot be listed: {error.strerror}") from None
    return sorted(entries, key=lambda entry: os.fsencode(entry.name))
