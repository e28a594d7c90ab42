#!/usr/bin/env python3
"""Fail with the reason why a target was refused: the job that a refused target waits for."""

import argparse
from collections.abc import Sequence

from halfpipe.errors import HalfPipeError
from halfpipe.process import rule_program
from halfpipe.settings import Settings


def job(_settings: Settings, arguments: argparse.Namespace, _output: object) -> None:
    """Fail."""
    raise HalfPipeError(arguments.why, code="refused")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = rule_program.parser(__doc__, downlink=False)
    parser.add_argument("--why", required=True, help="the reason")
    return rule_program.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
