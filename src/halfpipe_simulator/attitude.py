"""SIMULATED attitude and orbit as lines: what is behind `scripts/simulated_magic7.py`.

They are the ATT and ORB lines that Level-1 reads (ground-chain §5), of a circular orbit and a steady turn: the numbers
have the right size and nothing more. No level-0 is read for them.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats import met

ATTITUDES_PER_SECOND = 5
RADIUS = 6.93e6  # metres
PERIOD = 5730.0  # seconds
INCLINATION = np.radians(25.6)
SAA_SHARE = 0.13  # of each orbit, simulated as one passage
SURVEY = 5  # mode
ATT = "%s ATT %d %d" + 4 * " %.17g" + 3 * " %f"
ORB = "%s ORB %d %d" + 6 * " %f" + " %d %d"

Window = tuple[int, int]  # Unix UTC microseconds, edges included


def lines(begin: float, end: float) -> list[str]:
    """Return the lines from `begin` to `end` (Unix UTC seconds), in the order of time, the first an ATT line."""
    window = round(begin * met.MICROSECONDS), round(end * met.MICROSECONDS)
    seconds = np.arange(int(met.unix_to_met(begin)), int(met.unix_to_met(end)) + 2)
    steps = met.MICROSECONDS // ATTITUDES_PER_SECOND * np.arange(ATTITUDES_PER_SECOND)
    times = (seconds[:, np.newaxis] * met.MICROSECONDS + steps).reshape(-1)
    half = np.pi * times / met.MICROSECONDS / PERIOD
    turn = np.zeros((half.size, 7))
    turn[:, 0], turn[:, 2] = np.sin(half) * np.sin(INCLINATION), np.sin(half) * np.cos(INCLINATION)
    turn[:, 3], turn[:, 6] = np.cos(half), 2 * np.pi / PERIOD
    found = _lines_of(ATT, times, turn, window)

    phase = 2 * np.pi * seconds / PERIOD
    orbit = np.zeros((phase.size, 8))
    orbit[:, :3] = RADIUS * _in_plane(np.cos(phase), np.sin(phase))
    orbit[:, 3:6] = 2 * np.pi * RADIUS / PERIOD * _in_plane(-np.sin(phase), np.cos(phase))
    orbit[:, 6], orbit[:, 7] = SURVEY, phase / (2 * np.pi) % 1 < SAA_SHARE
    found += _lines_of(ORB, seconds * met.MICROSECONDS, orbit, window)

    found.sort(key=lambda one: one[0])  # stable: of one time the attitude stays first
    first = next((number for number, (_, line) in enumerate(found) if " ATT " in line), len(found))
    return [line for _, line in found[first:]]


def _in_plane(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([x, y * np.cos(INCLINATION), y * np.sin(INCLINATION)], axis=1)


def _lines_of(
    form: str, times: NDArray[np.int64], numbers: NDArray[np.float64], window: Window
) -> list[tuple[int, str]]:
    """Return time (MET microseconds) and line of each record in the window: `form` of its date, time and numbers."""
    seconds, microseconds = np.divmod(times, met.MICROSECONDS)
    unix = met.unix_microseconds(seconds, microseconds)
    inside = np.flatnonzero((window[0] <= unix) & (unix <= window[1]))
    dates = " ".join(np.datetime_as_string(unix[inside].view("M8[us]")).tolist()).replace("T", " ").split(" ")
    days = map(" ".join, zip(dates[::2], dates[1::2], strict=True)) if inside.size else ()
    cells = [days, *(column[inside].tolist() for column in (seconds, microseconds, *numbers.T))]
    return list(zip(times[inside].tolist(), map(form.__mod__, zip(*cells, strict=True)), strict=True))


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
