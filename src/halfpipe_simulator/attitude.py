"""SIMULATED attitude and orbit as lines: what is behind `scripts/simulated_magic7.py`.

They are the ATT and ORB lines that Level-1 reads (ground-chain §5), of a circular orbit and a steady turn: the numbers
have the right size and nothing more. No level-0 is read for them.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from math import cos, pi, radians, sin

import numpy as np

from halfpipe.formats import met

ATTITUDES_PER_SECOND = 5
RADIUS = 6.93e6  # metres
PERIOD = 5730.0  # seconds
INCLINATION = radians(25.6)
SAA_SHARE = 0.13  # of each orbit, simulated as one passage
SURVEY = 5  # mode
ATT = "%s ATT %d %d" + 4 * " %.17g" + 3 * " %f"
ORB = "%s ORB %d %d" + 6 * " %f" + " %d %d"


def lines(begin: float, end: float) -> Iterator[str]:
    """Yield the lines from `begin` to `end` (Unix UTC seconds), in the order of time, the first an ATT line."""
    first, last = (round(met.unix_to_met(edge) * ATTITUDES_PER_SECOND) for edge in (begin, end))
    times = np.arange(first - 1, last + 2) * (met.MICROSECONDS // ATTITUDES_PER_SECOND)
    unix = met.unix_microseconds(*np.divmod(times, met.MICROSECONDS)) / met.MICROSECONDS
    for at, utc in zip(times.tolist(), unix.tolist(), strict=True):
        if begin <= utc <= end:
            named = f"{met.utc(utc):%Y-%m-%d %H:%M:%S.%f}", *divmod(at, met.MICROSECONDS)
            phase, rate = 2 * pi * at / met.MICROSECONDS / PERIOD, 2 * pi / PERIOD
            turn = sin(phase / 2)
            turned = turn * sin(INCLINATION), 0, turn * cos(INCLINATION), cos(phase / 2)
            yield ATT % (*named, *turned, 0, 0, rate)
            if not at % met.MICROSECONDS:
                place = _in_orbit(RADIUS, phase)
                speed = _in_orbit(RADIUS * rate, phase + pi / 2)
                yield ORB % (*named, *place, *speed, SURVEY, phase / (2 * pi) % 1 < SAA_SHARE)


def _in_orbit(length: float, phase: float) -> tuple[float, float, float]:
    north = length * sin(phase)
    return length * cos(phase), north * cos(INCLINATION), north * sin(INCLINATION)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the lines of the window that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(description="Print SIMULATED attitude and orbit.")
    for name in ("--arch", "--scid"):
        parser.add_argument(name, required=True, help="accepted for the contract: no level-0 is read")
    parser.add_argument("-b", "--begin", type=float, required=True, help="Unix UTC seconds")
    parser.add_argument("-e", "--end", type=float, required=True, help="Unix UTC seconds")
    parser.add_argument(
        "--lsm", action="store_true", help="accepted for the contract: magic-7 is all there is"
    )
    args = parser.parse_args(argv)
    print("simulated_magic7: SIMULATED attitude and orbit", file=sys.stderr)
    if not args.begin <= args.end:
        parser.error(f"-b {args.begin} is after -e {args.end}")
    print("".join(f"{line}\n" for line in lines(args.begin, args.end)), end="")
    return 0
