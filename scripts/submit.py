#!/usr/bin/env python3
"""Submit one downlink to Level-1, once: the job of rule submit.

The records are in <dl>/submissions under paths.work; docs/submission.md explains them.
"""

import argparse
from collections.abc import Sequence
from typing import IO

import halfpipe.process.starting  # noqa: F401 - first
from halfpipe.files import leases
from halfpipe.notify import submit
from halfpipe.process import rule_program
from halfpipe.settings import Settings


def job(settings: Settings, arguments: argparse.Namespace, output: IO[str]) -> None:
    """Submit the downlink, write the product, and print the result."""
    downlink = arguments.downlink
    with leases.downlink_job(settings, downlink) as lease:
        made = submit.submit(settings, downlink, output)
        lease.check()
        submit.save(settings, made)
    print(submit.what_came_of_it(made))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    return rule_program.run(job, rule_program.parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
