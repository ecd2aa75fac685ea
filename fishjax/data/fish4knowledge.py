"""Fish4Knowledge: 23 reef species, filmed; frames of one trajectory are one group."""

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fishjax.data.dataset import DataError, Dataset
from fishjax.data.folder import (
    enumerated,
    is_folder,
    open_folder,
    photographs,
    read_table,
    subfolders,
)
from fishjax.data.photographs import decode_all, printable
from fishjax.fields import nearest

SPECIES = (
    "Dascyllus reticulatus",
    "Plectroglyphidodon dickii",
    "Chromis chrysura",
    "Amphiprion clarkii",
    "Chaetodon lunulatus",
    "Chaetodon trifascialis",
    "Myripristis kuntee",
    "Acanthurus nigrofuscus",
    "Hemigymnus fasciatus",
    "Neoniphon sammara",
    "Abudefduf vaigiensis",
    "Canthigaster valentini",
    "Pomacentrus moluccensis",
    "Zebrasoma scopas",
    "Hemigymnus melapterus",
    "Lutjanus fulvus",
    "Scolopsis bilineata",
    "Scaridae",
    "Pempheris vanicolensis",
    "Zanclus cornutus",
    "Neoglyphidodon nigroris",
    "Balistapus undulatus",
    "Siganus fuscescens",
)
_FOLDER = re.compile(r"(fish_\d\d)(?:_.*)?", re.ASCII)
_FILE = re.compile(r"fish_(\d+)_\d+\.png", re.ASCII)


class _Photograph(NamedTuple):
    file: Path
    code: str
    species: str
    track: str


def read_f4k(path: str, image_size: int) -> Dataset:
    """The photographs below `path`, grouped by trajectory; no fixed test set.

    Two layouts are read. With `index.csv` (columns `f4k_class`, `species`, `track`, `file`) the
    index says what there is, in its order; a class `fish_NN` lies in the sub-folder of that name
    or of a name that goes on with `_`. Without one, the folders `fish_NN` of the published archive
    (or of its `fish_image`) are read; species are `SPECIES`, trajectories are taken from the file
    names `fish_<trajectory>_<fish id>.png`. Species are numbered in the order of `fish_NN`.

    Raises DataError for a folder that is missing or of neither layout, an index that does not fit,
    and whatever `photographs.decode` refuses.
    """
    root = open_folder(path)
    index = root / "index.csv"
    found = _listed(index) if os.path.lexists(index) else _archived(root)
    if not found:
        raise DataError(f"{printable(root)} holds no photographs")
    codes = sorted({photograph.code for photograph in found})
    names = {photograph.code: photograph.species for photograph in found}
    return Dataset(
        spec=f"f4k:{path}",
        images=decode_all([photograph.file for photograph in found], root, image_size),
        labels=np.array([codes.index(photograph.code) for photograph in found], np.int32),
        groups=enumerated([photograph.track for photograph in found]),
        species=tuple(names[code] for code in codes),
        fixed_test=np.zeros(len(found), bool),
    )


def _listed(index: Path) -> list[_Photograph]:
    """What the index lists, in its order."""
    folders = _classes(index.parent)
    found: dict[Path, _Photograph] = {}
    names: dict[str, str] = {}
    for row in read_table(index, ("f4k_class", "species", "track", "file")):
        code, name = row["f4k_class"], printable(row["species"])
        if code not in folders:
            raise DataError(
                f"{printable(index)} names class {code!r}, which has no folder"
                f"{nearest(code, folders)}"
            )
        if names.setdefault(code, name) != name:
            raise DataError(
                f"{printable(index)} names class {code!r} both {names[code]!r} and {name!r}"
            )
        file = folders[code] / row["file"]
        if file in found:
            raise DataError(f"{printable(index)} lists {printable(file)} twice")
        if "/" in row["file"]:
            raise DataError(f"{printable(index)} lists {printable(file)}, not a name in {code}")
        found[file] = _Photograph(file, code, name, row["track"] or str(file))
    return list(found.values())


def _archived(root: Path) -> list[_Photograph]:
    """What the folders of the published archive hold, in byte order."""
    inner = root / "fish_image"
    folders = _classes(inner if is_folder(inner) else root)
    if not folders:
        raise DataError(
            f"{printable(root)} has neither index.csv nor folders fish_01, fish_02, ..."
        )
    found = []
    for code, folder in folders.items():
        number = int(code.removeprefix("fish_"))
        if not 1 <= number <= len(SPECIES):
            raise DataError(f"{printable(folder)} is not one of fish_01 to fish_{len(SPECIES)}")
        for file in photographs(folder):
            name = _FILE.fullmatch(file.name)
            if not name:
                raise DataError(f"{printable(file)} is not named fish_<trajectory>_<fish id>.png")
            found.append(_Photograph(file, code, SPECIES[number - 1], name[1]))
    return found


def _classes(folder: Path) -> dict[str, Path]:
    """The sub-folders named `fish_NN` or `fish_NN_...`, by their `fish_NN`."""
    found: dict[str, Path] = {}
    for entry in subfolders(folder):
        if match := _FOLDER.fullmatch(entry.name):
            earlier = found.setdefault(match[1], entry)
            if earlier is not entry:
                raise DataError(
                    f"{printable(entry)} and {printable(earlier)} are both of class {match[1]}"
                )
    return found
