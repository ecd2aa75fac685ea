"""The convolution that is measured to be fastest: taken where it pays, and kept."""

import pytest

from fishjax.engine import measured
from fishjax.nn.lowering import Geometry

SHAPE = Geometry((8, 8, 8, 8), (3, 3, 8, 8), 1, ((1, 1), (1, 1)))
TRIED = ("canonical", "packed", "patches")


def short():
    raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")


@pytest.fixture
def fastest(monkeypatch):
    """Which is taken, where each takes as many seconds, or runs out of memory when it is made
    (None) or beside the others (0).
    """

    def of(*taken):
        seconds = dict(zip(TRIED, taken, strict=True))

        def timer(lowering, *_):
            if seconds[lowering] is None:
                short()
            return short if seconds[lowering] == 0.0 else lambda: seconds[lowering]

        monkeypatch.setattr(measured.kernels, "lowering", lambda name: name)
        monkeypatch.setattr(measured, "_timer", timer)
        return measured._fastest(TRIED, measured._seconds(SHAPE, TRIED, "map", 2))

    return of


@pytest.mark.parametrize(
    ("seconds", "taken"),
    [
        ((1.0, 0.8, 0.9), "packed"),
        ((1.0, 0.96, 2.0), "canonical"),
        ((1.0, None, 0.9), "patches"),
        ((1.0, None, 2.0), "canonical"),
        ((None, 3.0, 2.0), "patches"),
        ((1.0, 0.0, 0.9), "patches"),
        ((0.0, 0.0, None), "canonical"),
        ((None, None, None), "canonical"),
    ],
)
def test_what_is_a_twentieth_faster_and_fits_into_memory_is_taken(fastest, seconds, taken):
    assert fastest(*seconds) == taken


def test_an_error_that_is_not_of_memory_is_raised(monkeypatch):
    def broken(*_):
        raise RuntimeError("INTERNAL")

    monkeypatch.setattr(measured, "_timer", broken)
    with pytest.raises(RuntimeError, match="INTERNAL"):
        measured._seconds(SHAPE, ("canonical", "packed"), "map", 2)


def test_a_choice_is_made_once_and_again_where_what_is_kept_is_none(monkeypatch, tmp_path):
    made = []

    def taken(shape, tried, *_):
        made.append(shape)
        return {name: 1 / place for place, name in enumerate(tried, 1)}

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(measured, "_seconds", taken)
    for _ in range(2):
        assert measured._remembered(SHAPE, TRIED, "map", 2) == "patches"
    assert len(made) == 1
    (kept,) = (tmp_path / "fishjax" / "measured").iterdir()
    kept.write_bytes(b"\xff")
    assert measured._remembered(SHAPE, TRIED, "map", 2) == "patches"
    assert len(made) == 2
    assert measured._remembered(SHAPE, TRIED[:2], "map", 2) == "packed"
    monkeypatch.setattr(measured, "digest", lambda folder: "other code")
    assert measured._remembered(SHAPE, TRIED, "map", 2) == "patches"
    assert len(made) == 4


def test_a_choice_without_one_that_memory_was_short_for_is_not_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(measured, "_seconds", lambda *_: {"canonical": 1.0, "packed": 0.5})
    assert measured._remembered(SHAPE, TRIED, "map", 2) == "packed"
    monkeypatch.setattr(measured, "_seconds", lambda *_: dict.fromkeys(TRIED, 1.0))
    assert measured._remembered(SHAPE, TRIED, "map", 2) == "canonical"
