"""`halfpipe submit`."""

import sys

import click

from halfpipe.cli.verbs import DOWNLINK, Site, Verb
from halfpipe.files import leases
from halfpipe.ids import DownlinkId
from halfpipe.notify import submit


@click.command(
    "submit",
    cls=Verb,
    examples=[
        ("halfpipe submit 230401001", "submit it once, like snakemake submit=…"),
        ("halfpipe submit 230401001 --settle submitted", "record that Level-1 has it"),
        ("halfpipe submit 230401001 --settle not-submitted", "record that it does not"),
        ("halfpipe submit 230401001 --rollback", "have Level-1 take the newest hand-off"),
    ],
    statuses={
        0: "good; without submit.command, you must run the printed command",
        1: "not submitted, or the outcome is unknown; the message says how to continue",
    },
)
@click.argument("downlink", type=DOWNLINK, metavar="DL", help="As 230401001 or dl=230401001.")
@click.option(
    "--rollback", is_flag=True, help="Have Level-1 take the newest hand-off instead of an earlier one."
)
@click.option(
    "--settle",
    type=click.Choice(["submitted", "not-submitted"]),
    help="Record what the pipeline shows of the last attempt, or of a rollback by hand.",
)
def command(site: Site, downlink: DownlinkId, rollback: bool, settle: str | None) -> None:
    """Submit a downlink to Level-1, roll it back, or record what you found out.

    A downlink is submitted once, even if processes die or the command is repeated. A later hand-off reaches Level-1
    only after a rollback, which needs this command. `halfpipe status` shows attempts with an unknown outcome. Details:
    docs/submission.md.
    """
    if rollback and settle:
        raise click.UsageError("Give --rollback or --settle, not both.")
    with leases.downlink_job(site.settings, downlink):
        if settle:
            attempt = submit.settle(site.settings, downlink, settle == "submitted")
            click.echo(
                f"downlink {downlink}: attempt {attempt.number} is settled, hand-off {attempt.handoff} {settle}"
            )
        elif rollback:
            submit.roll_back(site.settings, downlink, sys.stderr)
            click.echo(f"downlink {downlink}: rolled back in Level-1")
        else:
            made = submit.submit(site.settings, downlink, sys.stderr)
            submit.save(site.settings, made)
            click.echo(submit.what_came_of_it(made))
