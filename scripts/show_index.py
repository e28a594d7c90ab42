#!/usr/bin/env python3
"""Print the merged index of a run within a downlink as text: a DGM line a datagram, an EVT line an event."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from halfpipe import cli, progress
from halfpipe.files import replacing
from halfpipe.reports import show_index


def job(arguments: argparse.Namespace) -> int:
    """Print it, or write it to a file."""
    pieces = show_index.text(cli.settings(arguments).work, arguments.run, arguments.downlink)
    if arguments.out is not None:
        with progress.of(f"show_index {arguments.run}") as bar, replacing(arguments.out) as out:
            for lines in pieces:
                out.write(lines)
                bar.add(events=lines.count(b"EVT:"), size=len(lines))
        return 0
    try:
        sys.stdout.buffer.writelines(pieces)
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # who reads it, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_configfile(parser)
    parser.add_argument("--out", type=Path, help="write to this file instead")
    parser.add_argument("run", type=cli.run_id, help="as 2c2e5787 or r0741234567")
    parser.add_argument("downlink", type=cli.downlink, help="as 230401001 or dl=230401001")
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
