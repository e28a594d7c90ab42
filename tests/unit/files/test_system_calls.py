"""Reading pieces of a file, compared with slicing, with short reads; and reserving space."""

import ctypes
import errno
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfpipe.files import system_calls

CONTENT = np.random.default_rng(5).integers(0, 256, 5000, np.uint8)


@pytest.fixture(scope="module")
def handle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    path: Path = tmp_path_factory.mktemp("pieces") / "content"
    path.write_bytes(CONTENT.tobytes())
    with path.open("rb") as file:
        yield file.fileno()


def read(handle: int, cuts: list[tuple[int, int]], order: list[int]) -> bytes:
    starts, sizes = (np.array(column, np.int64) for column in zip(*cuts, strict=True))
    places = np.empty(len(cuts), np.int64)
    at = 0
    for i in order:
        places[i] = at
        at += sizes[i]
    buffer = np.zeros(at, np.uint8)
    system_calls.read_pieces(handle, starts, sizes, buffer, places)
    return buffer.tobytes()


@st.composite
def cuttings(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[int]]:
    edges = sorted(draw(st.sets(st.integers(0, CONTENT.size), min_size=2, max_size=60)))
    every = [(a, b - a) for a, b in itertools.pairwise(edges)]
    kept = draw(st.lists(st.sampled_from(every), min_size=1, max_size=60))
    kept = draw(st.sampled_from([kept, sorted(kept), every]))
    return kept, draw(st.permutations(range(len(kept))) | st.just(list(range(len(kept)))))


@given(cuttings(), st.sampled_from([1, 2, 7, 1024]))
def test_pieces_are_slices(handle: int, cutting: tuple[list[tuple[int, int]], list[int]], most: int) -> None:
    cuts, order = cutting
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system_calls, "MOST", most)
        assert read(handle, cuts, order) == b"".join(
            CONTENT[cuts[i][0] : sum(cuts[i])].tobytes() for i in order
        )


def test_a_short_read_is_continued(handle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = system_calls._preadv
    signals = iter([errno.EINTR])

    def short(handle: int, vectors: int, count: int, position: int) -> int:
        for number in signals:  # one comes before anything is read
            ctypes.set_errno(number)
            return -1
        one = np.frombuffer(
            ctypes.string_at(vectors, system_calls._IOVEC.itemsize), system_calls._IOVEC
        ).copy()
        one["length"] = min(int(one["length"][0]), 7)
        return int(real(handle, one.ctypes.data, 1, position))

    monkeypatch.setattr(system_calls, "_preadv", short)
    cuts = [(10, 20), (30, 33), (100, 5)]
    order = [2, 1, 0]
    assert read(handle, cuts, order) == b"".join(CONTENT[cuts[i][0] : sum(cuts[i])].tobytes() for i in order)


@pytest.mark.parametrize("cut", [(4990, 20), (5000, 1), (7000, 5)])
def test_a_file_that_is_too_short(handle: int, cut: tuple[int, int]) -> None:
    with pytest.raises(EOFError) as caught:
        read(handle, [(0, 10), cut], [0, 1])
    assert caught.value.args == (max(CONTENT.size, cut[0]),)


ZEROS = np.zeros(10, np.uint8)
READ_ONLY = np.zeros(10, np.uint8)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("start", "size", "place", "buffer"),
    [
        (-1, 5, 0, ZEROS), (0, 0, 0, ZEROS), (0, -1, 0, ZEROS), (0, 5, -1, ZEROS), (0, 5, 6, ZEROS),
        (0, 11, 0, ZEROS), (0, 2**62, 2**62, ZEROS), (0, 10, 0, READ_ONLY), (0, 10, 0, np.zeros(20, np.uint8)[::2]),
    ],
)  # fmt: skip
def test_pieces_stay_in_the_buffer(
    handle: int, start: int, size: int, place: int, buffer: np.ndarray
) -> None:
    starts, sizes, places = (np.array([value], np.int64) for value in (start, size, place))
    with pytest.raises(ValueError, match="outside"):
        system_calls.read_pieces(handle, starts, sizes, buffer, places)


def test_reserving_is_repeated_after_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [errno.ENOSPC, errno.EINTR, errno.EOPNOTSUPP, errno.EINTR]

    def fallocate(*_: int) -> int:
        ctypes.set_errno(errors.pop())
        return -1

    monkeypatch.setattr(system_calls, "_fallocate", fallocate)
    with (tmp_path / "file").open("wb") as out:
        system_calls.reserve(out, 9)  # which the file system cannot do
        with pytest.raises(OSError, match="No space"):
            system_calls.reserve(out, 9)
    assert errors == []
