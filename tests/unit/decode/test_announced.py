"""Datagrams against events: what is announced and not there is counted, what contradicts is refused."""

from pathlib import Path

import pytest

from halfpipe.decode.announced import too_many
from halfpipe.decode.chunk_products import check_products
from halfpipe.errors import FormatError
from halfpipe.ids import ChunkId
from tests.support.bad_decoder import FAULTS
from tests.support.golden_cases import GOLDEN

SOURCE = GOLDEN / "multi3" / "in" / "240601001"
CHUNK = ChunkId("00003")
STEM = "00770155-2c2e6cc0-0965-00003"
COUNTS = ("events", "announced", "missing_events", "unannounced_events")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A directory with good products: 40 events in 5 datagrams."""
    for suffix in (".evt", ".idx"):
        (tmp_path / (STEM + suffix)).write_bytes((SOURCE / (STEM + suffix)).read_bytes())
    return tmp_path


def lines(out: Path) -> list[bytes]:
    return (out / f"{STEM}.idx").read_bytes().splitlines(keepends=True)


def checked(out: Path, *, again: bool = False) -> tuple[object, ...]:
    entry = check_products(out, CHUNK, again=again)[1]
    return tuple(entry[key] for key in COUNTS)


@pytest.mark.parametrize(
    ("fault", "counts"),
    [
        (None, (40, 40, 0, 0)),
        ("empty-index", (0, 40, 40, 0)),  # it misses all that the event file holds
        ("line-less", (39, 40, 1, 0)),
        ("no-lines", (0, 40, 40, 0)),
    ],
)
def test_lines_that_are_left_out_are_missing_events(
    out: Path, fault: str | None, counts: tuple[object, ...]
) -> None:
    if fault is not None:
        FAULTS[fault](out)
    assert checked(out) == counts


def test_what_no_line_knows_is_missing_if_it_is_a_record_and_counted_in_bytes(out: Path) -> None:
    content = (out / f"{STEM}.evt").read_bytes()
    last = max(int(line.split()[13]) for line in lines(out) if line[:4] == b"EVT:")
    (out / f"{STEM}.evt").write_bytes(content + content[last:])
    assert checked(out) == (40, 41, 1, 0)
    (out / f"{STEM}.evt").write_bytes(content + bytes(1000))
    assert checked(out) == (40, 40, 0, 0)
    assert check_products(out, CHUNK)[1]["uncovered_bytes"] == 1000
    FAULTS["empty-index"](out)
    assert checked(out) == (0, 0, 0, 0), "records cannot be told apart"
    assert check_products(out, CHUNK)[1]["uncovered_bytes"] == len(content) + 1000 - 176


@pytest.mark.parametrize("content", [b"", b"nothing of an event file", None])
def test_an_event_file_that_no_line_names(out: Path, content: bytes | None) -> None:
    FAULTS["empty-index"](out)
    file = out / f"{STEM}.evt"
    file.write_bytes(file.read_bytes()[:176] if content is None else content)
    entry = check_products(out, CHUNK)[1]
    assert entry["missing_events"] == 0
    assert entry["uncovered_bytes"] == len(content or b"")


def test_a_datagram_that_was_decoded_twice_misses_nothing(out: Path) -> None:
    (out / f"{STEM}.idx").write_bytes(b"".join(lines(out) * 2))
    assert checked(out) == (80, 40, 0, 0)


def test_events_of_no_datagram_are_counted(out: Path) -> None:
    kept = [line for line in lines(out) if line.split()[:6:5] != [b"DGM:", b"2"]]
    assert len(kept) == len(lines(out)) - 1
    (out / f"{STEM}.idx").write_bytes(b"".join(kept))
    events, announced, missing, unannounced = checked(out)
    assert (events, missing) == (40, 0)
    assert unannounced == 40 - int(str(announced))


def test_more_events_than_are_announced_are_counted(out: Path) -> None:
    every = lines(out)
    at = max(number for number, line in enumerate(every) if line[:4] == b"DGM:" and line.split()[20] != b"0")
    fields = every[at].split()
    fields[20] = str(int(fields[20]) - 1).encode()
    every[at] = b" ".join(fields) + b"\n"
    (out / f"{STEM}.idx").write_bytes(b"".join(every))
    assert checked(out) == (40, 39, 0, 1)


def test_two_lines_of_one_datagram_that_differ_allow_what_any_of_them_allows(out: Path) -> None:
    good = lines(out)
    FAULTS["ends-later"](out)
    other = [line for line in lines(out) if line not in good]
    assert len(other) == 1
    (out / f"{STEM}.idx").write_bytes(b"".join([*good, *other]))
    assert checked(out) == (40, 40, 0, 0)


@pytest.mark.parametrize("fault", ["ends-later", "begins-later", "ends-sooner"])
def test_what_contradicts_is_refused_unless_it_was_taken_before(out: Path, fault: str) -> None:
    FAULTS[fault](out)
    with pytest.raises(FormatError, match=r"Nothing of this chunk was taken. Fix the decoder"):
        checked(out)
    assert checked(out, again=True)[0] == 40


def test_an_end_that_was_never_reached_does_not_contradict_a_datagram_that_lost_events(out: Path) -> None:
    every = lines(out)
    last = max(number for number, line in enumerate(every) if line[:4] == b"EVT:")
    (out / f"{STEM}.idx").write_bytes(b"".join(every[:last] + every[last + 1 :]))
    assert checked(out) == (39, 40, 1, 0)


def test_how_many_are_too_many(out: Path) -> None:
    FAULTS["line-less"](out)
    files = check_products(out, CHUNK)
    assert too_many(files, None) is None
    assert too_many(files, 1 / 40) is None
    assert too_many(files, 0.02) == "1 of 40 events are missing (run 2c2e6cc0, APID 0965: 1 of 40)"
    assert too_many([], 0) is None
