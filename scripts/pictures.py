#!/usr/bin/env python3
"""Draw the runs of a downlink."""

import argparse
import time
from collections.abc import Sequence
from typing import IO

import halfpipe.process.starting  # noqa: F401 - first
from halfpipe import paths
from halfpipe.files.durable import make_directory, write_bytes
from halfpipe.files.json_files import write_json
from halfpipe.pages.pictures import run_picture
from halfpipe.process import rule_program
from halfpipe.settings import Settings
from halfpipe.state.hand_offs import current
from halfpipe.status.survey import Survey


def job(settings: Settings, arguments: argparse.Namespace, _: IO[str]) -> None:
    """Draw the runs, and list the pictures."""
    work, downlink, survey = settings.paths.work, arguments.downlink, Survey(settings, time.time())
    last = current(work, downlink)
    home = make_directory(work, paths.pictures(downlink))
    made = {f"run-{one.run}.svg": run_picture(survey, one.run) for one in last.runs if one.delivery.epus}
    for name, content in made.items():
        write_bytes(home / name, content)
    listed = {"downlink": downlink, "handoff": last.number, "pictures": [*made]}
    write_json(work / paths.drawn(downlink), listed)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    return rule_program.run(job, rule_program.parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
