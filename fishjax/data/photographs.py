"""Photographs that nobody vouches for, decoded to uint8 RGB squares or refused by name."""

import contextlib
import os
import stat
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from fishjax.data.dataset import DataError

ENDINGS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
MAX_PIXELS = 32_000_000

_READERS = {"PNG": PngImageFile, "JPEG": JpegImageFile}
_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"RIFF": "WebP",
}
_LARGE = 4_000_000
_one_large_at_a_time = threading.Lock()
_NAMED = 5


def decode_all(paths: Sequence[Path], root: Path, image_size: int) -> np.ndarray:
    """uint8 `[file, image_size, image_size, 3]`, decoded by a few threads.

    Raises DataError that names two paths of one file, or the first few files that `decode` refuses
    and how many there are.
    """
    _refuse_twice(paths)
    images = np.empty((len(paths), image_size, image_size, 3), np.uint8)
    place = root.resolve()

    def attempt(index: int) -> str | None:
        try:
            images[index] = decode(paths[index], place, image_size)
        except DataError as refusal:
            return str(refusal)
        return None

    with warnings.catch_warnings(), ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
        refusals = [text for text in pool.map(attempt, range(len(paths))) if text]
    if refusals:
        more = len(refusals) - _NAMED
        raise DataError(
            f"{len(refusals)} of {len(paths)} photographs cannot be used: "
            + "; ".join(refusals[:_NAMED])
            + (f"; and {more} more" if more > 0 else "")
        )
    return images


def decode(path: Path, root: Path, image_size: int) -> np.ndarray:
    """uint8 RGB `[image_size, image_size, 3]` of one file, as `fit` makes it.

    The content decides what a file is: PNG (an animation's first frame) or JPEG. Raises DataError,
    naming the file and the reason, for

    - a path that, links followed, leaves `root` (given resolved), or is no regular file;
    - an empty, truncated or corrupt file, or one whose content is not what its ending says;
    - more than `MAX_PIXELS` by the header; the pixels are then never decoded.

    Memory stays under 1 GB: of photographs above 4 megapixels one is decoded at a time.
    """
    try:
        with _opened(path, root) as file:
            image = _READERS[_format(file, path.suffix.lower())](file)
            pixels = image.width * image.height
            if pixels > MAX_PIXELS:
                raise DataError(
                    f"has {image.width} x {image.height} pixels, more than {MAX_PIXELS // 10**6} "
                    "million in all"
                )
            with _one_large_at_a_time if pixels > _LARGE else contextlib.nullcontext():
                return fit(_whole(image, file), image_size)
    except DataError as refusal:
        raise DataError(f"{printable(path)} {refusal}") from None
    except Exception as error:  # a decoder meets hostile bytes: whatever it raises is the file's
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{printable(path)} cannot be decoded: {reason}") from error


def fit(image: Image.Image, image_size: int) -> np.ndarray:
    """uint8 RGB `[image_size, image_size, 3]` of an opened image.

    - The whole image is scaled to the square, anti-aliased (box reduction, then bilinear); its
      proportions are not kept.
    - Transparent pixels lie over black. Grey is repeated, palettes are looked up, CMYK is converted
      without colour profiles; 16-bit grey is scaled by 255/65535, other 16-bit PNG keep their
      high bytes.
    - The EXIF orientation is honoured; one that cannot be read counts as upright.
    """
    image.draft(None, (2 * image_size, 2 * image_size))
    deep = image.mode.startswith("I")
    if deep:
        image = _deep(image)
    elif image.has_transparency_data:
        image = (image if image.mode == "RGBA" else image.convert("RGBA")).convert("RGBa")
    else:
        image = image.convert("RGB")
    small = image.resize((image_size, image_size), Image.Resampling.BILINEAR, reducing_gap=2.0)
    with contextlib.suppress(Exception):
        small = ImageOps.exif_transpose(small)
    pixels = np.asarray(small)
    if deep:
        scaled = np.rint(pixels * (255 / 65535)).astype(np.uint8)
        return np.repeat(scaled[:, :, None], 3, axis=2)
    return pixels[:, :, :3]


def _deep(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as mode I; where a value of it is said to be transparent, that is black."""
    values = np.array(image.convert("I"))
    values[values == image.info.get("transparency")] = 0
    return Image.fromarray(values)


def _refuse_twice(paths: Sequence[Path]) -> None:
    """Raises DataError where two paths lead to one file, which would be two photographs."""
    known: dict[str, Path] = {}
    for path in paths:
        earlier = known.setdefault(os.path.realpath(path), path)
        if earlier is not path:
            raise DataError(f"{printable(path)} is the same file as {printable(earlier)}")


def printable(path: Path | str) -> str:
    """A path as text that any terminal and any UTF-8 file can take."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(path)
    )


def _whole(image: Image.Image, file: BinaryIO) -> Image.Image:
    """The image, opened again if a PNG: its checksums are looked at, which decoding does not do."""
    if not isinstance(image, PngImageFile):
        return image
    image.verify()
    file.seek(0)
    return PngImageFile(file)


def _opened(path: Path, root: Path) -> BinaryIO:
    try:
        real = path.resolve(strict=True)
        status = real.stat()
    except FileNotFoundError:
        raise DataError("leads to no file" if path.is_symlink() else "does not exist") from None
    except (OSError, RuntimeError):
        raise DataError("cannot be followed to a file") from None
    if not real.is_relative_to(root):
        raise DataError("lies outside the data's folder")
    if not stat.S_ISREG(status.st_mode):
        raise DataError("is not a regular file")
    if status.st_size == 0:
        raise DataError("is empty")
    return open(real, "rb")


def _format(file: BinaryIO, ending: str) -> str:
    """PNG or JPEG, by the first bytes of the file; it must be what the ending says."""
    start = file.read(16)
    file.seek(0)
    found = next((name for mark, name in _SIGNATURES.items() if start.startswith(mark)), None)
    if ending not in ENDINGS:
        raise DataError(f"does not end in {', '.join(ENDINGS)}")
    if found is None or found != ENDINGS[ending]:
        raise DataError(f"is {found or 'no image'} inside, not the {ENDINGS[ending]} its name says")
    return found
