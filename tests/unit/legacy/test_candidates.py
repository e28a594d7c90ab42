"""What the legacy's rule gives where copies of a datagram's line differ, and which files it writes."""

import numpy as np

from halfpipe.ids import DownlinkId, RunId
from halfpipe.legacy.compared_run import Candidate, Inputs
from halfpipe.legacy.comparison_reasons import why
from halfpipe.legacy.comparison_sides import Where
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.settings import Merge
from tests.support.legacy_beside import RUN, known_of, table
from tests.support.model import Datagram

FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")


def line(apid: int, first: int, last: int, events: int, *, closing: str = "stop", utc: float = 1.0) -> bytes:
    return Datagram(apid, 0, "start", closing, events, first, last, utc).line


def given(
    events: list[tuple[int, int]], first: list[bytes], second: list[bytes], limits: Merge, run: RunId = RUN
) -> Candidate:
    """Return what the legacy makes of the second of two downlinks, which brings all events."""
    tables = {FIRST: table([]), SECOND: table([(*event, 0) for event in events])}
    lines = {FIRST: KnownDatagrams.of(first), SECOND: KnownDatagrams.of(second)}
    then = KnownDatagrams.together(lines.values()).ranges()
    return Inputs(run, SECOND, tables, lines, then, {}, limits).candidate(frozenset({FIRST}), legacy=True)


def numbers(rows: np.ndarray, candidate: Candidate, run: RunId = RUN) -> list[int | None]:
    codes, reasons = why(rows, Where.HERE, candidate, known_of(run))
    return [reasons[code].defect for code in codes]


EVENTS = [(1, 956), (2, 957), (5, 956), (7, 957), (9, 957)]


def test_the_smaller_of_two_lines_of_a_datagram() -> None:
    part, whole = line(957, 2, 2, 1), line(957, 2, 9, 3, utc=2.0)
    found = given(EVENTS, [whole], [line(956, 1, 5, 2), part], Merge(max_events=0))
    assert found.rows["sequence"].tolist() == [1, 2, 5]
    assert numbers(table([(7, 957, 0), (9, 957, 0)]), found) == [34, 34]
    found = given(EVENTS, [part], [line(956, 1, 5, 2), whole], Merge(max_events=0))
    assert found.rows["sequence"].tolist() == [1, 2, 5, 7, 9], "its own line goes before those of others"


def test_a_file_of_one_event_is_overwritten() -> None:
    events = [(1, 956), (2, 957), (5, 956), (5, 957), (6, 957), (7, 957)]
    lines = [line(956, 1, 5, 2), line(957, 2, 7, 4)]
    found = given(events, [], lines, Merge(max_events=2, chunk_scale=0.5, chunk_floor=0.1))
    assert [file.end - file.begin for file in found.merged.files] == [2, 1, 3]  # type: ignore[union-attr]
    assert found.overwritten[["sequence", "apid"]].tolist() == [(5, 956)]
    assert numbers(table([(5, 956, 0)]), found) == [40]
