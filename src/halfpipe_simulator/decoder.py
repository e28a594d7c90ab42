"""Decode one chunk of SIMULATED level-0: what is behind `scripts/simulated_decoder.py`.

A fault of the data is one line `PktRetriever exception ...` (packets) or `DFI exception ...` (datagrams)
and no failure. Flight data need the flight decoder: what this one does not know it reports.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import HalfPipeError
from halfpipe.files.durable import write_bytes, write_text
from halfpipe.formats import evt
from halfpipe.formats.level0 import Retrieval, retrieve
from halfpipe.formats.retdef import RetDef, ids_of, read_retdef
from halfpipe_simulator.datagrams import Decoded, complaint_of, decode, run_of
from halfpipe_simulator.index_lines import dgm_lines, evt_lines


def write_products(out: Path, name: str, decoded: Decoded, downlink: int) -> None:
    """Write an event file and its index: the lines of each datagram are its events, then itself."""
    lines = decoded.lines
    lines["offset"] += evt.HEADER_SIZE
    ends = [0, -1] if lines.size else []
    header = evt.pack_header(
        runid=downlink,
        seconds=_first_and_last(decoded.seconds[ends]),
        sequences=_first_and_last(lines["sequence"][ends]),
        events=lines.size,
        moot_key=evt.MOOT_UNSET_KEY,
        moot_alias=evt.MOOT_UNSET_ALIAS,
    )
    write_bytes(out / f"{name}.evt", header + decoded.records)
    events = evt_lines(lines, f"{name}.evt")
    index = (
        "".join((*islice(events, count), line))
        for count, line in zip(decoded.datagrams["nevts"].tolist(), dgm_lines(decoded.datagrams), strict=True)
    )
    write_text(out / f"{name}.idx", "".join(index))


def _first_and_last(of_events: NDArray[Any]) -> tuple[int, int]:
    return (int(of_events[0]), int(of_events[-1])) if of_events.size else (0, 0)


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


def decode_chunk(retdef: RetDef, downlink: int, level0: Path, out: Path, latc: int | None) -> int:
    """Decode all that lies in the spans of `retdef`; return the number of events.

    Raises
    ------
    MissingInputError
        If the archive is not there.
    HalfPipeError
        If the products cannot be written.
    """
    total = 0
    for apid in sorted({span.apid for span in retdef.spans}):
        spans = [(span.begin, span.end) for span in retdef.spans if span.apid == apid]
        packets = retrieve(level0, retdef.scid, apid, spans)
        for fault in packets.faults:
            print(fault)
        stamps: NDArray[np.int64] = packets.packets["unix"][packets.begins]
        by_run: dict[tuple[int, int], dict[int, bytes]] = {}
        for number, datagram in sound_datagrams(packets):
            by_run.setdefault(run_of(datagram), {})[number] = datagram
        for (groundid, startedat), own in by_run.items():
            name = f"{groundid:08x}-{startedat:08x}-{apid:04d}-{retdef.chunk}"
            print(f"getLSEChunk: processing {name}")
            decoded = decode(list(own.values()), stamps[list(own)], latc=latc)
            write_products(out, name, decoded, downlink)
            total += decoded.lines.size
    return total


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
