"""`halfpipe unattended`."""

import os
import signal
import sys
from contextlib import suppress

import click

from halfpipe.cli.verbs import Site, Verb, cores
from halfpipe.operate import unattended_turn


@click.command(
    "unattended",
    cls=Verb,
    at_work=False,
    examples=[
        ("halfpipe unattended --timer --profile s3df", "one turn, as the timer runs it"),
        (
            "halfpipe unattended --timeout-minutes 60",
            "one by hand, which ends after an hour without progress",
        ),
    ],
    statuses={
        0: "good, or nothing was outstanding",
        1: "something failed or needs action",
        2: "wrong command line or configuration, or more outstanding downlinks than outstanding.max: nothing was done",
        3: "downlinks ran out of time; others may have failed",
        4: "another unattended turn is running: nothing was done",
        130: "ended by SIGINT, with all jobs (143: by SIGTERM)",
    },
)
@cores
@click.option(
    "--timeout-minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=unattended_turn.MINUTES,
    show_default=True,
    help="End the turn if no downlink is done in this time, not counting the time in Slurm's queue.",
)
@click.option(
    "--timer",
    is_flag=True,
    help="For a timer: status shows if its turns stop, and a turn is silent if another is running.",
)
def command(
    site: Site,
    cores: int | None,
    timeout_minutes: float,
    timer: bool,
) -> int:
    """Process every outstanding downlink, for cron or a systemd timer.

    Snakemake runs with the profile of the site: each downlink is one job in Slurm, or some jobs here, up to its
    receipt, and with submit.automatic up to its submission. A downlink that fails does not stop the others, and comes
    last in the next turn. Downlinks that are held or in progress elsewhere are skipped.

    Silent on success. A problem is reported when it appears, changes or is resolved, and again after
    alarm.remind_hours. Cron or systemd mails the report, or alarm.command receives it.
    """
    # A shell starts background commands with SIGINT ignored, and Snakemake would inherit that.
    signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
    said: list[str] = []

    def say(message: str) -> bool:
        text = "\n".join([message] if said else [str(site), message])
        said.append(message)
        return _printed(text)

    if not unattended_turn.is_usable(site.settings, site.check, say):
        return unattended_turn.UNUSABLE
    return unattended_turn.turn(
        site.settings,
        site.snakemake(cores),
        timeout_minutes,
        say,
        timer=timer,
    )


def _printed(text: str) -> bool:
    """Print a text; a closed pipe or a full disk must not stop the turn."""
    try:
        click.echo(text)
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):  # so that flushing the rest at exit does not fail
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
