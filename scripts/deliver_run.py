#!/usr/bin/env python3
"""Deliver one run of one downlink: merge its indexes, and stage its event files for Level-1 or refuse it."""

import argparse
from collections.abc import Sequence
from typing import IO

from halfpipe import paths
from halfpipe.downlink import deliver_run, halts, stage_look, stage_mark
from halfpipe.files import leases
from halfpipe.files.json_files import write_json
from halfpipe.ids import ChunkId, RunId
from halfpipe.process import rule_program
from halfpipe.process.environment import keep_together
from halfpipe.run import halt_cleanup
from halfpipe.run.receipt_file import withdraw
from halfpipe.settings import Settings


def job(settings: Settings, arguments: argparse.Namespace, output: IO[str]) -> None:
    """Deliver the run, and list its staged files in the manifest."""
    keep_together()
    work, downlink, run = settings.paths.work, arguments.downlink, arguments.run
    with leases.downlink_job(settings, downlink) as lease:
        halts.refuse(work, halts.Switch.STAGE, downlink)
        stage_look.refuse_foreign(settings, downlink, arguments.runs)
        stage_mark.refuse_delivery(
            settings, paths.deliveries(run), paths.receipts(downlink), paths.submissions(downlink)
        )
        stage_mark.note(settings, ())  # from now on no other working directory may use the stage
        # Before the first delivery, so that Level-1 retires none of the runs until the hand-off.
        halt_cleanup.put(settings.paths.stage, downlink, arguments.runs)
        lease.check()
        withdraw(work, downlink)
        manifest = deliver_run.deliver_run(
            settings, lease, downlink, run, arguments.chunks, threads=arguments.threads, output=output
        )
        lease.check()
        write_json(work / paths.manifest(run, downlink), manifest)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = rule_program.parser(__doc__)
    parser.add_argument("--run", type=RunId, required=True)
    parser.add_argument("--chunks", type=ChunkId, nargs="*", default=[], help="chunks with data of the run")
    parser.add_argument("--runs", type=RunId, nargs="+", required=True, help="all runs of the downlink")
    parser.add_argument("--threads", type=int, default=1, help="event files written at the same time")
    return rule_program.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
