#!/usr/bin/env python3
"""Write SIMULATED downlinks: a level-0 archive, RetDefs, a MOOT file, config and profile, and what they carry.

By default three runs: two LPA runs, of which the second has a gap and is cut at its end, and one LCI run.
With several downlinks the first run is spread over all of them.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from halfpipe.errors import HalfPipeError
from halfpipe.formats.evt import InfoType
from halfpipe_simulator.scenario import START, Scenario, Simulation

LEAP_SECOND_DAY = datetime(2016, 12, 31, 23, 55, tzinfo=UTC)
EARLY_MISSION = datetime(2008, 9, 1, 2, 50, tzinfo=UTC)  # run ids below 0x10000000
BIG_SEQUENCE = (1 << 32) - 2000
LCI_KINDS = {"acd": InfoType.LCI_ACD, "cal": InfoType.LCI_CAL, "tkr": InfoType.LCI_TKR}

OF_FIRST_RUN = (
    "late_epu", "lost_packets", "repeated_packets", "lost_datagrams",
    "repeated_datagrams", "equal_sequences", "equal_in_one", "orphaned_head", "orphaned_tail", "no_start", "no_stop",
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description="Write SIMULATED downlinks.")
    made.add_argument(
        "--out", type=Path, required=True, help="directory: new, empty, or made by this program"
    )
    made.add_argument("--seed", type=int, default=1, help="the same seed gives the same bytes (default 1)")
    made.add_argument("--downlinks", nargs="+", default=["230401001"], metavar="ID", help="nine digits each")
    made.add_argument("--events", type=int, default=20000, help="over all runs (default 20000)")

    scene = made.add_argument_group("scene")
    scene.add_argument("--epus", nargs="+", type=int, default=[956, 957], metavar="APID", help="of LPA runs")
    scene.add_argument(
        "--lci",
        nargs="*",
        choices=sorted(LCI_KINDS),
        default=["cal"],
        help="one LCI run each (default cal); none named: no LCI run",
    )
    scene.add_argument("--lci-epus", nargs="+", type=int, default=[965, 966], metavar="APID")
    scene.add_argument("--parts", type=int, help="downlinks that the first run is spread over (default all)")
    scene.add_argument("--l0keys", type=int, default=1, help="files per hour, APID and downlink")
    scene.add_argument("--rate", type=float, default=10.0, help="events per second")
    scene.add_argument("--big-sequences", action="store_true", help="GEM sequences pass 2^32")
    when = scene.add_mutually_exclusive_group()
    when.add_argument("--leap-second-day", action="store_true", help="2016-12-31 to 2017-01-01")
    when.add_argument("--small-run-ids", action="store_true", help="2008: run ids below 0x10000000")

    trouble = made.add_argument_group("what goes wrong (in the first run, if not said otherwise)")
    trouble.add_argument("--late-epu", type=int, metavar="APID", help="arrives one downlink later")
    trouble.add_argument("--lost-packets", type=int, default=0)
    trouble.add_argument("--repeated-packets", type=int, default=0)
    trouble.add_argument("--lost-datagrams", type=int, default=0)
    trouble.add_argument(
        "--repeated-datagrams", type=int, default=0, help="come with the next downlink again"
    )
    trouble.add_argument("--equal-sequences", type=int, default=0, help="pairs of events in two EPUs")
    trouble.add_argument("--equal-in-one", type=int, default=0, help="pairs of events in one EPU")
    trouble.add_argument(
        "--orphaned-head", action="store_true", help="the last EPU lacks its first datagrams"
    )
    trouble.add_argument("--orphaned-tail", action="store_true", help="the last EPU lacks its last datagrams")
    trouble.add_argument("--no-start", action="store_true", help="no EPU has its first datagram")
    trouble.add_argument("--no-stop", action="store_true", help="no EPU has its last datagram")
    trouble.add_argument("--whole", action="store_true", help="no gap and no cut in the second run")
    return made


def scenario_of(args: argparse.Namespace) -> Scenario:
    """Return the scenario that the command line asks for.

    Raises
    ------
    HalfPipeError
        If an id is none or there are too few downlinks for what is asked.
    """
    start = START
    for asked, date in (
        (args.leap_second_day, LEAP_SECOND_DAY),
        (args.small_run_ids, EARLY_MISSION),
    ):
        start = date if asked else start
    scenario = Scenario(seed=args.seed, downlinks=args.downlinks, start=start, l0keys=args.l0keys)
    common: dict[str, Any] = {"rate": args.rate}
    if args.big_sequences:
        common["first_sequence"] = BIG_SEQUENCE
    share = args.events // (4 + len(args.lci))
    waiting = args.late_epu is not None  # for one more downlink
    scenario.lpa_run(
        events=2 * share,
        epus=tuple(args.epus),
        parts=args.parts or max(1, len(args.downlinks) - waiting),
        **{name: getattr(args, name) for name in OF_FIRST_RUN},
        **common,
    )
    last = len(scenario.downlinks) - 1
    scenario.lpa_run(
        events=args.events - (2 + len(args.lci)) * share,
        epus=tuple(args.epus),
        first=last,
        lost_datagrams=int(not args.whole),
        no_stop=not args.whole,
        **common,
    )
    for kind in args.lci:
        scenario.lci_run(LCI_KINDS[kind], events=share, epus=tuple(args.lci_epus), first=last, **common)
    return scenario


def table(simulation: Simulation) -> str:
    """Return what was written, for people."""
    truth: dict[str, Any] = simulation.truth
    lines = [f"SIMULATED data in {simulation.path}: not flight data", ""]
    lines.append(f"{'downlink':>9} {'chunk':>5} {'run':>8} {'apid':>4} {'datagrams':>9} {'events':>7}")
    lines += [
        f"{c['downlink']:>9} {c['chunk']:>5} {c['run']:>8} {c['apid']:>4} {len(c['datagrams']):>9} {c['events']:>7}"
        for c in truth["chunks"]
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Write what the arguments ask for; return the exit status."""
    args = parser().parse_args(argv)
    try:
        simulation = scenario_of(args).write(args.out)
    except HalfPipeError as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 1
    print(table(simulation))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
