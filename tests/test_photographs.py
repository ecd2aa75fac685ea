"""Hostile files are refused by name; odd but honest ones become the documented pixels."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fishjax.data.dataset import DataError
from fishjax.data.photographs import decode, decode_all, printable

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


def jpeg_header(width, height):
    frame = struct.pack(">BHHB", 8, height, width, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame


def save(path, pixels, mode=None, **options):
    Image.fromarray(pixels).convert(mode or "RGB").save(path, **options)
    return path


@pytest.fixture
def corpus(tmp_path):
    """A folder of hostile files, and the reason each must be refused for."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    whole = {kind: save(tmp_path / f"whole.{kind}", NOISE).read_bytes() for kind in ("png", "jpg")}
    save(folder / "gif.png", NOISE, format="GIF")
    save(folder / "jpeg.png", NOISE, format="JPEG")
    save(folder / "bitmap.jpg", NOISE, format="BMP")
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("<html>not found</html>")
    (folder / "truncated.png").write_bytes(whole["png"][: len(whole["png"]) // 2])
    (folder / "truncated.jpg").write_bytes(whole["jpg"][: len(whole["jpg"]) // 2])
    (folder / "signature.png").write_bytes(whole["png"][:8])
    flipped = bytearray(whole["png"])
    flipped[len(flipped) // 2] ^= 0xFF
    (folder / "corrupt.png").write_bytes(flipped)
    (folder / "bomb.png").write_bytes(png_header(50_000, 50_000))
    (folder / "bomb.jpg").write_bytes(jpeg_header(65_000, 65_000))
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to(folder / "nowhere.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "outside.png").symlink_to(tmp_path / "whole.png")
    (folder / "fish.webp").write_bytes(whole["png"])
    reasons = {
        "gif.png": "is GIF inside, not the PNG",
        "jpeg.png": "is JPEG inside, not the PNG",
        "bitmap.jpg": "is BMP inside, not the JPEG",
        "empty.png": "is empty",
        "text.jpg": "is no image inside",
        "truncated.png": "cannot be decoded",
        "truncated.jpg": "cannot be decoded",
        "signature.png": "cannot be decoded",
        "corrupt.png": "cannot be decoded",
        "bomb.png": "has 50000 x 50000 pixels",
        "bomb.jpg": "has 65000 x 65000 pixels",
        "folder.png": "is not a regular file",
        "pipe.png": "is not a regular file",
        "dangling.png": "leads to no file",
        "loop.png": "cannot be followed",
        "outside.png": "lies outside the data's folder",
        "missing.png": "does not exist",
        "fish.webp": "does not end in .png",
    }
    return folder, reasons


def test_every_hostile_file_is_refused_by_name_and_reason(corpus):
    folder, reasons = corpus
    assert {entry.name for entry in folder.iterdir()} <= reasons.keys()
    for name, reason in reasons.items():
        with pytest.raises(DataError) as refusal:
            decode(folder / name, folder.resolve(), 24)
        assert str(refusal.value).startswith(f"{folder / name} {reason}"), name


def test_a_list_names_its_first_bad_files_and_counts_all(corpus):
    folder, reasons = corpus
    paths = [folder / name for name in reasons]
    good = save(folder / "good.png", NOISE)
    with pytest.raises(DataError) as refusal:
        decode_all([good, *paths], folder, 24)
    message = str(refusal.value)
    assert message.startswith(f"{len(reasons)} of {len(reasons) + 1} photographs cannot be used: ")
    assert message.endswith(f"and {len(reasons) - 5} more")
    assert all(str(path) in message for path in paths[:5])
    assert str(good) not in message


def test_a_list_keeps_its_order(tmp_path):
    for value in range(30):
        save(tmp_path / f"{value}.png", np.full((9, 9, 3), value, np.uint8))
    images = decode_all([tmp_path / f"{value}.png" for value in range(30)], tmp_path, 8)
    np.testing.assert_array_equal(images[:, 0, 0, 0], range(30))


def test_links_within_the_folder_and_odd_names_are_followed(tmp_path):
    save(tmp_path / "a.png", NOISE)
    (tmp_path / "kept").mkdir()
    save(tmp_path / "kept" / "b.png", NOISE)
    (tmp_path / "b.PNG").symlink_to("kept/b.png")
    odd = tmp_path / os.fsdecode(b"poisson-\xe9\n.png")
    odd.write_bytes((tmp_path / "a.png").read_bytes())
    images = decode_all([tmp_path / "a.png", tmp_path / "b.PNG", odd], tmp_path, 24)
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[0], images[2])
    odd.write_bytes(b"")
    with pytest.raises(DataError, match=r"poisson-\\udce9\\n.png is empty") as refusal:
        decode_all([odd], tmp_path, 24)
    str(refusal.value).encode()
    assert printable("mérou.png") == "mérou.png"


def test_two_paths_of_one_file_are_refused(tmp_path):
    save(tmp_path / "a.png", NOISE)
    (tmp_path / "b.png").symlink_to("a.png")
    with pytest.raises(DataError, match=r"b.png is the same file as .*a.png"):
        decode_all([tmp_path / "a.png", tmp_path / "b.png"], tmp_path, 24)


@pytest.mark.parametrize("tail", [0.25, 0.02])
def test_a_png_whose_checksums_are_wrong_is_refused(tmp_path, tail):
    """As an interrupted download into a file of its full length leaves it."""
    smooth = np.tile(np.arange(40, dtype=np.uint8)[:, None, None], (1, 60, 3))
    whole = save(tmp_path / "whole.png", smooth + (NOISE >> 5)).read_bytes()
    cut = int(len(whole) * (1 - tail))
    (tmp_path / "cut.png").write_bytes(whole[:cut] + bytes(len(whole) - cut))
    with pytest.raises(DataError, match=r"cut\.png cannot be decoded"):
        decoded(tmp_path / "cut.png")


def test_the_transparent_value_of_deep_grey_is_black(tmp_path):
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(
        tmp_path / "deep.png", transparency=40_000
    )
    assert (decoded(tmp_path / "deep.png", 4) == 0).all()


def decoded(path, size=20):
    return decode(path, path.parent.resolve(), size).astype(int)


def test_photographs_are_scaled_without_aliasing(tmp_path):
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 200
    image = decoded(save(tmp_path / "stripes.png", stripes), 24)
    assert image.shape == (24, 24, 3)
    np.testing.assert_allclose(image[:, 1:-1], 100, atol=1)


def test_both_formats_show_the_same_fish(tmp_path):
    smooth = np.asarray(Image.fromarray(NOISE[:4, :6]).resize((600, 400), Image.Resampling.BICUBIC))
    png = decoded(save(tmp_path / "a.png", smooth))
    for options in ({}, {"progressive": True}):
        jpeg = decoded(save(tmp_path / "a.jpg", smooth, quality=95, **options))
        assert np.abs(png - jpeg).mean() < 2


def test_cmyk_is_converted(tmp_path):
    plain = np.full((30, 30, 3), (200, 120, 40), np.uint8)
    image = decoded(save(tmp_path / "cmyk.jpg", plain, mode="CMYK", quality=95))
    np.testing.assert_allclose(image, np.broadcast_to((200, 120, 40), image.shape), atol=4)


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path):
    for value, expected in ((0, 0), (257, 1), (30_000, 117), (65_535, 255)):
        path = tmp_path / f"{value}.png"
        Image.fromarray(np.full((30, 30), value, np.uint16)).save(path)
        np.testing.assert_array_equal(decoded(path), expected)


def test_grey_and_two_level_images_repeat_their_channel(tmp_path):
    ramp = np.repeat(np.linspace(0, 255, 20).astype(np.uint8)[None, :, None], 20, 0).repeat(3, 2)
    grey = decoded(save(tmp_path / "grey.png", ramp, mode="L"))
    np.testing.assert_array_equal(grey, ramp)
    two = decoded(save(tmp_path / "two.png", (ramp > 99) * np.uint8(255), mode="1"))
    np.testing.assert_array_equal(two, (ramp > 99) * 255)


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA"])
def test_transparency_lies_over_black(tmp_path, mode):
    path = tmp_path / "clear.png"
    if mode == "P":
        image = Image.fromarray(np.tile(np.uint8([0, 1]).repeat(20), (40, 1)), mode="P")
        image.putpalette([90] * 3 + [160] * 3)
        image.save(path, transparency=bytes([255, 0]))
    else:
        alpha = np.tile(np.uint8([255, 0]).repeat(20), (40, 1))
        colour = [np.full((40, 40), 90, np.uint8)] * (len(mode) - 1)
        Image.fromarray(np.stack([*colour, alpha], -1)).save(path)
    image = decoded(path)
    np.testing.assert_array_equal(image[:, :9], 90)
    np.testing.assert_array_equal(image[:, 11:], 0)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_the_camera_s_orientation_is_honoured(tmp_path, ending):
    upright = np.zeros((40, 40, 3), np.uint8)
    upright[:20, :20] = 250  # bright at the upper left
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown upright after a quarter turn clockwise
    turned = save(tmp_path / f"turned.{ending}", np.rot90(upright), exif=exif)
    plain = save(tmp_path / f"plain.{ending}", upright)
    np.testing.assert_allclose(decoded(turned), decoded(plain), atol=12)
    assert decoded(turned)[2, 2, 0] > 200


def test_an_unreadable_orientation_counts_as_upright_without_a_warning(tmp_path):
    short = save(tmp_path / "short.jpg", NOISE, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12")
    junk = save(tmp_path / "junk.jpg", NOISE, exif=b"Exif\0\0junk, and no directory at all")
    plain = save(tmp_path / "plain.jpg", NOISE)
    images = decode_all([short, junk, plain], tmp_path, 24)
    np.testing.assert_array_equal(images[0], images[2])
    np.testing.assert_array_equal(images[1], images[2])
