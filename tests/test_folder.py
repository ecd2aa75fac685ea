"""A user's folder and both layouts of Fish4Knowledge become data sets, or are refused by name."""

import csv
import os
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from fishjax.data.dataset import DataError
from fishjax.data.fish4knowledge import SPECIES, read_f4k
from fishjax.data.folder import read_folder, subfolders
from fishjax.data.source import open_source
from fishjax.fields import UsageError


def paint(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((12, 10, 3), value, np.uint8)).save(path)


def write_index(path, header, *rows):
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def reef(tmp_path):
    """Three wrasses and two gobies; made in an order that is not the order of their names."""
    folder = tmp_path / "reef"
    for name, value in (
        ("wrasse/b.png", 40),
        ("wrasse/a.png", 30),
        ("goby/z.jpg", 20),
        ("wrasse/C.png", 50),
        ("goby/B.JPEG", 10),
    ):
        paint(folder / name, value)
    return folder


def test_a_species_per_folder_in_byte_order(reef):
    data = read_folder(str(reef), 8)
    assert data.species == ("goby", "wrasse")
    assert data.spec == f"folder:{reef}"
    assert data.images.shape == (5, 8, 8, 3)
    np.testing.assert_array_equal(data.labels, [0, 0, 1, 1, 1])
    np.testing.assert_allclose(data.images[:, 0, 0, 0], [10, 20, 50, 30, 40], atol=1)
    np.testing.assert_array_equal(data.groups, range(5))
    assert not data.fixed_test.any()
    assert (data.labels.dtype, data.groups.dtype) == (np.int32, np.int32)


def test_the_order_does_not_depend_on_the_file_system(reef, monkeypatch):
    before = read_folder(str(reef), 8).digest()
    names = type(reef).iterdir
    monkeypatch.setattr(type(reef), "iterdir", lambda folder: reversed(sorted(names(folder))))
    assert read_folder(str(reef), 8).digest() == before


def test_hidden_and_foreign_files_are_passed_over(reef):
    before = read_folder(str(reef), 8).digest()
    for name in (".DS_Store", ".hidden.png", "Thumbs.db", "notes.txt"):
        (reef / "goby" / name).write_bytes(b"x")
        (reef / name).write_bytes(b"x")
    (reef / ".git").mkdir()
    assert read_folder(str(reef), 8).digest() == before


def test_names_that_are_not_utf_8_are_read_and_written_plainly(reef):
    odd = reef / os.fsdecode(b"m\xe9rou")
    paint(reef / "plain.png", 60)
    odd.mkdir()
    (reef / "plain.png").rename(odd / os.fsdecode(b"\xff.png"))
    data = read_folder(str(reef), 8)
    assert data.species == ("goby", r"m\udce9rou", "wrasse")
    assert data.images[2, 0, 0, 0] == 60


def test_index_groups_photographs(reef):
    rows = [("goby/B.JPEG", ""), ("goby/z.jpg", ""), ("wrasse/a.png", "y"), ("wrasse/b.png", "x")]
    write_index(reef / "index.csv", ("file", "group"), *rows, ("wrasse/C.png", "y"))
    groups = read_folder(str(reef), 8).groups
    assert groups[2] == groups[3]  # C and a
    assert len(set(groups.tolist())) == 4
    apart = [(*name.split("/"), group) for name, group in rows]
    write_index(
        reef / "index.csv", ("species", "file", "group"), *apart, ("wrasse", "wrasse/C.png", "y")
    )
    np.testing.assert_array_equal(read_folder(str(reef), 8).groups, groups)


FULL = [("goby/B.JPEG", 1), ("goby/z.jpg", 1), ("wrasse/a.png", 2), ("wrasse/b.png", 2)]


def test_space_about_a_group_makes_no_other(reef):
    rows = [*FULL[:3], ("wrasse/b.png", "2 "), ("wrasse/C.png", " 1")]
    write_index(reef / "index.csv", ("file", "group"), *rows)
    assert len(set(read_folder(str(reef), 8).groups.tolist())) == 2


def test_an_index_that_leads_nowhere_is_not_taken_for_none(reef):
    (reef / "index.csv").symlink_to("not fetched.csv")
    with pytest.raises(DataError, match=r"cannot be read: .*No such file"):
        read_folder(str(reef), 8)


def test_an_empty_index_is_refused(reef):
    (reef / "index.csv").write_bytes(b"")
    with pytest.raises(DataError, match="has no column 'file'"):
        read_folder(str(reef), 8)


def test_a_folder_that_cannot_be_looked_into_is_named(reef, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pathlib.Path, "is_dir", denied)
    with pytest.raises(DataError, match=r"cannot be opened: .*Permission denied"):
        read_folder(str(reef), 8)
    with pytest.raises(DataError, match="goby cannot be opened: Permission denied"):
        subfolders(reef)


@pytest.mark.parametrize(
    ("header", "rows", "reason"),
    [
        (("file", "grup"), FULL, "no column 'group'; did you mean 'grup'"),
        (("file", "group"), FULL, "does not list wrasse/C.png"),
        (("file", "group"), [*FULL, ("goby/z.jpg", 1)], "lists goby/z.jpg twice"),
        (("file", "group"), [*FULL, ("wrasse/C.png", 1), ("../x.png", 1)], "lists ../x.png, which"),
        (("file", "group"), [*FULL, ("wrasse/C.png",)], "row 5, ends before its group"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(reef, header, rows, reason):
    write_index(reef / "index.csv", header, *rows)
    with pytest.raises(DataError, match=reason):
        read_folder(str(reef), 8)


def test_folders_that_cannot_be_used(reef, tmp_path):
    def refused(path, reason):
        with pytest.raises(DataError, match=reason):
            read_folder(str(path), 8)

    refused(tmp_path / "reaf", "did you mean 'reef'")
    refused(tmp_path / "no" / "where", "no is missing too")
    refused(reef / "goby" / "z.jpg", "is a file; a folder is needed")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"2 or more species: none")
    paint(tmp_path / "single" / "goby" / "a.png", 1)
    refused(tmp_path / "single", r"2 or more species: goby")
    (reef / "hollow").mkdir()
    refused(reef, "hollow holds no photograph")
    (reef / "hollow").rmdir()
    (reef / "goby" / "day1.png").mkdir()
    refused(reef, "day1.png is a folder inside a species' folder")
    (reef / "goby" / "day1.png").rmdir()
    paint(reef / "stray.png", 1)
    refused(reef, "stray.png lies in no species' folder")
    (reef / "stray.png").rename(reef / "goby" / "scan.tiff")
    refused(reef, "scan.tiff is not read; convert it")
    (reef / "goby" / "scan.tiff").unlink()
    (reef / "goby" / "gone.png").touch()
    refused(reef, "gone.png is empty")


def test_a_species_folder_that_leaves_the_folder_is_refused(reef, tmp_path):
    (reef / "goby").rename(tmp_path / "goby")
    (reef / "goby").symlink_to(tmp_path / "goby")
    with pytest.raises(DataError, match=r"2 of 5 photographs .* lies outside the data's folder"):
        read_folder(str(reef), 8)


def test_sources_are_told_apart_by_their_kind(reef, monkeypatch):
    monkeypatch.setenv("HOME", str(reef.parent))
    home = open_source("folder:~/reef", 8)
    assert home.digest() == read_folder(str(reef), 8).digest()
    assert home.spec == "folder:~/reef"
    assert open_source("reef:train=24,test=24", 16).images.shape[1:] == (16, 16, 3)
    for spec, reason in (
        ("foldr:x", "unknown data 'foldr:x'; did you mean 'folder'"),
        ("", "unknown data ''"),
        ("folder:", "says no path"),
        ("tfds:", "says no name"),
        ("f4k:~/reaf", "did you mean 'reef'"),
    ):
        with pytest.raises(UsageError, match=reason):
            open_source(spec, 8)


FRAMES = (("fish_02", "0071", "000123"), ("fish_02", "0071", "000124"), ("fish_18", "0009", "7"))


@pytest.fixture
def listed(tmp_path):
    """A Fish4Knowledge folder with an index; its rows are not in the order of the classes."""
    folder = tmp_path / "listed"
    rows = []
    for value, (code, track, fish) in enumerate(reversed(FRAMES)):
        species = SPECIES[int(code[-2:]) - 1]
        file = f"fish_{track}_{fish}.png"
        paint(folder / f"{code}_{species.replace(' ', '_')}" / file, 10 * value)
        rows.append((99, code, species, track, file))
    write_index(folder / "index.csv", ("label", "f4k_class", "species", "track", "file"), *rows)
    return folder


def test_fish4knowledge_by_its_index(listed):
    data = read_f4k(str(listed), 8)
    assert data.species == ("Plectroglyphidodon dickii", "Scaridae")
    np.testing.assert_array_equal(data.labels, [1, 0, 0])
    np.testing.assert_array_equal(data.images[:, 0, 0, 0], [0, 10, 20])
    assert data.groups[1] == data.groups[2] != data.groups[0]
    assert not data.fixed_test.any()


def test_fish4knowledge_as_published(tmp_path):
    for inner in ("", "fish_image"):
        root = tmp_path / f"archive{inner}"
        for value, (code, track, fish) in enumerate(FRAMES):
            paint(root / inner / code / f"fish_{track}_{fish}.png", 10 * value)
            paint(root / "mask_image" / f"mask{code[-3:]}" / f"mask_{track}_{fish}.png", 255)
        data = read_f4k(str(root), 8)
        assert data.species == ("Plectroglyphidodon dickii", "Scaridae")
        np.testing.assert_array_equal(data.labels, [0, 0, 1])
        np.testing.assert_array_equal(data.images[:, 0, 0, 0], [0, 10, 20])
        assert data.groups[0] == data.groups[1] != data.groups[2]


def test_fish4knowledge_that_does_not_fit_is_refused(listed, tmp_path):
    def refused(reason):
        with pytest.raises(DataError, match=reason):
            read_f4k(str(listed), 8)

    index = listed / "index.csv"
    text = index.read_text()
    index.write_text(text.replace("track", "trajectory"))
    refused("no column 'track'; did you mean 'trajectory'")
    index.write_text(text.replace("fish_18", "fish_19"))
    refused("names class 'fish_19', which has no folder; did you mean 'fish_18'")
    index.write_text(text.replace("fish_0071_000123", "fish_0071_000125"))
    refused("1 of 3 photographs .*fish_0071_000125.png does not exist")
    index.write_text(text.replace("fish_0071_000123.png", "../../whole.png"))
    paint(tmp_path / "whole.png", 1)
    refused("whole.png, not a name in fish_02")
    index.write_text(text + text.splitlines()[-1].replace(",7", ",8") + "\n")
    refused("lists .* twice")
    lines = text.splitlines()
    again = lines[-1].split(",")
    column = lines[0].split(",").index("species")
    index.write_text(
        "\n".join([*lines, ",".join(["Other" if i == column else c for i, c in enumerate(again)])])
    )
    refused("both .* and 'Other'")
    index.write_text(text.splitlines()[0])
    refused("holds no photographs")
    index.write_text(text.replace(SPECIES[17], SPECIES[1]))
    refused(f"2 species called {SPECIES[1]!r}")
    index.write_text(text.replace(SPECIES[17], ""))
    refused("a species without a name")
    index.write_bytes(text.encode().replace(b"Scaridae", b"Scarid\xe9"))
    assert read_f4k(str(listed), 8).species[1] == r"Scarid\udce9"
    (listed / "fish_18_old").mkdir()
    refused("fish_18_old and .* are both of class fish_18")
    (listed / "fish_18_old").rmdir()
    index.unlink()
    odd = next((listed).glob("fish_18*")) / "fish_9.png"
    paint(odd, 1)
    refused("fish_9.png is not named fish_<trajectory>_<fish id>.png")
    odd.unlink()
    paint(listed / "fish_24" / "fish_1_1.png", 1)
    refused("fish_24 is not one of fish_01 to fish_23")
    for folder in listed.glob("fish*"):
        shutil.rmtree(folder)
    refused("neither index.csv nor folders fish_01")


@pytest.mark.parametrize("path", ["~nobody-of-that-name/fish", "x" * 300])
def test_a_path_that_cannot_be_looked_up_is_refused(path):
    with pytest.raises(DataError, match="cannot be opened"):
        read_folder(path, 8)


def test_the_photographs_are_whole(photographs):
    data = read_f4k(str(photographs), 24)
    assert data.images.shape == (1533, 24, 24, 3)
    assert data.species == SPECIES
    assert len(np.unique(data.groups)) == 657
    assert data.images.std() > 30
