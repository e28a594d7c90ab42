"""What Level-1 accepts: a slow model of its test, written from the format notes (ground-chain §6).

It checks the conditions in the order of the notes, independently of HalfPipe's own check.
"""

from collections.abc import Sequence
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
        beg_gem, end_gem = chunk.sequences
        beg_sec, end_sec = chunk.seconds
        length = end_gem - beg_gem + 1
        if not chunk.events > 1:
            return False
        if not length > 0:
            return False
        if not chunk.events <= length + 2:  # two duplicated sweep events are allowed
            return False
        if not beg_sec <= end_sec:
            return False
    by_gem = sorted(range(len(chunks)), key=lambda i: chunks[i].sequences[0])
    by_time = sorted(range(len(chunks)), key=lambda i: (*chunks[i].seconds, chunks[i].sequences[0]))
    by_name = sorted(range(len(chunks)), key=lambda i: chunks[i].name)
    if not by_gem == by_time == by_name:
        return False
    previous = None
    for i in by_gem:
        chunk = chunks[i]
        if previous is not None:
            if not chunk.sequences[0] > previous.sequences[1]:
                return False
            if not chunk.seconds[0] >= previous.seconds[1]:
                return False
        previous = chunk
    return True
