#!/usr/bin/env python3
"""Process a batch of neighboring downlinks up to their hand-off, one after the other."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import halfpipe.process.starting  # noqa: F401 - first
from halfpipe.errors import DecoderError
from halfpipe.files.json_files import read_json
from halfpipe.ids import DownlinkId
from halfpipe.operate.batches import process_batch
from halfpipe.plan.plan import refuse_closed
from halfpipe.process import rule_program
from halfpipe.settings import Settings
from halfpipe.staging import stage_mark


def job(settings: Settings, arguments: argparse.Namespace, _output: object) -> None:
    """Process the downlinks of the batch."""
    stage_mark.refuse(settings)
    refuse_closed(settings.paths.work)
    content = read_json(arguments.batches)
    downlinks = [DownlinkId(dl) for dl in content["batches"][arguments.number]]
    log = arguments.log.with_suffix(".snakemake.log")
    if process_batch(settings, arguments.settings, downlinks, content["since"], arguments.cores, log):
        raise DecoderError(
            f"the process of a downlink was killed, perhaps because memory ran out; its log: {log}",
            code="killed",
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = rule_program.parser(__doc__, downlink=False)
    parser.add_argument(
        "--batches", type=Path, required=True, help="file with the batches, written by `halfpipe process`"
    )
    parser.add_argument("--number", type=int, required=True, help="number of the batch")
    parser.add_argument("--cores", type=int, default=1, help="cores for each downlink")
    return rule_program.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
