#!/usr/bin/env python3
"""Print a table of what was delivered, one line a downlink and run, from the receipts."""

import argparse
from collections.abc import Sequence

from halfpipe import cli, paths
from halfpipe.reports import check, delivered


def job(arguments: argparse.Namespace) -> int:
    """Print the table."""
    settings = cli.settings(arguments)
    wanted = arguments.downlinks or [
        dl for dl in check.downlinks(settings.work) if (settings.work / paths.receipt(dl)).exists()
    ]
    table = delivered.table(settings.work, wanted)
    if arguments.csv:
        print(table.to_csv(index=False), end="")
    else:
        print(table.to_string(index=False) if len(table) else "nothing was delivered yet")
        print(f"{len(wanted)} downlinks, {len(table)} runs, {int(table['events'].sum())} events delivered")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_configfile(parser)
    parser.add_argument("--csv", action="store_true", help="print comma separated values")
    cli.add_downlinks(parser)
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
