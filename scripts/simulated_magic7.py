#!/usr/bin/env python3
"""Print attitude and orbit from SIMULATED magic-7 packets: the built-in program behind that contract.

Called as `simulated_magic7.py --arch ROOT --scid 77 -b T0 -e T1 --lsm` with Unix UTC seconds. Prints
the ATT and ORB lines that Level-1 reads (ground-chain §5). Faults are lines `PktRetriever exception ...`
on standard error and no failure.
"""

import argparse
import heapq
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import FormatError, HalfPipeError
from halfpipe.formats import met, simulated
from halfpipe.formats.level0 import retrieve

Line = tuple[int, str]  # MET microseconds, text

# A packet's time is that of its echo, so records of the window's end may stand in a later packet.
LAST_ECHO = 60  # seconds
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def stamps(records: NDArray[np.void]) -> Iterator[tuple[int, int, str]]:
    """Yield MET and Unix UTC microseconds and the first words of the line of each record, but its tag."""
    unix = met.unix_microseconds(records["seconds"], records["microseconds"])
    for time, seconds, microseconds in zip(
        unix.tolist(), records["seconds"].tolist(), records["microseconds"].tolist(), strict=True
    ):
        shown = f"{EPOCH + timedelta(microseconds=time):%Y-%m-%d %H:%M:%S.%f}"
        yield (
            seconds * met.MICROSECONDS + microseconds,
            time,
            f"{shown} {{}} {seconds} {microseconds}",
        )


def attitude_lines(records: NDArray[np.void], window: tuple[int, int]) -> Iterator[Line]:
    """Yield the ATT lines of the records (dtype `simulated.ATTITUDE`) in the window."""
    values = zip(records["quaternion"].tolist(), records["rates"].tolist(), strict=True)
    for (time, unix, head), (quaternion, rates) in zip(stamps(records), values, strict=True):
        if window[0] <= unix <= window[1]:
            numbers = " ".join(["%-.17g" % q for q in quaternion] + [f"{rate:f}" for rate in rates])  # noqa: UP031
            yield time, f"{head.format('ATT')} {numbers}"


def orbit_lines(records: NDArray[np.void], window: tuple[int, int]) -> Iterator[Line]:
    """Yield the ORB lines of the records (dtype `simulated.ANCILLARY`) in the window."""
    values = zip(
        records["position"].tolist(),
        records["velocity"].tolist(),
        records["mode"].tolist(),
        records["flags"].tolist(),
        strict=True,
    )
    for (time, unix, head), (position, velocity, mode, flags) in zip(stamps(records), values, strict=True):
        if window[0] <= unix <= window[1]:
            numbers = " ".join(f"{value:f}" for value in (*position, *velocity))
            yield time, f"{head.format('ORB')} {numbers} {mode} {flags & simulated.FLAG_IN_SAA}"


def magic7_lines(root: Path, scid: int, begin: float, end: float) -> Iterator[str]:
    """Yield the lines of all records from `begin` to `end` (Unix UTC seconds), the first an ATT line.

    Raises
    ------
    MissingInputError
        If the archive is not there.
    """
    window = (round(begin * met.MICROSECONDS), round(end * met.MICROSECONDS))
    packets = retrieve(root, scid, simulated.MAGIC7_APID, [(begin, end + LAST_ECHO)])
    for fault in packets.faults:
        print(fault, file=sys.stderr)
    attitude_seen = False
    for number in range(len(packets)):
        try:
            attitudes, ancillaries = simulated.decode_magic7(packets.payload(number))
        except FormatError as error:
            file, offset = packets.place(number)
            print(f"DFI exception: {file} at byte {offset}: {error}", file=sys.stderr)
            continue
        both = heapq.merge(
            attitude_lines(attitudes, window), orbit_lines(ancillaries, window), key=lambda line: line[0]
        )
        for _, line in both:
            attitude_seen = attitude_seen or " ATT " in line
            if attitude_seen:
                yield line


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
        for line in magic7_lines(args.arch, args.scid, args.begin, args.end):
            print(line)
    except HalfPipeError as error:
        print(f"simulated_magic7: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
