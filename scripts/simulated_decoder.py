#!/usr/bin/env python3
"""Decode one chunk of SIMULATED level-0: the built-in program behind the decoder contract.

Called as `simulated_decoder.py -r RETDEF.xml -o OUTDIR [-k LATC] --level0 ROOT`. Writes, for each
ground id, run and APID found, an event file and an index `%08x-%08x-%04d-%05d.{evt,idx}` into OUTDIR.
"""

from halfpipe_simulator.decoder import main

if __name__ == "__main__":
    raise SystemExit(main())
