#!/usr/bin/env python3
"""Compare receipts, manifests and files, and name what is missing or differs."""

import argparse
from collections.abc import Sequence

from halfpipe import cli
from halfpipe.reports import check


def job(arguments: argparse.Namespace) -> int:
    """Check the downlinks; status 1 if something is missing or differs."""
    settings = cli.settings(arguments)
    wanted = arguments.downlinks or check.downlinks(settings.work)
    faults = 0
    for downlink in wanted:
        found = check.check(settings.work, settings.stage, downlink, checksums=not arguments.no_checksums)
        bad = sum(not finding.note for finding in found)
        faults += bad
        print(f"downlink {downlink}: {f'{bad} faults' if bad else 'good'}")
        for finding in found:
            print(f"  {finding}")
    print(f"{len(wanted)} downlinks, {faults} faults")
    return 1 if faults else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_configfile(parser)
    parser.add_argument("--no-checksums", action="store_true", help="compare sizes only")
    cli.add_downlinks(parser)
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
