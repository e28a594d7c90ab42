#!/usr/bin/env python3
"""Remove what is large and can be made again of runs that nobody waits for, and what killed jobs left.

Without --remove nothing is touched: a table says what would go, and why what stays stays. Event records and
indexes of chunks and the event parts of merged indexes go when their run is retired, all its downlinks are
handed off and submitted, and cleanup.retention_days have passed; half-made files of killed jobs after a
day; logs after cleanup.log_days. What is in work stays, and nothing waits for it.

Exit status: 0 all that may go is gone, or without --remove would go; 1 something could not be removed, or
the configuration cannot be used; 2 the command line cannot be used.
"""

import argparse
import time
from collections.abc import Sequence

from halfpipe import cli, halts
from halfpipe.cleanup import leftovers, products

ROW = "{:8}  {:11}  {:9}  {:>5}  {:>19}  {}"


def job(arguments: argparse.Namespace) -> int:
    """Look, or remove."""
    settings = cli.settings(arguments)
    remove, now = arguments.remove, time.time()
    work, stage = settings.work, settings.stage
    switch = halts.holding(work, halts.Switch.CLEANUP)
    halted = f"clean-up is held by {switch}" if switch else ""
    goes = "removed" if remove else "goes"
    size, failed = 0, False

    days, min_epus, kinds = settings.retention_days, settings.policy.min_epus, settings.online_types
    rule = products.Rule(work, stage, days, min_epus, now, settings.online, kinds)
    print(ROW.format("run", "MET run", "downlink", "files", "bytes", "what becomes of it"))
    for row in products.clean(rule, halted, remove=remove):
        failed |= row.failed
        size += 0 if row.kept else row.size
        what = f"stays: {row.kept}" if row.kept else goes
        print(ROW.format(row.run, row.run.l1, row.downlink, row.files, f"{row.size:,}", what), flush=True)

    for left in leftovers.clean(work, stage, now, halted, remove=remove):
        failed |= left.failed
        size += 0 if left.kept else left.what.size
        said = f"stays: {left.kept}" if left.kept else goes
        print(f"left half-made: {left.what}, {left.what.size:,} bytes, {said}", flush=True)

    if not halted:
        count, of_logs = leftovers.clean_logs(work, settings.log_days, now, remove=remove)
        size += of_logs
        print(f"{count} logs older than {settings.log_days:g} days, {of_logs:,} bytes, {goes}")
    print(f"{size:,} bytes freed" if remove else f"{size:,} bytes would be freed; --remove does it")
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cli.add_configfile(parser)
    parser.add_argument("--remove", action="store_true", help="remove it; without this, only look")
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
