#!/usr/bin/env python3
"""Process neighbouring downlinks one after the other up to their hand-off: an element of many."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from halfpipe.downlink import one_process, stage_mark
from halfpipe.downlink.plan import refuse_closed
from halfpipe.files.json_files import read_json
from halfpipe.process import rule_program
from halfpipe.process.environment import without_idle_threads
from halfpipe.settings import Settings
from halfpipe.site.element import process_all

ELEMENT = "SLURM_ARRAY_TASK_ID"


def job(settings: Settings, arguments: argparse.Namespace, _output: object) -> None:
    """Process the downlinks of an element."""
    stage_mark.refuse_delivery(settings)
    refuse_closed(settings.paths.work)
    content = read_json(arguments.list)
    os.chdir(settings.paths.work)
    one_process.load()
    entries = content["elements"][arguments.element]
    since, cores, submits = content["since"], content["cores"], content["submits"]
    process_all(settings, arguments.settings, entries, since, cores, submits=submits)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    without_idle_threads()
    parser = rule_program.parser(__doc__, downlink=False)
    parser.add_argument("--list", type=Path, required=True, help="what `halfpipe process` has written")
    parser.add_argument("--element", type=int, default=os.environ.get(ELEMENT), help="its number")
    return rule_program.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
