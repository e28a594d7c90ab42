"""Decode one chunk of SIMULATED level-0; `scripts/simulated_decoder.py` calls this module.

A defect of the data is reported in a line `PktRetriever exception ...` (packets) or `DFI exception ...` (datagrams),
and is not a failure. Flight data need the flight decoder; here they are reported as defects.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from halfpipe.files.durable import replacing, write_whole
from halfpipe.formats import evt
from halfpipe.formats.retdef import RetDef
from halfpipe_simulator.datagrams import Decoded, decode, run_of, sound_datagrams
from halfpipe_simulator.index_lines import dgm_lines, evt_lines
from halfpipe_simulator.packet_reader import Retrieval, read_datagrams

BATCH = 1 << 21  # bytes of datagrams decoded at a time, so that they stay in the processor's cache


@dataclass
class Product:
    """An event file and its index while they are written; `file` is the name of the event file."""

    file: str
    records: IO[bytes]
    index: IO[bytes]
    size: int = evt.HEADER_SIZE
    events: int = 0
    seconds: list[int] = field(default_factory=list)  # of the first and the last event in each call of `add`
    sequences: list[int] = field(default_factory=list)

    def add(self, decoded: Decoded) -> None:
        """Append the records, and for each datagram the lines of its events and its own line."""
        lines = decoded.lines
        data = np.frombuffer(decoded.records, np.uint8)
        ends = evt.context_column(data, lines["offset"][[0, -1]], "current_timeSecs")
        lines["offset"] += self.size
        write_whole(self.records, decoded.records)
        self.size += len(decoded.records)
        self.events += lines.size
        self.seconds += ends.tolist()
        self.sequences += lines["sequence"][[0, -1]].tolist()
        of_events = evt_lines(lines, self.file)
        edges = pairwise(np.append(0, np.cumsum(decoded.datagrams.nevts, dtype=np.int64)).tolist())
        for (begin, end), line in zip(edges, dgm_lines(decoded.datagrams), strict=True):
            write_whole(self.index, of_events[begin:end].tobytes() + line.encode())


@contextmanager
def product(out: Path, name: str, downlink: int) -> Iterator[Product]:
    """Open an event file and its index in the directory `out`; they get their final names at the end."""
    with (
        replacing(out / f"{name}.idx", buffering=0) as index,
        replacing(out / f"{name}.evt", buffering=0) as records,
    ):
        write_whole(records, bytes(evt.HEADER_SIZE))
        made = Product(f"{name}.evt", records, index)
        yield made
        header = evt.pack_header(
            runid=downlink,
            seconds=(made.seconds[0], made.seconds[-1]),
            sequences=(made.sequences[0], made.sequences[-1]),
            events=made.events,
            moot_key=evt.MOOT_UNSET_KEY,
            moot_alias=evt.MOOT_UNSET_ALIAS,
        )
        records.seek(0)
        write_whole(records, header)


def batches(packets: Retrieval) -> Iterator[tuple[tuple[int, int], dict[int, bytes]]]:
    """Yield the valid datagrams, by number, in batches of one ground id and run start (MET seconds)."""
    batch: dict[int, bytes] = {}
    run = (0, 0)
    size = 0
    for number, datagram in sound_datagrams(packets, sys.stdout):
        own = run_of(datagram)
        if batch and (own != run or size > BATCH):
            yield run, batch
            packets.let_go()
            batch = {}
            size = 0
        run = own
        batch[number] = datagram
        size += len(datagram)
    if batch:
        yield run, batch


def decode_chunk(retdef: RetDef, downlink: int, level0: Path, out: Path, latc: int | None) -> int:
    """Decode the packets in the spans of `retdef`; return the number of events.

    Raises
    ------
    MissingInputError
        If the archive does not exist.
    HalfPipeError
        If the products cannot be written.
    """
    products: dict[str, Product] = {}
    with ExitStack() as stack:
        for apid in sorted({span.apid for span in retdef.spans}):
            spans = [(span.begin, span.end) for span in retdef.spans if span.apid == apid]
            packets = read_datagrams(level0, retdef.scid, apid, spans)
            for fault in packets.faults:
                print(fault)
            stamps: NDArray[np.int64] = packets.packets["unix"][packets.begins]
            for (groundid, startedat), batch in batches(packets):
                name = f"{groundid:08x}-{startedat:08x}-{apid:04d}-{retdef.chunk}"
                if name not in products:
                    print(f"getLSEChunk: processing {name}")
                    products[name] = stack.enter_context(product(out, name, downlink))
                products[name].add(decode(list(batch.values()), stamps[list(batch)], latc=latc))
    return sum(product.events for product in products.values())
