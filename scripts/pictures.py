#!/usr/bin/env python3
"""Draw a downlink and its runs."""

import argparse
from collections.abc import Sequence

from halfpipe import paths
from halfpipe.files.json_files import write_json
from halfpipe.pages.all_pictures import draw
from halfpipe.process import rule_program
from halfpipe.settings import Settings


def job(settings: Settings, arguments: argparse.Namespace) -> None:
    """Draw them."""
    made = draw(settings, arguments.downlink)
    write_json(settings.paths.work / paths.drawn(arguments.downlink), made)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    return rule_program.run(job, rule_program.parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
