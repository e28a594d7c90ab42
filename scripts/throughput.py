#!/usr/bin/env python3
"""Print how fast the jobs were, one line a rule: the latest try of each job of which a record is there."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from halfpipe import cli
from halfpipe.files import dump_json
from halfpipe.reports import throughput

MEGA = 10**6


def table(rates: Sequence[throughput.Rate]) -> str:
    """Return the rates as a table for people; MB are 10^6 bytes."""
    rows = [
        {
            "rule": rate.rule,
            "jobs": rate.jobs,
            "median s": f"{rate.median_seconds:.1f}",
            "max s": f"{rate.max_seconds:.1f}",
            "CPU s": f"{rate.cpu_seconds:.1f}",
            "max MB memory": f"{rate.max_memory / MEGA:.0f}",
            "events": f"{rate.events}",
            "MB": f"{rate.size / MEGA:.0f}",
            "events/s": f"{rate.events_per_second:.0f}",
            "MB/s": f"{rate.bytes_per_second / MEGA:.1f}",
        }
        for rate in rates
    ]
    return pd.DataFrame(rows).to_string(index=False)


def job(arguments: argparse.Namespace) -> int:
    """Print the table."""
    settings = cli.settings(arguments)
    wanted = arguments.downlinks or throughput.downlinks(settings.work)
    rates = throughput.rates(throughput.jobs(settings.work, wanted))
    if arguments.json:
        print(dump_json({"downlinks": wanted, "rules": [asdict(rate) for rate in rates]}), end="")
    else:
        print(table(rates) if rates else "no job has a record of what it took")
        print(f"{len(wanted)} downlinks, {sum(rate.jobs for rate in rates)} jobs")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_configfile(parser)
    parser.add_argument("--json", action="store_true", help="print JSON: seconds and bytes")
    cli.add_downlinks(parser)
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
