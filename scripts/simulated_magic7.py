#!/usr/bin/env python3
"""Print SIMULATED attitude and orbit: the built-in program behind that contract.

Called as `simulated_magic7.py --arch ROOT --scid 77 -b T0 -e T1 --lsm` with Unix UTC seconds.
"""

from halfpipe_simulator.attitude import main

if __name__ == "__main__":
    raise SystemExit(main())
