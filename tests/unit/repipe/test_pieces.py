"""Packets divided into pieces and chunks: nothing is lost, nothing is in two, and what breaks a piece."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from halfpipe.formats.level0 import COUNTER, PACKET, Flags
from halfpipe.formats.met import HOUR, MICROSECONDS
from halfpipe.formats.retdef import Span
from halfpipe.ids import RunId
from halfpipe.repipe import pieces as module
from halfpipe.repipe.pieces import REACH, Stretch, pieces, stretch_of, stretches

A, B = RunId("2c2e5787"), RunId("2c2e6cc0")
T0 = 1_719_500_400 * MICROSECONDS  # the begin of an hour
F, M, L, ALONE = Flags.FIRST, Flags.MIDDLE, Flags.LAST, Flags.ALONE


def packets(*flags: int, first: int = 0, lost: tuple[int, ...] = (), size: int = 16) -> NDArray[np.void]:
    """Return packets a second apart with these flags, without those at the places `lost`."""
    rows = np.zeros(len(flags), PACKET)
    rows["flags"] = flags
    rows["count"] = (first + np.arange(len(flags))) % COUNTER
    rows["unix"] = T0 + np.arange(len(flags)) * MICROSECONDS
    rows["size"] = size
    return np.delete(rows, lost)


def whole(run: RunId = A) -> list[Stretch]:
    return [Stretch(T0, T0 + HOUR * MICROSECONDS, run, 7)]


def ranges(found: list[tuple[int, Span]]) -> list[tuple[int, int]]:
    """Return the seconds of the first and the last packet of pieces."""
    begin = T0 // MICROSECONDS
    return [(int(piece.begin) - begin, int(piece.end) - begin) for _, piece in found]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (packets(F, L, F, L, F, M, L, ALONE, lost=(2, 3)), [(0, 1), (4, 7)]),
        # Of a datagram some packets are missing.
        *((packets(F, L, F, M, L, F, L, lost=lost), [(0, 6)]) for lost in ((3,), (2,), (4,), (2, 3))),
        # The counter wraps.
        (packets(*[F, L] * 4, first=COUNTER - 3), [(0, 7)]),
    ],
)
def test_a_piece_ends_where_whole_datagrams_are_missing(
    rows: NDArray[np.void], expected: list[tuple[int, int]]
) -> None:
    assert ranges(pieces(rows, 956, whole(), A)) == expected


def test_a_run_ends_a_piece() -> None:
    rows = packets(*[ALONE] * 6)
    known = [
        Stretch(T0, T0 + 2 * MICROSECONDS, A, 7),
        Stretch(T0 + 3 * MICROSECONDS, T0 + 9 * MICROSECONDS, B, 8),
    ]
    for run, gndid, expected in ((A, 7, (0, 2)), (B, 8, (3, 5))):
        found = pieces(rows, 956, known, run)
        assert ([number for number, _ in found], ranges(found)) == ([gndid], [expected])


def test_packet_near_a_stretch_belongs_to_the_nearer_run() -> None:
    known = [Stretch(T0, T0, A, 7), Stretch(T0 + 3 * REACH, T0 + 3 * REACH, B, 8)]
    times = np.array([-REACH - 1, -REACH, 0, REACH, REACH + 1, 2 * REACH, 4 * REACH, 4 * REACH + 1]) + T0
    assert stretch_of(times, known).tolist() == [-1, 0, 0, 0, -1, 1, 1, -1]
    assert stretch_of(times, []).tolist() == [-1] * 8
    rows = packets(ALONE)
    rows["unix"] = T0 + REACH + 1
    assert pieces(rows, 956, known, A) == []


def test_stretches_of_one_run_are_joined() -> None:
    found = stretches([Stretch(5, 6, B, 8), Stretch(3, 4, A, 7), Stretch(0, 1, A, 7)])
    assert found == (Stretch(0, 4, A, 7), Stretch(5, 6, B, 8))


def test_a_large_piece_is_divided_between_datagrams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 160)
    rows = packets(*[F, M, L] * 20)
    made = ranges(pieces(rows, 956, whole(), A))
    assert 5 <= len(made) <= 8
    assert all(first % 3 == 0 for first, _ in made)
    assert all(one[1] + 1 == other[0] for one, other in pairwise(made))
    assert (made[0][0], made[-1][1]) == (0, 59)
    rows["unix"] = T0
    assert ranges(pieces(rows, 956, whole(), A)) == [(0, 0)], "all of one time"
    monkeypatch.setattr(module, "LARGE", 16)
    assert ranges(pieces(packets(F, M, M, L), 956, whole(), A)) == [(0, 3)], "a single datagram"
