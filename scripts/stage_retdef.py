#!/usr/bin/env python3
"""Copy the RetDef of one chunk unchanged from the search path, after holding it against its format."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from halfpipe import cli, locks, paths, plan
from halfpipe.files import make_directory, write_bytes
from halfpipe.handoff import receipt
from halfpipe.ids import ChunkId


def job(arguments: argparse.Namespace) -> int:
    """Stage the RetDef."""
    work, downlink, chunk = arguments.work, arguments.downlink, arguments.chunk
    with locks.downlink_job(work, downlink):
        content = plan.retdef_to_stage(work, downlink, chunk, arguments.search)
        receipt.withdraw(work, downlink)
        make_directory(work, downlink)
        write_bytes(work / paths.retdef(downlink, chunk), content)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = cli.downlink_parser(__doc__)
    parser.add_argument("--chunk", type=ChunkId, required=True)
    parser.add_argument("--search", type=Path, nargs="*", default=[], help="paths.retdef")
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
