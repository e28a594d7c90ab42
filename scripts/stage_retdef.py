#!/usr/bin/env python3
"""Copy the RetDef of one chunk unchanged from the search path, after holding it against its format."""

import argparse
from collections.abc import Sequence

from halfpipe import paths
from halfpipe.downlink import plan
from halfpipe.downlink.withdrawal import withdraw
from halfpipe.files import leases
from halfpipe.files.durable import make_directory, write_bytes
from halfpipe.ids import ChunkId
from halfpipe.process import rule_program
from halfpipe.settings import Settings


def job(settings: Settings, arguments: argparse.Namespace) -> None:
    """Stage the RetDef."""
    work, downlink, chunk = settings.paths.work, arguments.downlink, arguments.chunk
    with leases.downlink_job(work, downlink) as lease:
        content = plan.retdef_to_stage(settings, downlink, chunk)
        lease.check()
        withdraw(work, downlink)
        make_directory(work, downlink)
        write_bytes(work / paths.retdef(downlink, chunk), content)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = rule_program.parser(__doc__)
    parser.add_argument("--chunk", type=ChunkId, required=True)
    return rule_program.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
