#!/usr/bin/env python3
"""Decode one chunk with the flight decoder getLSEChunk.exe, behind the decoder contract.

Called as `flight_decoder.py --settings FILE -r RETDEF.xml -o OUTDIR [-k LATC]`. The program works on a copy
of the RetDef in a directory of its own on the scratch disk; products are put into OUTDIR only if it ended
well. Its output is passed on unchanged, its exit status is this one's: 124 after too long a time, 128 and
the signal's number if it was killed.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from halfpipe.decode.decoder_log import DecoderLog
from halfpipe.decode.flight_call import call, wrapped
from halfpipe.decode.flight_products import check_products, take
from halfpipe.decode.flight_settings import load
from halfpipe.decode.working_copy import working_copy
from halfpipe.formats.retdef import ids_of, read_retdef


def decode(arguments: argparse.Namespace) -> int:
    """Decode the chunk; return the exit status."""
    flight = load(arguments.settings)
    retdef = read_retdef(arguments.retdef)
    flight.check(retdef.arch, arguments.settings)
    with working_copy(flight, "-".join(ids_of(arguments.retdef))) as work:
        shutil.copyfile(arguments.retdef, work.source / arguments.retdef.name)
        options = ["-r", str(work.target / arguments.retdef.name), "-o", str(work.target / "out")]
        if arguments.latc is not None:
            options += ["-k", arguments.latc]
        said = DecoderLog()
        out = sys.stdout.buffer
        status = call(flight, flight.decoder, options, work, out=out, errors=None, hear=said.hear)
        if not status:
            take(check_products(work, said), arguments.out)
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Decode one chunk with the flight decoder.")
    parser.add_argument("--settings", type=Path, required=True, help="such as config/flight.yaml")
    parser.add_argument("-r", "--retdef", type=Path, required=True, help="what to retrieve: a RetDef file")
    parser.add_argument("-o", "--out", type=Path, required=True, help="directory of the products")
    parser.add_argument("-k", "--latc", help="LATC master key, for the program's -k")
    arguments = parser.parse_args(argv)
    return wrapped(lambda: decode(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
