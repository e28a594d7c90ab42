#!/usr/bin/env python3
"""Decode one chunk of SIMULATED level-0: the built-in program that fulfills the decoder contract.

Usage: `simulated_decoder.py -r RETDEF.xml -o OUTDIR [-k LATC] --level0 ROOT`. For each ground id, run and APID, it
writes an event file and an index `%08x-%08x-%04d-%05d.{evt,idx}` into OUTDIR.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from halfpipe.errors import HalfPipeError
from halfpipe.formats.retdef import ids_of, read_retdef
from halfpipe_simulator.decoder import decode_chunk


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return the exit status."""
    parser = argparse.ArgumentParser(description="Decode one chunk of SIMULATED level-0.")
    parser.add_argument("-r", "--retdef", type=Path, required=True, help="RetDef of the chunk")
    parser.add_argument("-o", "--out", type=Path, required=True, help="directory of the products")
    parser.add_argument("-k", "--latc", type=lambda text: int(text, 0), help="LATC_master of LPA records")
    parser.add_argument("--level0", type=Path, required=True, help="root of the simulated level-0 archive")
    args = parser.parse_args(argv)
    if args.latc is not None and not 0 <= args.latc < 2**32:
        parser.error(f"-k {args.latc} is not a number of 32 bits")
    print("simulated_decoder: the built-in decoder, for SIMULATED level-0 only")
    try:
        downlink, _ = ids_of(args.retdef)
        events = decode_chunk(read_retdef(args.retdef), downlink.number, args.level0, args.out, args.latc)
    except (HalfPipeError, OSError) as error:
        print(f"simulated_decoder: {error}", file=sys.stderr)
        return 1
    print(f"simulated_decoder: {events} simulated events")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
