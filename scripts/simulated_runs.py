#!/usr/bin/env python3
"""Tell which runs SIMULATED level-0 packets belong to: the built-in program behind that contract.

Called as `simulated_runs.py --arch ROOT --scid 77 --apid 956 -b T0 -e T1` with Unix UTC seconds. Prints a line
for each series of datagrams of one run: its start (MET), its ground id, and the times of the first and the last packet.
"""

from halfpipe_simulator.run_times import main

if __name__ == "__main__":
    raise SystemExit(main())
