"""What Level-1 accepts: a slow model of its test, written from the format notes (ground-chain §6).

It checks the conditions in the order of the notes, independently of HalfPipe's own check.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

MAX_CHUNKS = 1000


class File(Protocol):
    """The properties of an event file that the test uses."""

    @property
    def name(self) -> str: ...
    @property
    def events(self) -> int: ...
    @property
    def sequences(self) -> tuple[int, int]: ...
    @property
    def seconds(self) -> tuple[int, int]: ...


def level_1_takes(chunks: Sequence[File]) -> bool:
    """Tell whether Level-1's `chunkTester` accepts the chunk list of a run (ground-chain §6, evt header checks)."""
    if not 1 <= len(chunks) <= MAX_CHUNKS:
        return False
    for chunk in chunks:
        (beg_gem, end_gem) = chunk.sequences
        (beg_sec, end_sec) = chunk.seconds
        length = end_gem - beg_gem + 1
        # Two duplicated sweep events are allowed.
        if not (1 < chunk.events <= length + 2 and length > 0 and beg_sec <= end_sec):
            return False
    by_gem = sorted(chunks, key=lambda chunk: chunk.sequences[0])
    by_time = sorted(chunks, key=lambda chunk: (*chunk.seconds, chunk.sequences[0]))
    by_name = sorted(chunks, key=lambda chunk: chunk.name)
    return by_gem == by_time == by_name and all(
        after.sequences[0] > before.sequences[1] and after.seconds[0] >= before.seconds[1]
        for before, after in pairwise(by_gem)
    )
