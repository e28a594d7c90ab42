#!/usr/bin/env python3
"""Write SIMULATED downlinks: a level-0 archive, RetDefs, a MOOT file, config and profile.

By default there are three runs: an LPA run, an LPA run with a gap and no end, and an LCI run. With several downlinks
the first run is spread over all of them. Python programs can simulate more: `halfpipe_simulator.scenario`.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from halfpipe.errors import HalfPipeError
from halfpipe.formats.evt import InfoType
from halfpipe_simulator.scenario import Scenario, Simulation

LCI_KINDS = {"acd": InfoType.LCI_ACD, "cal": InfoType.LCI_CAL, "tkr": InfoType.LCI_TKR}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description="Write SIMULATED downlinks.")
    made.add_argument(
        "--out", type=Path, required=True, help="directory: new, empty, or made by this program"
    )
    made.add_argument("--seed", type=int, default=1, help="the same seed gives the same bytes (default 1)")
    made.add_argument("--downlinks", nargs="+", default=["230401001"], metavar="ID", help="nine digits each")
    made.add_argument("--events", type=int, default=20000, help="over all runs (default 20000)")
    made.add_argument(
        "--lci",
        nargs="*",
        choices=sorted(LCI_KINDS),
        default=["cal"],
        help="one LCI run for each kind (default cal); without a kind: no LCI run",
    )
    made.add_argument("--whole", action="store_true", help="no gap and no cut in the second run")
    return made


def scenario_of(args: argparse.Namespace) -> Scenario:
    """Return the scenario of the command line.

    Raises
    ------
    HalfPipeError
        If an id is not valid.
    """
    scenario = Scenario(seed=args.seed, downlinks=args.downlinks)
    share, last = args.events // (4 + len(args.lci)), len(args.downlinks) - 1
    scenario.lpa_run(events=2 * share, parts=len(args.downlinks))
    rest = args.events - (2 + len(args.lci)) * share
    scenario.lpa_run(events=rest, first=last, lost_datagrams=int(not args.whole), no_stop=not args.whole)
    for kind in args.lci:
        scenario.lci_run(LCI_KINDS[kind], events=share, epus=(965, 966), first=last)
    return scenario


def table(simulation: Simulation) -> str:
    """Return a table of the written chunks."""
    lines = [f"SIMULATED data in {simulation.path}: not flight data", ""]
    lines.append(f"{'downlink':>9} {'chunk':>5} {'run':>8} {'apid':>4} {'datagrams':>9} {'events':>7}")
    for chunk in simulation.chunks:
        events = sum(len(datagram.sequences) for datagram in chunk.sound)
        lines.append(
            f"{chunk.downlink:>9} {chunk.number:>5} {chunk.run:>8} {chunk.apid:>4} {len(chunk.sound):>9} {events:>7}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return the exit status."""
    args = parser().parse_args(argv)
    try:
        simulation = scenario_of(args).write(args.out)
    except HalfPipeError as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 1
    print(table(simulation))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader of the table, such as head, may end early
    raise SystemExit(main())
