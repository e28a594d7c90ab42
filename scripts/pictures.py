#!/usr/bin/env python3
"""Draw a downlink and its runs."""

import argparse
from collections.abc import Sequence

from halfpipe import jobs
from halfpipe.pictures.of_downlink import draw
from halfpipe.settings import Settings
from halfpipe.storage import paths
from halfpipe.storage.json_files import write_json


def job(settings: Settings, arguments: argparse.Namespace) -> None:
    """Draw them."""
    made = draw(settings, arguments.downlink)
    write_json(settings.paths.work / paths.drawn(arguments.downlink), made)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    return jobs.run(job, jobs.parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
