#!/usr/bin/env python3
"""Copy the RetDef of one chunk unchanged from the search path, after holding it against its format."""

import argparse
from collections.abc import Sequence

from halfpipe import jobs
from halfpipe.handoff.withdrawal import withdraw
from halfpipe.ids import ChunkId
from halfpipe.planning import plan
from halfpipe.settings import Settings
from halfpipe.storage import leases, paths
from halfpipe.storage.durable import make_directory, write_bytes


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
    parser = jobs.parser(__doc__)
    parser.add_argument("--chunk", type=ChunkId, required=True)
    return jobs.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
