#!/usr/bin/env python3
"""List locks, or remove one whose holder died on another host.

On the holder's own host a dead holder's lock is taken over without this, and so is that of a Slurm job
that Slurm says is gone. Whether a process on another host lives, only a person can know: look there
first, for what it was doing may be done twice at the same time if it lives.
"""

import argparse
import socket
from collections.abc import Sequence

from halfpipe import cli, locks


def state(lock: locks.Found) -> str:
    """Say whether the lock stops anybody, and what to do about it."""
    if lock.dead:
        return "dead, will be taken over"
    if lock.holder is not None and lock.holder.host != socket.gethostname():
        return "held from another host"
    return "held"


def job(arguments: argparse.Namespace) -> int:
    """List or remove."""
    work = cli.settings(arguments).work
    for name in arguments.names:
        print(f"removed {name}, held by {locks.remove(work, name)}")
    if not arguments.names:
        for lock in locks.found(work):
            print(f"{lock.name}: {state(lock)}: {lock.holder or 'nobody says who'}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cli.add_configfile(parser)
    parser.add_argument("names", nargs="*", help="as listed, e.g. downlink-230401001; none: list all")
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
