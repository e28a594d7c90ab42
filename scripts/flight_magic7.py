#!/usr/bin/env python3
"""Print attitude and orbit with the flight program DiagRet.py, behind the magic-7 contract.

Called as `flight_magic7.py --settings FILE --arch ROOT --scid 77 -b T0 -e T1 --lsm` with Unix UTC seconds;
DiagRet wants the times as UTC dates. What it prints is passed on unchanged. It ends with 0 also after an
exception, whose text it prints last: that is no good end here.
"""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from halfpipe import flight
from halfpipe.errors import ConfigError

NAME = "flight_magic7"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def date_time(seconds: float) -> str:
    """Return Unix UTC seconds as DiagRet reads times: ``YYYY-MM-DD hh:mm:ss.uuuuuu``."""
    return f"{EPOCH + timedelta(microseconds=round(seconds * 1e6)):%Y-%m-%d %H:%M:%S.%f}"


def seconds(text: str) -> float:
    """Read a time as an argument."""
    value = float(text)
    if not math.isfinite(value) or not 0 <= value < 2**33:
        raise ValueError(text)
    return value


def retrieve(arguments: argparse.Namespace) -> int:
    """Print the lines of the window; return the exit status."""
    settings = flight.load(arguments.settings)
    call = settings.magic7
    if call is None:
        raise ConfigError(f"{arguments.settings}: magic7 is missing. config/flight.yaml is an example.")
    os.umask(settings.umask)
    settings.check()
    settings.check_archive(arguments.arch)
    options = ["--arch", arguments.arch, "--scid", str(arguments.scid)]
    options += ["-b", date_time(arguments.begin), "-e", date_time(arguments.end), "--lsm"]
    with flight.working_copy(settings, "magic7") as work:
        watch = flight.MagicWatch(call.harmless)
        ended = flight.run(
            settings.command(call, options, work),
            work,
            settings.process_environment(work),
            call,
            out=sys.stdout.buffer,
            errors=sys.stderr.buffer,
            watch=watch,
        )
    fault = ended.why or watch.fault()
    if fault is not None:
        flight.tell(f"{NAME}: {fault}")
        return ended.status or 1
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Print attitude and orbit with the flight program.")
    parser.add_argument("--settings", type=Path, required=True, help="such as config/flight.yaml")
    parser.add_argument("--arch", required=True, help="root of the level-0 archive")
    parser.add_argument("--scid", type=int, required=True, help="spacecraft id: 77 is flight")
    parser.add_argument("-b", "--begin", type=seconds, required=True, help="Unix UTC seconds")
    parser.add_argument("-e", "--end", type=seconds, required=True, help="Unix UTC seconds")
    parser.add_argument("--lsm", action="store_true", help="magic-7, which is all that is asked for here")
    arguments = parser.parse_args(argv)
    return flight.wrapped(lambda: retrieve(arguments), NAME)


if __name__ == "__main__":
    raise SystemExit(main())
