#!/usr/bin/env python3
"""Print attitude and orbit with the flight program DiagRet.py, as the magic-7 contract requires.

Called as `flight_magic7.py --settings FILE --arch ROOT --scid 77 -b T0 -e T1 --lsm` with Unix UTC seconds; DiagRet
needs the times as UTC dates. The output of DiagRet is passed on unchanged. DiagRet exits with 0 even after an
exception, and prints the exception as its last line. This program then fails.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from halfpipe.decode.flight_programs import call, load, report, working_copy, wrapped
from halfpipe.errors import ConfigError

DATA = re.compile(r"\S+ \S+ (ATT|ORB|ANC|TT) ")


def date_time(seconds: float) -> str:
    """Format Unix UTC seconds for DiagRet: ``YYYY-MM-DD hh:mm:ss.uuuuuu``."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S.%f}"


@dataclass
class Printed:
    """The output of DiagRet: the number of attitude lines, and the last line unless it is data.

    Such a last line is an error. Lines that begin with one of `harmless` do not count as the last line.
    """

    harmless: tuple[str, ...]
    attitudes: int = 0
    last: str = ""

    def add(self, line: str) -> None:
        """Read a line."""
        match = DATA.match(line)
        if match:
            self.attitudes += match[1] == "ATT"
        if line.strip() and not line.startswith(self.harmless):
            self.last = "" if match else line.strip()[:500]

    def fault(self) -> str | None:
        """Return what is wrong with the output of a program that ended with 0; None if nothing is.

        DiagRet catches any exception of the retrieval, prints its text and ends with 0. Data that were printed before
        look complete.
        """
        if self.last:
            return (
                f"the program ended with 0, but its last line is not data: {self.last!r}. This happens after an "
                "exception. If the line is harmless, add its beginning to magic7.harmless in the settings."
            )
        if not self.attitudes:
            return "the program ended with 0 and printed no attitude, which Level-1 needs"
        return None


def retrieve(arguments: argparse.Namespace) -> int:
    """Print the lines of the time window; return the exit status."""
    flight = load(arguments.settings)
    program = flight.magic7
    if program is None:
        raise ConfigError(f"{arguments.settings}: magic7 is missing. config/flight.yaml is an example.")
    flight.check(arguments.arch, arguments.settings)
    options = ["--arch", arguments.arch, "--scid", str(arguments.scid)]
    options += ["-b", date_time(arguments.begin), "-e", date_time(arguments.end), "--lsm"]
    printed = Printed(program.harmless)
    with working_copy(flight, "magic7") as work:
        out, errors = sys.stdout.buffer, sys.stderr.buffer
        status = call(flight, program, options, work, out=out, errors=errors, on_line=printed.add)
    if not status and (fault := printed.fault()) is not None:
        report(fault)
        return 1
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Print attitude and orbit with the flight program.")
    parser.add_argument("--settings", type=Path, required=True, help="such as config/flight.yaml")
    parser.add_argument("--arch", required=True, help="root of the level-0 archive")
    parser.add_argument("--scid", type=int, required=True, help="spacecraft id: 77 is flight")
    parser.add_argument("-b", "--begin", type=float, required=True, help="Unix UTC seconds")
    parser.add_argument("-e", "--end", type=float, required=True, help="Unix UTC seconds")
    parser.add_argument("--lsm", action="store_true", help="magic-7; always given")
    arguments = parser.parse_args(argv)
    return wrapped(lambda: retrieve(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
