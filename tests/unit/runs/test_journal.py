"""The journal of a run: what counts, what is not written twice, and what it survives."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfpipe.errors import HalfPipeError, StateError
from halfpipe.ids import DownlinkId
from halfpipe.merge.intervals import Interval
from halfpipe.runs.journal import Delivery, EventFile, Journal, Release

FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")
WORD = st.integers(0, 2**64 - 1)
SECONDS = st.floats(0, 4e9)
FILES = st.builds(
    EventFile,
    st.from_regex(r"\Ar[0-9]{10}-e[0-9]{20}\.evt\Z"),
    st.integers(1, 10**6),
    st.tuples(WORD, WORD),
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.integers(0, 2**40),
    st.from_regex(r"\A[0-9a-f]{64}\Z"),
)
DELIVERIES = st.builds(
    Delivery,
    st.sampled_from([FIRST, SECOND]),
    st.lists(st.builds(Interval, WORD, WORD), max_size=3).map(tuple),
    st.dictionaries(
        st.sampled_from([955, 956, 957, 965]), st.lists(st.tuples(WORD, WORD), min_size=1, max_size=3).map(tuple)
    ),
    st.lists(FILES, max_size=3).map(tuple),
    st.none() | st.tuples(SECONDS, SECONDS),
    st.none() | st.tuples(SECONDS, SECONDS),
    st.none() | st.integers(1, 9),
    st.none() | st.sampled_from(["lost"]),
)  # fmt: skip


def event_file(first: int, last: int) -> EventFile:
    name = f"r0741234567-e{first:020d}.evt"
    return EventFile(name, last - first + 1, (first, last), (741234567, 741234600), 4096, "0" * 64)


def delivery(downlink: DownlinkId, *spans: tuple[int, int]) -> Delivery:
    return Delivery(
        downlink,
        tuple(Interval(*span) for span in spans),
        {956: ((0, 9),)},
        tuple(event_file(*span) for span in spans),
        (1.5, 2.5) if spans else None,
        (1.25, 2.75) if spans else None,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "2c2e5787" / "journal.jsonl"


@given(DELIVERIES)
def test_a_delivery_comes_back(what: Delivery) -> None:
    assert Delivery.of(json.loads(json.dumps(what.as_json()))) == what
    assert what.events == sum(file.events for file in what.files)


def test_the_latest_line_of_a_downlink_counts(path: Path) -> None:
    journal = Journal(path)
    assert journal.latest() == {}
    journal.record(delivery(FIRST, (1, 9)))
    journal.record(delivery(SECOND, (10, 19)))
    journal.record(delivery(FIRST, (1, 9), (20, 29)))
    expected = {FIRST: delivery(FIRST, (1, 9), (20, 29)), SECOND: delivery(SECOND, (10, 19))}
    assert journal.latest() == expected
    assert Journal(path).latest() == expected
    assert len(path.read_bytes().splitlines()) == 3


def test_no_line_is_repeated(path: Path) -> None:
    for _ in range(3):
        Journal(path).record(delivery(FIRST, (1, 9)))
        Journal(path).record(delivery(SECOND, (10, 19)))
    assert len(path.read_bytes().splitlines()) == 2
    # A downlink that delivers what it had delivered before last says so.
    Journal(path).record(delivery(FIRST, (1, 8)))
    Journal(path).record(delivery(FIRST, (1, 9)))
    assert len(path.read_bytes().splitlines()) == 4
    assert Journal(path).latest()[FIRST] == delivery(FIRST, (1, 9))


def test_nothing_delivered_is_recorded_only_if_something_was_before(path: Path) -> None:
    journal = Journal(path)
    journal.record(delivery(FIRST))
    assert not path.exists()
    journal.record(delivery(FIRST, (1, 9)))
    journal.record(delivery(FIRST))
    journal.record(delivery(FIRST))
    assert len(path.read_bytes().splitlines()) == 2
    assert Journal(path).latest() == {FIRST: delivery(FIRST)}


def test_all_names_that_a_downlink_ever_delivered(path: Path) -> None:
    journal = Journal(path)
    journal.record(delivery(FIRST, (1, 9)))
    journal.record(delivery(SECOND, (10, 19)))
    journal.record(delivery(FIRST, (2, 9)))
    assert Journal(path).names(FIRST) == {event_file(1, 9).name, event_file(2, 9).name}
    assert Journal(path).names(DownlinkId("240601003")) == set()


def test_a_torn_last_line_is_ignored_and_reported(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Journal(path).record(delivery(FIRST, (1, 9)))
    whole = path.read_bytes()
    Journal(path).record(delivery(SECOND, (10, 19)))
    content = path.read_bytes()
    logging.getLogger("halfpipe").propagate = True  # a program of the same process may have turned it off
    for cut in range(len(whole) + 1, len(content)):
        path.write_bytes(content[:cut])
        caplog.clear()
        torn = Journal(path)
        assert torn.latest() == {FIRST: delivery(FIRST, (1, 9))}
        assert f"{path}: the last line is torn" in caplog.text
        torn.record(delivery(SECOND, (10, 19)))
        assert path.read_bytes() == content
    path.write_bytes(content[:10])
    assert Journal(path).latest() == {}  # a first line that is torn is no lost journal


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: entry.pop("spans"),
        lambda entry: entry.update(downlink="24060100"),
        lambda entry: entry.update(spans=[[1, 2, 3]]),
        lambda entry: entry.update(files=[{"name": "x"}]),
        lambda entry: entry.update(datagrams=[1]),
        lambda entry: entry.update(datagrams={"x": []}),
    ],
)
def test_a_line_that_is_no_delivery_is_named(damage: Any, path: Path) -> None:
    Journal(path).record(delivery(FIRST, (1, 9)))
    entry = delivery(SECOND, (10, 19)).as_json()
    damage(entry)
    with path.open("a") as out:
        out.write(json.dumps(entry) + "\n")
    with pytest.raises(StateError, match=rf"{path}, line 2: damaged .*Restore the file from a backup"):
        Journal(path)


def test_a_line_that_is_not_json_is_named(path: Path) -> None:
    Journal(path).record(delivery(FIRST, (1, 9)))
    content = path.read_bytes()
    path.write_bytes(b"\x00" * 100 + b"\n" + content)
    with pytest.raises(StateError, match=rf"{path}, line 1: damaged"):
        Journal(path)


def test_what_earlier_deliveries_covered_stays_closed(path: Path) -> None:
    journal = Journal(path)
    for spans in [(1, 9), (20, 29)], [(1, 5), (20, 29)], [(20, 25)]:
        journal.record(delivery(FIRST, *spans))
    journal.record(delivery(SECOND, (30, 39)))
    for read in (journal, Journal(path)):
        assert read.closed(FIRST) == ((1, 9), (26, 29))
        assert [d.spans for d in read.earlier()[FIRST]] == [((1, 9), (20, 29)), ((1, 5), (20, 29))]
        assert read.closed(SECOND) == ()
        assert read.covered(FIRST) == ((1, 9), (20, 29))
        assert read.latest()[FIRST] == delivery(FIRST, (20, 25))
    journal.record(delivery(FIRST, (1, 9), (20, 29)))
    assert journal.closed(FIRST) == ()
    assert journal.earlier() == {}


def test_a_release_opens_what_was_closed_and_nothing_else(path: Path) -> None:
    journal = Journal(path)
    for downlink in (FIRST, SECOND):
        start = 1 if downlink == FIRST else 101
        journal.record(delivery(downlink, (start, start + 8)))
        journal.record(delivery(downlink, (start, start + 3)))
    journal.record(Release(FIRST, "rolled back", "me on here", "2026-11-26T00:00:00+00:00"))
    for read in (journal, Journal(path)):
        assert read.closed(FIRST) == ()
        assert read.closed(SECOND) == ((105, 109),)
        assert read.latest()[FIRST] == delivery(FIRST, (1, 4))
        assert read.covered(FIRST) == ((1, 9),), "what was ever delivered is known all the same"
    journal.record(delivery(FIRST))
    assert journal.closed(FIRST) == ((1, 4),)


def test_what_another_delivered_since_is_its_own(path: Path) -> None:
    """The version before forgot what a downlink did not deliver again, and another could have it."""
    journal = Journal(path)
    for one in (delivery(FIRST, (1, 9)), delivery(FIRST, (1, 4)), delivery(SECOND, (5, 7))):
        journal.record(one)
    for read in (journal, Journal(path)):
        assert read.closed(FIRST) == ((8, 9),)
        assert read.closed(SECOND) == ()


def test_a_line_of_the_version_before(path: Path) -> None:
    """It knows no number of a hand-off; the next delivery has one."""
    before = delivery(FIRST, (1, 9))
    assert "handoff" not in before.as_json()
    journal = Journal(path)
    journal.record(before)
    journal.record(replace(before, handoff=2, accepted="lost"))
    first, second = map(json.loads, path.read_text().splitlines())
    assert second == first | {"handoff": 2, "accepted": "lost"}
    assert Journal(path).deliveries == journal.deliveries


def test_what_cannot_be_written_is_not_recorded(path: Path) -> None:
    path.mkdir(parents=True)
    journal = Journal.__new__(Journal)
    with pytest.raises((HalfPipeError, IsADirectoryError)):
        journal.__init__(path)  # type: ignore[misc]
