#!/usr/bin/env python3
"""Show everything that was delivered of a run, when and by which downlink."""

import argparse
from collections.abc import Sequence

from halfpipe import cli
from halfpipe.reports import show


def job(arguments: argparse.Namespace) -> int:
    """Show the runs."""
    settings = cli.settings(arguments)
    print("\n\n".join(show.show(settings.work, run) for run in arguments.runs))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_configfile(parser)
    parser.add_argument("runs", nargs="+", type=cli.run_id, help="as 2c2e5787 or r0741234567")
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
