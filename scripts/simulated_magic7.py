#!/usr/bin/env python3
"""Print SIMULATED attitude and orbit: the built-in program that fulfills the magic-7 contract.

Usage: `simulated_magic7.py --arch ROOT --scid 77 -b T0 -e T1 --lsm` with Unix UTC seconds. It prints the ATT and ORB
lines that Level-1 reads (ground-chain §5) at the right rates, always with the same attitude and position. It reads no
level-0.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from halfpipe.formats import met
from halfpipe_simulator.times import MICROSECONDS, unix_microseconds

ATTITUDES_PER_SECOND = 5
ATT = "%s ATT %d %d 0 0 0 1 0.000000 0.000000 0.001097"  # quaternion; radians per second
ORB = "%s ORB %d %d 6930000.000000 0.000000 0.000000 0.000000 6850.000000 3280.000000 5 0"  # m, m/s, survey, no SAA


def lines(begin: float, end: float) -> Iterator[str]:
    """Yield the lines from `begin` to `end` (Unix UTC seconds) in order of time, an ATT line first."""
    first, last = (round(met.unix_to_met(edge) * ATTITUDES_PER_SECOND) for edge in (begin, end))
    times = np.arange(first - 1, last + 2) * (MICROSECONDS // ATTITUDES_PER_SECOND)
    unix = unix_microseconds(*np.divmod(times, MICROSECONDS)) / MICROSECONDS
    for at, utc in zip(times.tolist(), unix.tolist(), strict=True):
        if begin <= utc <= end:
            named = f"{met.utc_datetime(utc):%Y-%m-%d %H:%M:%S.%f}", *divmod(at, MICROSECONDS)
            yield ATT % named
            if not at % MICROSECONDS:
                yield ORB % named


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return the exit status."""
    parser = argparse.ArgumentParser(description="Print SIMULATED attitude and orbit.")
    for name in ("--arch", "--scid"):
        parser.add_argument(name, required=True, help="part of the contract; not used")
    parser.add_argument("-b", "--begin", type=float, required=True, help="Unix UTC seconds")
    parser.add_argument("-e", "--end", type=float, required=True, help="Unix UTC seconds")
    parser.add_argument("--lsm", action="store_true", help="part of the contract; not used")
    args = parser.parse_args(argv)
    print("simulated_magic7: SIMULATED attitude and orbit", file=sys.stderr)
    if not args.begin <= args.end:
        parser.error(f"-b {args.begin} is after -e {args.end}")
    print("".join(f"{line}\n" for line in lines(args.begin, args.end)), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
