"""Where images come from: the text after `--data`, opened as a `Dataset`."""

from collections.abc import Callable

from fishjax.data.dataset import Dataset
from fishjax.data.fish4knowledge import read_f4k
from fishjax.data.folder import read_folder
from fishjax.data.reef import make_reef, parse_reef
from fishjax.fields import UsageError, nearest


def open_source(spec: str, image_size: int) -> Dataset:
    """The data set `reef`, `reef:KNOBS`, `folder:PATH`, `f4k:PATH` or `tfds:NAME`.

    Images are `[image_size, image_size]`. Raises UsageError, with the nearest kind, for any other
    text, and DataError for data that cannot be used.
    """
    kind, _, rest = spec.partition(":")
    if kind not in _READERS:
        raise UsageError(f"unknown data {spec!r}{nearest(kind, _READERS)}")
    if not rest and kind != "reef":
        raise UsageError(
            f"data {spec!r} says no {'name' if kind == 'tfds' else 'path'}: {kind}:..."
        )
    return _READERS[kind](rest, image_size)


def _make_reef(knobs: str, image_size: int) -> Dataset:
    return make_reef(parse_reef(knobs), image_size)


def _read_tfds(name: str, image_size: int) -> Dataset:
    from fishjax.data.catalogue import read_tfds  # its import takes a second

    return read_tfds(name, image_size)


_READERS: dict[str, Callable[[str, int], Dataset]] = {
    "reef": _make_reef,
    "folder": read_folder,
    "f4k": read_f4k,
    "tfds": _read_tfds,
}
