"""`halfpipe check`."""

import click

from halfpipe.causes import Verdict
from halfpipe.cli import printed
from halfpipe.cli.verbs import Site, Verb, as_json, downlinks
from halfpipe.downlink.stage_mark import stage_lacks
from halfpipe.ids import DownlinkId
from halfpipe.status.account import Site as Looked
from halfpipe.status.checks import examine
from halfpipe.tables import names
from halfpipe.words import count


@click.command(
    "check",
    cls=Verb,
    examples=[
        ("halfpipe check", "all downlinks, byte for byte"),
        ("halfpipe check --no-checksums", "the same in a moment"),
        ("halfpipe check 230401001", "one downlink"),
    ],
    statuses={0: "all is as the receipts say", 1: "something is missing or differs, or needs action"},
)
@downlinks
@click.option("--no-checksums", is_flag=True, help="Compare sizes only.")
@as_json
def command(site: Site, downlinks: tuple[DownlinkId, ...], no_checksums: bool, as_json: bool) -> int:
    """Say what keeps a downlink from being good, and compare receipts, manifests and files.

    It shows what `halfpipe status` shows, and what is missing or differs, each with the command that mends it. It is
    no fault that Level-1 has taken a hand-off, or that clean-up has removed what can be made again.
    """
    looked = Looked(site.settings)
    wanted = downlinks or names.downlinks(site.work)
    restored = stage_lacks(site.settings)
    faults, results = int(restored is not None), []
    if restored and not as_json:
        click.echo(f"site: {restored.text}\n  → {restored.do}")
    for downlink in wanted:
        causes = examine(looked, downlink, checksums=not no_checksums)
        bad = sum(cause.verdict is Verdict.ACTION for cause in causes)
        faults += bad
        found = [cause.as_json() | {"verdict": str(cause.verdict)} for cause in causes]
        results.append({"downlink": downlink, "faults": bad, "found": found})
        if not as_json:
            said = printed.tinted(count(bad, "fault"), fg="red", bold=True) if bad else "good"
            click.echo(f"downlink {downlink}: {said}")
            for cause in causes:
                click.echo(f"  {cause.verdict}: {cause.text}")
                if cause.do:
                    click.echo(f"  → {cause.do}")
    if as_json:
        of_site = [restored.as_json()] if restored else []
        printed.as_json(work=site.work, faults=faults, site=of_site, downlinks=results)
    else:
        click.echo(f"{count(len(wanted), 'downlink')}, {count(faults, 'fault')}")
    return 1 if faults else 0
