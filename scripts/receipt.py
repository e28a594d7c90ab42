#!/usr/bin/env python3
"""Hand one downlink off to Level-1 and write its receipt."""

import argparse
from collections.abc import Sequence
from typing import IO

import halfpipe.process.starting  # noqa: F401 - first
from halfpipe.deliver import receipt
from halfpipe.files import leases
from halfpipe.ids import ChunkId, RunId
from halfpipe.process import rule_program, usage
from halfpipe.settings import Settings
from halfpipe.state import halts, hand_offs


def job(settings: Settings, arguments: argparse.Namespace, output: IO[str]) -> None:
    """Hand the downlink off."""
    work, downlink = settings.paths.work, arguments.downlink
    with leases.downlink_job(settings, downlink) as lease:
        halts.refuse(work, halts.Switch.STAGE, downlink)
        known = hand_offs.series(work, downlink)
        content = receipt.hand_off(settings, lease, downlink, arguments.chunks, arguments.runs, output)
        lease.check()
        receipt.save(settings, lease, known, downlink, arguments.runs, content)
        usage.remove_empty_logs(work, downlink)
    print(receipt.table(hand_offs.current(work, downlink)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = rule_program.parser(__doc__)
    parser.add_argument("--chunks", type=ChunkId, nargs="*", default=[], help="all chunks of the downlink")
    parser.add_argument("--runs", type=RunId, nargs="*", default=[], help="all runs of the downlink")
    return rule_program.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
