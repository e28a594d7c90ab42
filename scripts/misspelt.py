#!/usr/bin/env python3
"""Say what is wrong with a target that looks like a downlink and is none; always fails."""

import argparse
from collections.abc import Sequence

from halfpipe.errors import IdError
from halfpipe.ids import Downlinks
from halfpipe.process import rule_program
from halfpipe.settings import Settings


def job(_settings: Settings, arguments: argparse.Namespace) -> None:
    """Fail with the mistake."""
    Downlinks(arguments.misspelt)
    raise IdError(f"{arguments.misspelt} is a good downlink id and no misspelt one")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = rule_program.parser(__doc__, downlink=False)
    parser.add_argument("misspelt")
    return rule_program.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
