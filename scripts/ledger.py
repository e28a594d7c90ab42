#!/usr/bin/env python3
"""The ledger of acquisitions: load downlinks, compare it with the files, make it anew, tell the MOOT database."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from halfpipe import cli, locks
from halfpipe.errors import ConfigError
from halfpipe.files import remove_file, write_json
from halfpipe.ids import DownlinkId
from halfpipe.ledger import load as loading
from halfpipe.ledger import moot_update
from halfpipe.ledger.brought import Rule, overrides
from halfpipe.ledger.check import check
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.given_up import given_up


@dataclass(frozen=True)
class Site:
    """What every command works on."""

    work: Path
    ledger: Ledger
    rule: Rule
    moot_update: str | None
    root: Path

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Site":
        """Read it from the config."""
        settings = cli.settings(arguments)
        if settings.ledger_url is None:
            raise ConfigError("ledger.url is null: there is no ledger. Set it in the config.")
        return cls(
            settings.work,
            Ledger.of(settings.ledger_url, settings.ledger_password),
            Rule(
                settings.policy.min_epus,
                given_up(settings.work),
                overrides(settings.moot, all_runs=True),
            ),
            settings.moot_update,
            settings.root,
        )

    @classmethod
    def of_job(cls, arguments: argparse.Namespace) -> "Site":
        """Read it from the options of a job."""
        return cls(
            arguments.work,
            Ledger.of(arguments.url, arguments.password_file),
            Rule(arguments.min_epus, given_up(arguments.work), overrides(arguments.moot)),
            arguments.moot_update,
            arguments.root,
        )


def load(arguments: argparse.Namespace) -> int:
    """Load one downlink, and write last that it is in the ledger."""
    site, downlink = Site.of_job(arguments), arguments.downlink
    marker = loading.marker(site.work, downlink)
    with locks.downlink_job(site.work, downlink), cli.output(arguments.log) as output:
        remove_file(marker)
        tell = site.moot_update is not None
        brought = loading.load(site.ledger, site.work, downlink, site.rule, tell_moot=tell)
        if site.moot_update is not None:
            moot_update.send(site.ledger, site.moot_update, site.root, output, sorted(brought.parts))
        write_json(marker, brought.as_json())
    return 0


def upgrade(arguments: argparse.Namespace) -> int:
    """Bring the tables to the newest version, or make them."""
    site = Site.of(arguments)
    print(
        f"{site.ledger.name}: the tables were of version {site.ledger.upgrade() or 'none'}, and are up to date"
    )
    return 0


def rebuild(arguments: argparse.Namespace) -> int:
    """Make the ledger say what the files say."""
    site = Site.of(arguments)
    tell = site.moot_update is not None and not arguments.no_moot
    count = loading.rebuild(site.ledger, site.work, site.rule, tell_moot=tell, told=_shown)
    print(f"{count} downlinks in {site.ledger.name}")
    _say_pending(site)
    return 0


def _say_pending(site: Site) -> None:
    """Say how many runs the MOOT database has not heard of: nobody tells it but a load, and the command `moot`."""
    pending = moot_update.pending(site.ledger)
    if pending:
        print(f"the MOOT database has not heard of {len(pending)} runs (scripts/ledger.py moot)")


def _shown(downlinks: Iterable[DownlinkId]) -> Iterable[DownlinkId]:
    # None: only where a person looks at it.
    return tqdm(list(downlinks), unit=" downlinks", disable=None)


def compare(arguments: argparse.Namespace) -> int:
    """Compare the ledger with the files; status 1 if one is behind."""
    site = Site.of(arguments)
    found = check(site.ledger, site.work, site.rule, arguments.downlinks)
    for finding in found:
        print(finding)
    _say_pending(site)
    print(f"{len(found)} differences between {site.ledger.name} and {site.work}")
    return 1 if found else 0


def remove(arguments: argparse.Namespace) -> int:
    """Take downlinks out of the ledger; their files stay, and loading them again is outstanding."""
    site = Site.of(arguments)
    for downlink in arguments.downlinks:
        with locks.downlink_job(site.work, downlink):
            remove_file(loading.marker(site.work, downlink))
            tell = site.moot_update is not None
            runs = loading.remove(site.ledger, site.work, [downlink], site.rule, tell_moot=tell)
            print(f"downlink {downlink}: taken out of the ledger, with {len(runs)} runs")
    _say_pending(site)
    return 0


def refresh(arguments: argparse.Namespace) -> int:
    """Compute the rows of runs anew, and say how they stand now."""
    site = Site.of(arguments)
    tell = site.moot_update is not None
    found = loading.refresh(site.ledger, site.work, arguments.runs, site.rule, tell_moot=tell)
    for run, status in found.items():
        print(f"run {run} ({run.l1}): {status or 'not in the ledger, for no downlink with it is loaded'}")
    _say_pending(site)
    return 0


def moot(arguments: argparse.Namespace) -> int:
    """Tell the MOOT database what it has not heard yet; status 1 if that does not go."""
    site = Site.of(arguments)
    if site.moot_update is None:
        raise ConfigError("moot.update is null: nobody tells the MOOT database. Set it in the config.")
    before = moot_update.pending(site.ledger)
    left = moot_update.send(site.ledger, site.moot_update, site.root, sys.stderr)
    print(f"the MOOT database was told of {len(before) - len(left)} runs, {len(left)} are left")
    return 1 if left else 0


def job(arguments: argparse.Namespace) -> int:
    """Run the command that was named."""
    command: Callable[[argparse.Namespace], int] = arguments.command_function
    return command(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(function: Callable[[argparse.Namespace], int], name: str) -> argparse.ArgumentParser:
        assert function.__doc__ is not None
        command = commands.add_parser(name, help=function.__doc__.rstrip("."), description=function.__doc__)
        command.set_defaults(command_function=function)
        return command

    of_load = add(load, "load")
    of_load.add_argument("--work", type=Path, required=True, help="paths.work")
    of_load.add_argument("--downlink", type=DownlinkId, required=True)
    of_load.add_argument("--url", required=True, help="ledger.url, without a password")
    of_load.add_argument("--password-file", type=Path, help="ledger.password_file")
    of_load.add_argument("--min-epus", type=int, required=True, help="merge.min_epus")
    of_load.add_argument("--moot", type=Path, help="moot.file")
    of_load.add_argument("--moot-update", help="moot.update")
    of_load.add_argument("--root", type=Path, default=cli.ROOT, help="where moot.update is started")
    of_load.add_argument("--log", type=Path, help="log file; without one, everything goes to the terminal")

    cli.add_configfile(add(upgrade, "upgrade"))
    of_rebuild = add(rebuild, "rebuild")
    cli.add_configfile(of_rebuild)
    of_rebuild.add_argument(
        "--no-moot", action="store_true", help="the MOOT database knows all of it already"
    )
    of_check = add(compare, "check")
    cli.add_configfile(of_check)
    cli.add_downlinks(of_check)
    of_remove = add(remove, "remove")
    cli.add_configfile(of_remove)
    of_remove.add_argument("downlinks", type=cli.downlink, nargs="+", help="230401001 or dl=230401001")
    of_refresh = add(refresh, "refresh")
    cli.add_configfile(of_refresh)
    of_refresh.add_argument("runs", type=cli.run_id, nargs="+", help="r0702010205, or its eight hex digits")
    cli.add_configfile(add(moot, "moot"))
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
