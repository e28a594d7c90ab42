"""Attitude and orbit as lines, from SIMULATED magic-7 packets: what is behind `scripts/simulated_magic7.py`.

They are the ATT and ORB lines that Level-1 reads (ground-chain §5). Faults are lines
`PktRetriever exception ...` on standard error and no failure.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import FormatError, HalfPipeError
from halfpipe.formats import met
from halfpipe.formats.level0 import Retrieval, retrieve
from halfpipe_simulator import magic7

# A packet's time is that of its echo, so records of the window's end may stand in a later packet.
LAST_ECHO = 60  # seconds
BLOCK = 256  # datagrams that are printed at a time

Datagram = tuple[NDArray[np.void], NDArray[np.void]]  # attitudes, ancillary records


def lines_of(form: str, records: NDArray[np.void], *columns: NDArray[Any]) -> list[str]:
    """Return a line of each record: `form` of its date, its MET, and the numbers of its row of `columns`."""
    if not records.size:
        return []
    seconds, microseconds = records["seconds"], records["microseconds"]
    dates = np.datetime_as_string(met.unix_microseconds(seconds, microseconds).view("M8[us]")).tolist()
    cells = ["\n".join(dates).replace("T", " ").split("\n"), seconds.tolist(), microseconds.tolist()]
    for column in columns:
        cells += column.reshape(records.size, -1).T.tolist()
    return list(map(form.__mod__, zip(*cells, strict=True)))


def attitude_lines(records: NDArray[np.void]) -> list[str]:
    """Return the ATT lines of records (dtype `magic7.ATTITUDE`)."""
    form = "%s ATT %d %d" + 4 * " %.17g" + 3 * " %f"
    return lines_of(form, records, records["quaternion"], records["rates"])


def orbit_lines(records: NDArray[np.void]) -> list[str]:
    """Return the ORB lines of records (dtype `magic7.ANCILLARY`)."""
    form = "%s ORB %d %d" + 6 * " %f" + " %d %d"
    in_saa = records["flags"] & magic7.FLAG_IN_SAA
    return lines_of(form, records, records["position"], records["velocity"], records["mode"], in_saa)


def lines_in_order(datagrams: Sequence[Datagram], window: tuple[int, int]) -> list[str]:
    """Return the lines of a window of Unix UTC microseconds, edges included.

    Datagram by datagram, in each by MET, and at one time that of the attitude first.
    """
    lines: list[str] = []
    numbers, times = [], []
    for kind, spell in enumerate((attitude_lines, orbit_lines)):
        records = np.concatenate([datagram[kind] for datagram in datagrams])
        number = np.repeat(np.arange(len(datagrams)), [datagram[kind].size for datagram in datagrams])
        unix = met.unix_microseconds(records["seconds"], records["microseconds"])
        wanted = (window[0] <= unix) & (unix <= window[1])
        records = records[wanted]
        lines += spell(records)
        numbers.append(number[wanted])
        times.append(records["seconds"].astype(np.int64) * met.MICROSECONDS + records["microseconds"])
    order = np.lexsort((np.concatenate(times), np.concatenate(numbers)))
    return [lines[number] for number in order.tolist()]


def magic7_lines(root: Path, scid: int, begin: float, end: float) -> Iterator[list[str]]:
    """Yield the lines of all records from `begin` to `end` (Unix UTC seconds), the first an ATT line.

    They come in lists, each of the lines of some datagrams.

    Raises
    ------
    MissingInputError
        If the archive is not there.
    """
    window = (round(begin * met.MICROSECONDS), round(end * met.MICROSECONDS))
    packets = retrieve(root, scid, magic7.APID, [(begin, end + LAST_ECHO)])
    for fault in packets.faults:
        print(fault, file=sys.stderr)
    attitude_seen = False
    for start in range(0, len(packets), BLOCK):
        datagrams = list(decoded(packets, range(start, min(start + BLOCK, len(packets)))))
        lines = lines_in_order(datagrams, window) if datagrams else []
        if not attitude_seen:
            first = next((number for number, line in enumerate(lines) if " ATT " in line), len(lines))
            lines = lines[first:]
        if lines:
            attitude_seen = True
            yield lines


def decoded(packets: Retrieval, numbers: Iterable[int]) -> Iterator[Datagram]:
    """Yield what stands in those datagrams that can be decoded, report the others."""
    for number in numbers:
        try:
            yield magic7.decode(packets.payload(number))
        except FormatError as error:
            file, offset = packets.place(number)
            print(f"DFI exception: {file} at byte {offset}: {error}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the lines of the window that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(description="Print attitude and orbit from SIMULATED level-0.")
    parser.add_argument("--arch", type=Path, required=True, help="root of the simulated level-0 archive")
    parser.add_argument("--scid", type=int, required=True, help="spacecraft id: 77 is flight")
    parser.add_argument("-b", "--begin", type=float, required=True, help="Unix UTC seconds")
    parser.add_argument("-e", "--end", type=float, required=True, help="Unix UTC seconds")
    parser.add_argument(
        "--lsm", action="store_true", help="accepted for the contract: magic-7 is all there is"
    )
    args = parser.parse_args(argv)
    print("simulated_magic7: reads SIMULATED level-0 only", file=sys.stderr)
    if not args.begin <= args.end:
        parser.error(f"-b {args.begin} is after -e {args.end}")
    try:
        for lines in magic7_lines(args.arch, args.scid, args.begin, args.end):
            print("\n".join(lines))
    except HalfPipeError as error:
        print(f"simulated_magic7: {error}", file=sys.stderr)
        return 1
    return 0
