"""What Level-1 accepts, compared with a slow model of its tests."""

import pytest
from msgspec.structs import replace

from halfpipe.staging.level1_acceptance import MAX_FILES, refusals
from halfpipe.state.deliveries import EventFile
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
    run[1] = replace(run[1], **change)
    assert len(refusals(run)) == reasons
    assert (reasons == 0) == level_1_takes(run)


def test_too_many_files_and_sequences_above_32_bits() -> None:
    assert MAX_FILES == MAX_CHUNKS
    assert [len(refusals(good(MAX_CHUNKS + more))) for more in (0, 1)] == [0, 1]
    assert not level_1_takes(good(MAX_CHUNKS + 1))
    first = 2**63
    assert refusals([file(first, first + 9, 0, 5, 10), file(first + 10, first + 19, 5, 5, 12)]) == []
