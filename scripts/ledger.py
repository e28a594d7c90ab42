#!/usr/bin/env python3
"""Enter into the ledger what a downlink brought, and how its runs stand now."""

import argparse
from collections.abc import Sequence

from halfpipe import jobs
from halfpipe.ledger.operations import load_downlink
from halfpipe.settings import Settings


def job(settings: Settings, arguments: argparse.Namespace) -> None:
    """Load the downlink."""
    with jobs.output(arguments.log) as output:
        load_downlink(settings, arguments.downlink, output)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    return jobs.run(job, jobs.parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
