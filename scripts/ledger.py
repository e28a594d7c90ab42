#!/usr/bin/env python3
"""Load a downlink into the ledger, and update the state of its runs."""

import argparse
from collections.abc import Sequence
from typing import IO

import halfpipe.process.starting  # noqa: F401 - first
from halfpipe.ledger.load import load_downlink
from halfpipe.process import rule_program
from halfpipe.settings import Settings


def job(settings: Settings, arguments: argparse.Namespace, output: IO[str]) -> None:
    """Load the downlink."""
    load_downlink(settings, arguments.downlink, output)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    return rule_program.run(job, rule_program.parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
