#!/usr/bin/env python3
"""Hand one downlink off to Level-1 and write its receipt."""

import argparse
import logging
from collections.abc import Sequence

from halfpipe import jobs
from halfpipe.handoff import receipt
from halfpipe.ids import ChunkId, RunId
from halfpipe.planning import halts
from halfpipe.runs import receipt_file
from halfpipe.settings import Settings
from halfpipe.storage import leases
from halfpipe.submission.troubles import warnings_after

log = logging.getLogger("halfpipe")


def job(settings: Settings, arguments: argparse.Namespace) -> None:
    """Hand the downlink off."""
    work, downlink = settings.paths.work, arguments.downlink
    with leases.downlink_job(work, downlink) as lease, jobs.output(arguments.log) as output:
        halts.refuse(work, halts.Switch.STAGE, downlink)
        known = receipt_file.series(work, downlink)
        content = receipt.hand_off(settings, lease, downlink, arguments.chunks, arguments.runs, output)
        lease.check()
        receipt.save(settings, lease, known, downlink, arguments.runs, content)
    print(receipt.table(content))
    for line in warnings_after(settings, downlink, content):
        log.warning("%s", line)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = jobs.parser(__doc__)
    parser.add_argument("--chunks", type=ChunkId, nargs="*", default=[], help="all chunks of the downlink")
    parser.add_argument("--runs", type=RunId, nargs="*", default=[], help="all runs of the downlink")
    return jobs.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
