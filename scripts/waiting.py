#!/usr/bin/env python3
"""List the runs that are not complete, what is missing of each, and which of them an operator has given up."""

import argparse
import time
from collections.abc import Sequence

from halfpipe import cli, forced
from halfpipe.reports import waiting

DAY = 86400


def job(arguments: argparse.Namespace) -> int:
    """List the runs; the status is 1 if an open one is older than the limit, or a name in force/ is no run."""
    settings = cli.settings(arguments)
    days = settings.report_days if arguments.days is None else arguments.days
    now = time.time()
    refused = forced.read(settings.work).refused
    for complaint in refused:
        print(complaint)
    of = arguments.runs or waiting.runs(settings.work)
    found = waiting.waiting(settings.work, of, settings.policy.min_epus, now - days * DAY)
    for run in found:
        print(run.line(now))
    if not found:
        print(f"no run that started more than {days:g} days ago is open")
    return 1 if refused or not all(run.given_up for run in found) else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_configfile(parser)
    parser.add_argument("--days", type=float, help="instead of retire.report_days; 0: all open runs")
    parser.add_argument(
        "runs", nargs="*", type=cli.run_id, help="as 2c2e5787 or r0741234567; none: all of them"
    )
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
