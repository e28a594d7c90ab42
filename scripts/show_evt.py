"""Show an event file: its header, how many events of which kind, and any event with all its fields."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from halfpipe.errors import HalfPipeError
from halfpipe.formats.evt_view import describe_events, describe_file


def main(argv: Sequence[str] | None = None) -> int:
    """Show the file named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="event file")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--event", type=int, metavar="N", help="show event N, counted from 0; -1 is the last")
    which.add_argument("--sequence", type=int, metavar="S", help="show every event with this GEM sequence")
    options = parser.parse_args(argv)
    try:
        if options.event is None and options.sequence is None:
            lines = describe_file(options.file)
        else:
            lines = describe_events(options.file, number=options.event, sequence=options.sequence)
        for line in lines:
            print(line)
    except HalfPipeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
