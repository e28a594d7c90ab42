#!/usr/bin/env python3
"""Merge the chunk indexes of one run within one downlink."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from halfpipe import cli, locks, paths
from halfpipe.files import write_json
from halfpipe.handoff import receipt, stage
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge import index
from halfpipe.merge.known import Context, context_scratch


def job(arguments: argparse.Namespace) -> int:
    """Merge the indexes and vouch for the result."""
    work, downlink, run = arguments.work, arguments.downlink, arguments.run
    with locks.downlink_job(work, downlink), cli.output(arguments.log) as output:
        # Before the first merge: until the hand-off Level-1 may retire none of the downlink's runs.
        stage.halt_cleanup(arguments.stage, downlink, arguments.runs)
        receipt.withdraw(work, downlink)
        with locks.run_locked(work, run, cli.log.info), context_scratch(work, run):
            context = Context(
                work, run, cli.program(arguments, "simulated_decoder.py"), arguments.latc, output
            )
            products = [index.chunk_products(work, downlink, run, chunk) for chunk in arguments.chunks]
            merged = index.build([(chunk, context.products(downlink, chunk)) for chunk in products])
            index.save(merged, work, run, downlink)
        content = {
            "downlink": downlink,
            "run": run,
            "chunks": [chunk.as_json() for chunk in merged.chunks],
            "datagrams": {
                str(a): [list(r) for r in ranges] for a, ranges in merged.datagrams.ranges().items()
            },
            "events": len(merged.events),
        }
        write_json(work / paths.index(run, downlink), content)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = cli.job_parser(__doc__)
    parser.add_argument("--work", type=Path, required=True, help="paths.work")
    parser.add_argument("--stage", type=Path, required=True, help="paths.stage")
    parser.add_argument("--downlink", type=DownlinkId, required=True)
    parser.add_argument("--run", type=RunId, required=True)
    parser.add_argument("--chunks", type=ChunkId, nargs="*", default=[], help="chunks that bring the run")
    parser.add_argument("--runs", type=RunId, nargs="+", required=True, help="all runs of the downlink")
    cli.add_program(parser)
    parser.add_argument("--latc", help="decoder.latc")
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
