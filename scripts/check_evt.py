"""Check event files: every record, their order, and the header and the name against the content.

Prints one line per file, or one per fault; ends with 1 if a file is not good.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from halfpipe.errors import HalfPipeError
from halfpipe.formats.evt_view import check_evt
from halfpipe.ids import DownlinkId


def main(argv: Sequence[str] | None = None) -> int:
    """Check the files named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="event file")
    parser.add_argument(
        "--downlink", type=DownlinkId, metavar="DL", help="downlink that the headers must name, nine digits"
    )
    options = parser.parse_args(argv)
    downlink = None if options.downlink is None else options.downlink.number
    bad = 0
    for path in options.files:
        try:
            verdict = check_evt(path, downlink)
        except HalfPipeError as error:
            print(error)
            bad += 1
            continue
        for fault in verdict.faults:
            print(f"{path}: {fault}")
        if not verdict.faults:
            print(f"{path}: {verdict.events} events, good")
        bad += bool(verdict.faults)
    if bad:
        print(f"{bad} of {len(options.files)} files are not good; have them made again", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
