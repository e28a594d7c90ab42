#!/usr/bin/env python3
"""List locks, or remove one whose holder died on another host.

On the holder's own host a dead holder's lock is taken over without this, and so is that of a Slurm job
that Slurm says is gone.
"""

import argparse
from collections.abc import Sequence

from halfpipe import cli, locks


def job(arguments: argparse.Namespace) -> int:
    """List or remove."""
    work = cli.settings(arguments).work
    for name in arguments.names:
        print(f"removed {name}, held by {locks.remove(work, name)}")
    if not arguments.names:
        for lock in locks.found(work):
            state = "dead, will be taken over" if lock.dead else "held"
            print(f"{lock.name}: {state}: {lock.holder or 'nobody says who'}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_configfile(parser)
    parser.add_argument("names", nargs="*", help="as listed, e.g. downlink-230401001; none: list all")
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
