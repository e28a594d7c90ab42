"""Chunks of one EPU, for the tests of the merge."""

from collections.abc import Mapping, Sequence

from tests.support.model import Chunk, Datagram, Event


def chunk_of(apid: int, datagrams: Mapping[int, Sequence[int]], closing: int | None = None) -> Chunk:
    """Return a chunk from the sequences of its datagrams; number 0 opens the EPU, and `closing` ends it."""
    lines = []
    for n, of in datagrams.items():
        opens = "start" if n == 0 else "continue"
        closes = "stop" if n == closing else "continue"
        lines.append(Datagram(apid, n, opens, closes, len(of), of[0], of[-1]))
    events = tuple(Event(one, apid, n, one) for n, of in datagrams.items() for one in of)
    return Chunk(f"0077014d-2c2e5787-0{apid}-{len(events):05}.idx", events, tuple(lines))
