#!/usr/bin/env python3
"""Hand one downlink off to Level-1 and write its receipt."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from halfpipe import cli, halts, locks
from halfpipe.handoff import receipt
from halfpipe.ids import ChunkId, RunId


def job(arguments: argparse.Namespace) -> int:
    """Hand the downlink off."""
    what = receipt.Job(
        arguments.work,
        arguments.stage,
        arguments.downlink,
        tuple(arguments.chunks),
        tuple(arguments.runs),
        cli.program(arguments, "simulated_magic7.py") if arguments.command else None,
        tuple((ChunkId(chunk), reason) for chunk, reason in arguments.ignored.items()),
        arguments.config,
        arguments.max_exceptions,
    )
    with locks.downlink_job(what.work, what.downlink), cli.output(arguments.log) as output:
        halts.refuse(what.work, halts.Switch.STAGE, what.downlink)
        content = receipt.hand_off(what, output)
        receipt.save(what, content)
    print(receipt.table(content))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = cli.downlink_parser(__doc__)
    parser.add_argument("--stage", type=Path, required=True, help="paths.stage")
    parser.add_argument("--chunks", type=ChunkId, nargs="*", default=[], help="all chunks of the downlink")
    parser.add_argument("--runs", type=RunId, nargs="*", default=[], help="all runs of the downlink")
    parser.add_argument("--ignored", type=json.loads, default={}, help="{chunk: reason} as JSON")
    parser.add_argument("--config", type=json.loads, required=True, help="the config that matters, as JSON")
    parser.add_argument("--max-exceptions", type=int, help="decoder.max_exceptions")
    cli.add_program(parser)
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
