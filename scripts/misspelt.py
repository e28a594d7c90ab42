#!/usr/bin/env python3
"""Say what is wrong with a target that looks like a downlink and is none; always fails."""

import argparse
from collections.abc import Sequence

from halfpipe import cli
from halfpipe.errors import IdError
from halfpipe.ids import DownlinkId


def job(arguments: argparse.Namespace) -> int:
    """Fail with the mistake."""
    DownlinkId(arguments.misspelt)
    raise IdError(f"{arguments.misspelt} is a good downlink id and no misspelt one")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = cli.job_parser(__doc__)
    parser.add_argument("misspelt")
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
