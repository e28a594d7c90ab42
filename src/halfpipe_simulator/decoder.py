"""Decode one chunk of SIMULATED level-0: what is behind `scripts/simulated_decoder.py`.

A fault of the data is one line `PktRetriever exception ...` (packets) or `DFI exception ...` (datagrams)
and no failure. Flight data need the flight decoder: what this one does not know it reports.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import HalfPipeError
from halfpipe.files.durable import replacing, write_whole
from halfpipe.formats import evt
from halfpipe.formats.level0 import Retrieval, retrieve
from halfpipe.formats.retdef import RetDef, ids_of, read_retdef
from halfpipe.ids import RunId
from halfpipe_simulator.datagrams import Decoded, complaint_of, decode, run_of
from halfpipe_simulator.index_lines import dgm_lines, evt_lines

BATCH = 1 << 21  # bytes of datagrams that are decoded at a time


@dataclass
class Product:
    """Event file and index of one ground id, run and APID while they grow."""

    name: str
    events: IO[bytes]
    index: IO[bytes]
    size: int = evt.HEADER_SIZE
    count: int = 0
    seconds: tuple[int, int] = (0, 0)
    sequences: tuple[int, int] = (0, 0)

    @classmethod
    def begin(cls, out: Path, name: str, stack: ExitStack) -> Self:
        """Begin the two files; they get their names when the whole chunk is decoded."""
        print(f"getLSEChunk: processing {name}")
        events, index = (
            stack.enter_context(replacing(out / f"{name}.{kind}", buffering=0)) for kind in ("evt", "idx")
        )
        write_whole(events, bytes(evt.HEADER_SIZE))
        return cls(name, events, index)

    def add(self, decoded: Decoded) -> None:
        """Append the records, and the lines of each datagram: its events, then itself."""
        lines = decoded.lines
        lines["offset"] += self.size
        write_whole(self.events, decoded.records)
        self.size += len(decoded.records)
        if lines.size:
            first = (int(decoded.seconds[0]), int(lines["sequence"][0]))
            self.seconds = (self.seconds[0] if self.count else first[0], int(decoded.seconds[-1]))
            self.sequences = (self.sequences[0] if self.count else first[1], int(lines["sequence"][-1]))
            self.count += lines.size
        events = evt_lines(lines, f"{self.name}.evt")
        counts = decoded.datagrams["nevts"].tolist()
        index = (
            "".join((*islice(events, count), line))
            for count, line in zip(counts, dgm_lines(decoded.datagrams), strict=True)
        )
        write_whole(self.index, "".join(index).encode())

    def finish(self, downlink: int) -> None:
        """Write the header, which says how many events there are."""
        self.events.seek(0)
        write_whole(
            self.events,
            evt.pack_header(
                runid=downlink,
                seconds=self.seconds,
                sequences=self.sequences,
                events=self.count,
                moot_key=evt.MOOT_UNSET_KEY,
                moot_alias=evt.MOOT_UNSET_ALIAS,
            ),
        )


def sound_datagrams(packets: Retrieval) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each datagram that can be decoded; print what is wrong with the others."""
    for number in range(len(packets)):
        datagram = packets.payload(number)
        complaint = complaint_of(datagram)
        if complaint is None:
            yield number, datagram
            continue
        file, offset = packets.place(number)
        print(f"DFI exception: {file} at byte {offset}: {complaint}")


def batches(packets: Retrieval) -> Iterator[tuple[tuple[int, int], list[int], list[bytes]]]:
    """Yield datagrams of one run in batches: (ground id, run start), their numbers, their bytes."""
    run: tuple[int, int] | None = None
    numbers: list[int] = []
    datagrams: list[bytes] = []
    size = 0
    for number, datagram in sound_datagrams(packets):
        own = run_of(datagram)
        if run is not None and (own != run or size > BATCH):
            yield run, numbers, datagrams
            numbers, datagrams, size = [], [], 0
        run = own
        numbers.append(number)
        datagrams.append(datagram)
        size += len(datagram)
    if run is not None:
        yield run, numbers, datagrams


def decode_chunk(retdef: RetDef, downlink: int, level0: Path, out: Path, latc: int | None) -> int:
    """Decode all that lies in the spans of `retdef`; return the number of events.

    Raises
    ------
    MissingInputError
        If the archive is not there.
    HalfPipeError
        If the products cannot be written.
    """
    products: dict[tuple[int, int, int], Product] = {}  # by ground id, run and APID
    with ExitStack() as stack:
        for apid in sorted({span.apid for span in retdef.spans}):
            spans = [(span.begin, span.end) for span in retdef.spans if span.apid == apid]
            packets = retrieve(level0, retdef.scid, apid, spans)
            for fault in packets.faults:
                print(fault)
            stamps: NDArray[np.int64] = packets.packets["unix"][packets.begins]
            for (groundid, startedat), numbers, datagrams in batches(packets):
                key = (groundid, startedat, apid)
                if key not in products:
                    name = f"{groundid:08x}-{startedat:08x}-{apid:04d}-{retdef.chunk.number:05d}"
                    products[key] = Product.begin(out, name, stack)
                products[key].add(decode(datagrams, stamps[numbers], latc=latc))
        for product in products.values():
            product.finish(downlink)
        others = {RunId.from_met(start) for _, start, _ in products} - {retdef.run}
    for run in sorted(others):
        print(f"run {run} was found too, the RetDef names {retdef.run} only")
    return sum(product.count for product in products.values())


def main(argv: Sequence[str] | None = None) -> int:
    """Decode the chunk that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(description="Decode one chunk of SIMULATED level-0.")
    parser.add_argument("-r", "--retdef", type=Path, required=True, help="what to retrieve: a RetDef file")
    parser.add_argument("-o", "--out", type=Path, required=True, help="directory of the products")
    parser.add_argument("-k", "--latc", type=lambda text: int(text, 0), help="LATC_master of LPA records")
    parser.add_argument("--level0", type=Path, required=True, help="root of the simulated level-0 archive")
    args = parser.parse_args(argv)
    if args.latc is not None and not 0 <= args.latc < 2**32:
        parser.error(f"-k {args.latc} is no number of 32 bits")
    print("simulated_decoder: the built-in decoder, for SIMULATED level-0 only")
    try:
        retdef = read_retdef(args.retdef)
        downlink, _ = ids_of(args.retdef)
        events = decode_chunk(retdef, downlink.number, args.level0, args.out, args.latc)
    except HalfPipeError as error:
        print(f"simulated_decoder: {error}", file=sys.stderr)
        return 1
    print(f"simulated_decoder: {events} simulated events")
    return 0
