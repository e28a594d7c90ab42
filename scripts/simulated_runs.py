#!/usr/bin/env python3
"""Tell which runs SIMULATED level-0 packets belong to: the built-in program behind that contract.

Called as `simulated_runs.py --arch ROOT --scid 77 --apid 956 -b T0 -e T1` with Unix UTC seconds. Prints a line
for each series of datagrams of one run: its start (MET), its ground id, and the times of the first and the last packet.
Only the datagrams themselves say it. One that is damaged is told to whoever reads the errors.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from halfpipe.errors import HalfPipeError
from halfpipe.formats import met
from halfpipe.formats.level0 import Retrieval, retrieve
from halfpipe_simulator.datagrams import run_of, sound_datagrams


def series(packets: Retrieval) -> Iterator[tuple[int, int, int, int]]:
    """Yield each series of datagrams of one run: its start, ground id, first and last time (Unix UTC microseconds)."""
    unix = packets.packets["unix"]
    runs = ((number, run_of(datagram)) for number, datagram in sound_datagrams(packets, sys.stderr))
    for (ground_id, start), group in groupby(runs, lambda at: at[1]):
        numbers = [number for number, _ in group]
        first, last = packets.begins[numbers[0]], packets.ends[numbers[-1]] - 1
        yield start, ground_id, int(unix[first]), int(unix[last])


def main(argv: Sequence[str] | None = None) -> int:
    """Print the series of the APID that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(description="Tell the runs of SIMULATED level-0 packets.")
    parser.add_argument("--arch", type=Path, required=True, help="root of the simulated level-0 archive")
    parser.add_argument("--scid", type=int, required=True, help="spacecraft id: 77 is flight")
    parser.add_argument("--apid", type=int, required=True, help="of event data, such as 956")
    parser.add_argument("-b", "--begin", type=float, required=True, help="Unix UTC seconds")
    parser.add_argument("-e", "--end", type=float, required=True, help="Unix UTC seconds")
    args = parser.parse_args(argv)
    if not args.begin <= args.end:
        parser.error(f"-b {args.begin} is after -e {args.end}")
    try:
        packets = retrieve(args.arch, args.scid, args.apid, [(args.begin, args.end)])
        for start, ground_id, first, last in series(packets):
            print(start, ground_id, f"{first / met.MICROSECONDS:.6f}", f"{last / met.MICROSECONDS:.6f}")
    except HalfPipeError as error:
        print(f"simulated_runs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
