"""What Level-1 accepts, compared with a slow model of its tests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.formats.evt import pack_header
from halfpipe.ids import DownlinkId
from halfpipe.merge.intervals import Interval
from halfpipe.run.deliveries import Deliveries, Delivery, EventFile
from halfpipe.run.level1_acceptance import MAX_FILES, failures, refusals
from tests.support.level1 import DL, RUN, Level1
from tests.support.level1_accepts import MAX_CHUNKS, level_1_takes


def file(first: int, last: int, begin: int, end: int, events: int, name: str | None = None) -> EventFile:
    return EventFile(name or f"r0741234567-e{first:020d}.evt", events, (first, last), (begin, end), 176, "")


def good(count: int = 4) -> list[EventFile]:
    """Return files that Level-1 accepts: 100 sequences and 10 seconds each."""
    return [file(100 * i, 100 * i + 99, 10 * i, 10 * i + 10, 50) for i in range(1, count + 1)]


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({"events": 1}, 1), ({"events": 2}, 0), ({"events": 102}, 0), ({"events": 103}, 1),
        ({"seconds": (20, 19)}, 1), ({"seconds": (20, 30)}, 0), ({"seconds": (20, 31)}, 1),
        ({"seconds": (90, 95)}, 2), ({"sequences": (200, 300)}, 1), ({"sequences": (200, 199), "events": 2}, 1),
        ({"name": "r0741234567-e00000000000000000900.evt"}, 1),
    ],
)  # fmt: skip
def test_each_reason_for_a_refusal(change: dict[str, object], reasons: int) -> None:
    run = good()
    run[1] = replace(run[1], **change)  # type: ignore[arg-type]
    assert len(refusals(run)) == reasons
    assert (reasons == 0) == level_1_takes(run)


def test_too_many_files_and_sequences_above_32_bits() -> None:
    assert MAX_FILES == MAX_CHUNKS
    assert [len(refusals(good(MAX_CHUNKS + more))) for more in (0, 1)] == [0, 1]
    assert not level_1_takes(good(MAX_CHUNKS + 1))
    first = 2**63
    assert refusals([file(first, first + 9, 0, 5, 10), file(first + 10, first + 19, 5, 5, 12)]) == []


FILE = f"{RUN.l1}/{paths.event_file(RUN.l1, 1)}"


def header(sequences: tuple[int, int], **other: Any) -> bytes:
    good: dict[str, Any] = {"runid": int(DL), "seconds": (1, 2), "events": 2, "moot_key": 0, "moot_alias": ""}
    return pack_header(sequences=sequences, **good | other)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (FILE, header((1, 2), events=1)), (FILE, header((1, 2), events=9)), (FILE, header((1, 2), seconds=(3, 2))),
        (FILE, header((2, 3))), (FILE, b"\0" * 176), (FILE, header((1, 2))[:100]),
        (f"{RUN.l1}/{paths.event_file(RUN.l1, 2)}", header((2, 5))),
        (f"{RUN.l1}/{paths.event_file(RUN.l1, 20)}", header((20, 25), seconds=(0, 0))),
        ("logs/1.txt", b""),
        (f"delivered_events_{DL}.txt", f"{RUN.l1} 2 0\n".encode()),
        (f"delivered_events_{DL}.txt", f"{RUN.l1} 2 0 LPA\n\n".encode()),
        (f"retired_runs_{DL}.txt", f"{RUN.l1} Complete\n".encode()),
        (f"retired_runs_{DL}.txt", b"r0000000001 COMPLETE\n"),
    ],
)  # fmt: skip
def test_the_stage_is_read_as_level1_reads_it(tmp_path: Path, name: str, content: bytes) -> None:
    level1 = Level1(tmp_path)
    level1.hand_off()
    home = level1.stage / DL
    for text, line in (("delivered_events", "2 0 LPA"), ("retired_runs", "COMPLETE")):
        (home / paths.text(text, DL)).write_text(f"{RUN.l1} {line}\n")
    assert list(failures(level1.stage, level1.work, DL)) == []
    (home / name).parent.mkdir(exist_ok=True)
    (home / name).write_bytes(content)
    assert list(failures(level1.stage, level1.work, DL)) != []


def test_the_stage_is_compared_with_other_downlinks_of_the_run(tmp_path: Path) -> None:
    level1 = Level1(tmp_path)
    level1.hand_off()
    other = replace(file(2, 9, 1, 2, 5), name=paths.event_file(RUN.l1, 2))
    for downlink, refused in ((DL, False), (DownlinkId("240601002"), True)):
        delivery = Delivery(downlink, (Interval(2, 9),), {}, (other,), (0.0, 1.0), (0.0, 1.0))
        Deliveries(level1.work, RUN).publish(delivery)
        assert bool(list(failures(level1.stage, level1.work, DL))) is refused
