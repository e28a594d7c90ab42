#!/usr/bin/env python3
"""Hand runs to Online: a run that is there from start to stop becomes one file in paths.online, once.

Downlinks that are named must be handed off; with none, all runs are looked at that have no file yet. Runs
that wait are listed with what is missing of them. docs/online.md explains it.

Exit status: 0 all that is ready was handed off, though runs may wait or be held; 1 something failed, is not
known, or a downlink that was named is held; 2 the command line cannot be used.
"""

import argparse
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from halfpipe import cli, forced, halts, locks, paths
from halfpipe.config import Settings
from halfpipe.errors import ConfigError
from halfpipe.ids import RunId, RunKind
from halfpipe.moot import Moot
from halfpipe.online import hand_off
from halfpipe.online.hand_off import What
from halfpipe.reports import waiting

# Of no interest where no downlink is named: most runs of a mission.
QUIET = {What.BEFORE, What.OTHER}
log = logging.getLogger("halfpipe")


def described(settings: Settings) -> hand_off.Job:
    """Return where and how, as the config says."""
    if settings.online is None:
        raise ConfigError(
            "paths.online is null: the hand-off to Online is switched off. Set it in the config."
        )
    return hand_off.Job(
        settings.work,
        settings.online,
        settings.root,
        settings.online_types,
        settings.policy.min_epus,
        settings.latc_override,
        settings.moot,
        settings.online_command,
        settings.decoder,
        settings.decoder_latc,
        settings.without_context,
        mapped(settings),
    )


def mapped(settings: Settings) -> Callable[[RunId], Callable[[RunKind, float, int], Moot | None]] | None:
    """Return what asks the ledger for a run's MOOT key and alias, None if the config wants no mapping."""
    if not settings.moot_mapping or settings.ledger_url is None:
        return None
    # Only here: the database's library takes as long to load as all else.
    from halfpipe.ledger.database import Ledger  # noqa: PLC0415
    from halfpipe.ledger.mapping import mapped_by  # noqa: PLC0415

    return partial(mapped_by, Ledger.of(settings.ledger_url, settings.ledger_password))


def job(arguments: argparse.Namespace) -> int:
    """Do what the options say."""
    settings = cli.settings(arguments)
    named = arguments.again or arguments.started or arguments.not_started
    if settings.online is None and not named:
        print("paths.online is null: the hand-off to Online is switched off")
        return 0
    what = described(settings)
    lock = locks.FileLock(what.work / paths.online_lock())
    lock.take("another hand-off to Online", log.warning)
    try:
        return settled(what, arguments) if arguments.started or arguments.not_started else go(what, arguments)
    finally:
        lock.give_back()


def settled(what: hand_off.Job, arguments: argparse.Namespace) -> int:
    """Write down what a person has found out."""
    started = arguments.started is not None
    hand_off.settle(what, arguments.started or arguments.not_started, started=started)
    print(f"{arguments.started or arguments.not_started}: settled, {'started' if started else 'not started'}")
    return 0


def go(what: hand_off.Job, arguments: argparse.Namespace) -> int:
    """Hand runs off, and say what became of each."""
    for downlink in arguments.downlinks:
        halts.refuse(what.work, halts.Switch.ONLINE, downlink)
    switch = halts.holding(what.work, halts.Switch.ONLINE)
    if switch is not None and not arguments.again:
        print(f"the hand-off to Online is held by {switch}")
        return 0
    for complaint in forced.read(what.work).refused:
        log.warning("%s", complaint)
    counts: Counter[What] = Counter()
    with cli.output(arguments.log) as output:
        if arguments.again:
            results = iter([hand_off.again(what, arguments.again, output)])
        elif arguments.downlinks:
            runs = {run for downlink in arguments.downlinks for run in hand_off.runs_of(what.work, downlink)}
            results = hand_off.hand_off(what, sorted(runs), output)
        else:
            results = hand_off.hand_off(what, waiting.runs(what.work), output)
        for result in results:
            counts[result.what] += 1
            if result.what is What.FAILED:
                log.error("%s", result)
            elif arguments.downlinks or arguments.again or result.what not in QUIET:
                print(result, flush=True)
    print(", ".join(f"{counts[each]} {each}" for each in What if counts[each]) or "no run is known")
    held = arguments.again is not None and counts[What.MADE] == 0
    return 1 if counts[What.FAILED] or held else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = cli.job_parser(__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_configfile(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--again", type=cli.run_id, metavar="RUN", help="make the file of a run anew, and run its command"
    )
    what.add_argument("--started", type=cli.run_id, metavar="RUN", help="say that its command did its work")
    what.add_argument("--not-started", type=cli.run_id, metavar="RUN", help="say that it did not")
    what.add_argument(
        "downlinks",
        nargs="*",
        default=[],
        type=cli.downlink,
        help="230401001 or dl=230401001; none: all runs",
    )
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
