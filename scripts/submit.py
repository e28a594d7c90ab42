#!/usr/bin/env python3
"""Submit one downlink to Level-1, once: the job of rule submit.

What was done stands in <dl>/submissions under paths.work; docs/submission.md explains it.
"""

import argparse
from collections.abc import Sequence

from halfpipe import jobs
from halfpipe.settings import Settings
from halfpipe.storage import leases
from halfpipe.submission import submit


def job(settings: Settings, arguments: argparse.Namespace) -> None:
    """Submit the downlink, write the product, and say what came of it."""
    downlink = arguments.downlink
    with leases.downlink_job(settings.paths.work, downlink) as lease, jobs.output(arguments.log) as output:
        content = submit.submit(settings, downlink, output)
        lease.check()
        submit.save(settings, downlink, content)
    print(submit.what_came_of_it(content))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    return jobs.run(job, jobs.parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
