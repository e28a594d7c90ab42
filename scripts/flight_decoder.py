#!/usr/bin/env python3
"""Decode one chunk with the flight decoder getLSEChunk.exe, as the decoder contract requires.

Called as `flight_decoder.py --settings FILE -r RETDEF.xml -o OUTDIR [-k LATC]`. The decoder works on a
copy of the RetDef in its own directory on the scratch disk. Products are copied to OUTDIR only if the decoder succeeds.
Its output and exit status are passed on. The exit status is 124 after the time limit, and 128 plus the number of the
signal if a signal killed the decoder.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from halfpipe.decode.flight_programs import call, load, working_copy, wrapped
from halfpipe.formats.retdef import ids_of, read_retdef


def decode(arguments: argparse.Namespace) -> int:
    """Decode the chunk; return the exit status."""
    flight = load(arguments.settings)
    retdef = read_retdef(arguments.retdef)
    flight.check(retdef.arch, arguments.settings)
    with working_copy(flight, "-".join(ids_of(arguments.retdef))) as work:
        shutil.copyfile(arguments.retdef, work / arguments.retdef.name)
        seen = flight.seen_as(work)
        options = ["-r", str(seen / arguments.retdef.name), "-o", str(seen / "out")]
        if arguments.latc is not None:
            options += ["-k", arguments.latc]
        status = call(flight, flight.decoder, options, work, out=sys.stdout.buffer)
        for path in sorted((work / "out").iterdir()) if not status else ():
            if path.suffix in {".evt", ".idx"}:  # a link stays a link, and is refused later
                shutil.copyfile(path, arguments.out / path.name, follow_symlinks=False)
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Decode one chunk with the flight decoder.")
    parser.add_argument("--settings", type=Path, required=True, help="such as config/flight.yaml")
    parser.add_argument("-r", "--retdef", type=Path, required=True, help="RetDef file")
    parser.add_argument("-o", "--out", type=Path, required=True, help="directory of the products")
    parser.add_argument("-k", "--latc", help="LATC master key, for the program's -k")
    arguments = parser.parse_args(argv)
    return wrapped(lambda: decode(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
