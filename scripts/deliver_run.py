#!/usr/bin/env python3
"""Deliver one run of one downlink: merge its indexes, then stage its event files for Level-1 or refuse the run."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import halfpipe.process.starting  # noqa: F401 - first
from halfpipe.deliver.deliver_run import deliver_run
from halfpipe.ids import ChunkId, RunId
from halfpipe.process import rule_program
from halfpipe.settings import Settings


def job(settings: Settings, arguments: argparse.Namespace, output: IO[str]) -> None:
    """Deliver the run."""
    deliver_run(
        settings,
        arguments.downlink,
        arguments.run,
        arguments.chunks,
        arguments.runs,
        threads=arguments.threads,
        output=output,
    )


def chunk_of(product: str) -> ChunkId:
    """Return the id of a chunk from the path of its product (`paths.chunk`)."""
    return ChunkId(Path(product).stem)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = rule_program.parser(__doc__)
    parser.add_argument("--run", type=RunId, required=True)
    parser.add_argument(
        "--chunks", type=chunk_of, nargs="*", default=[], help="products of the chunks to merge"
    )
    parser.add_argument("--runs", type=RunId, nargs="+", required=True, help="all runs of the downlink")
    parser.add_argument("--threads", type=int, default=1, help="event files written at the same time")
    return rule_program.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
