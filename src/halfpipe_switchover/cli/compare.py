"""`halfpipe compare`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import DOWNLINK, Site, Verb, as_json
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.ids import DownlinkId
from halfpipe.words import count

if TYPE_CHECKING:
    from halfpipe_switchover.comparison import Compared

MOST = 30  # groups shown of a downlink
VERDICTS = {0: "the same events", 1: "other events, all explained", 3: "something unexplained"}


@click.command(
    "compare",
    cls=Verb,
    examples=[
        ("halfpipe compare 230401001 --with /legacy/stage", "with a stage of the legacy"),
        ("halfpipe compare 230401001 --with /legacy/Downlinks", "with the legacy's records of it"),
        ("halfpipe compare 2023-04 --with DIR", "a month"),
    ],
    statuses={
        0: "the same events, byte for byte; what else differs is explained",
        1: "differences, all explained; or a downlink is missing here, or the other side has no records left",
        2: "no downlink exists on both sides, or the command line is wrong",
        3: "something is unexplained, or a downlink could not be compared",
    },
)
@click.argument("downlinks", nargs=-1, required=True, type=DOWNLINK, metavar="DL...")
@click.option(
    "--with",
    "other",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="A stage, an archive of deliveries, or the legacy's tree of downlinks.",
)
@as_json
def command(site: Site, downlinks: tuple[DownlinkId, ...], other: Path, as_json: bool) -> int:
    """Compare deliveries with those of the legacy or another system, event by event and text by text.

    "here" is the stage, "there" is DIR. Each group of events that differs has a reason: a "defect" of the legacy with
    its number (docs/switch-over/legacy.md), "spans", "elsewhere", "waits", "gone", or "unexplained".
    """
    if not other.is_dir():
        raise click.UsageError(f"--with {other}: no such directory.")
    from halfpipe_switchover.comparison import compare  # noqa: PLC0415 - numpy

    found: list[Compared] = []
    errors: dict[DownlinkId, HalfPipeError] = {}
    for downlink in downlinks:
        try:
            found.append(compare(site.settings, downlink, other))
        except HalfPipeError as error:
            errors[downlink] = error
    absent = {dl: str(error) for dl, error in errors.items() if isinstance(error, MissingInputError)}
    failed = [f"downlink {dl}: {error}" for dl, error in errors.items() if dl not in absent]
    if as_json:
        printed.as_json(
            work=site.work,
            other=other,
            downlinks=[{"status": one.status, "unexplained": one.unexplained, **vars(one)} for one in found],
            absent=absent,
            failed=failed,
        )
    else:
        for one in found:
            _print(one)
        if len(downlinks) > 1:
            verdicts = Counter(VERDICTS[one.status] for one in found)
            click.echo(
                "; ".join(f"{count(many, 'downlink')}: {verdict}" for verdict, many in verdicts.items())
            )
    for why in absent.values():
        click.echo(f"{'not there yet' if found else 'error'}: {why}", err=True)
    printed.errors(failed)
    if failed or found:
        return max([3 * bool(failed), bool(absent), *(one.status for one in found)])
    return 2


def _print(one: "Compared") -> None:
    """Print the verdict on a downlink, then each difference."""
    here, there, same = (sum(getattr(run, name) for run in one.runs) for name in ("here", "there", "same"))
    verdict = VERDICTS[one.status]
    click.echo(f"downlink {one.downlink}: {verdict} ({here} here, {there} there, {same} the same)")
    names = ("run", "first", "last", "events", "where", "kind", "defect", "text")
    rows = [{name: getattr(group, name) for name in names} for group in one.groups[:MOST]]
    printed.table(rows, colors=["red" if row["kind"] == "unexplained" else None for row in rows])
    if len(one.groups) > MOST:
        click.echo(f"  and {len(one.groups) - MOST} more: --format json has all of them")
    for other in one.findings:
        if other not in one.groups:
            of = f" of {other.run}" if other.run else ""
            by = f" (defect {other.defect})" if other.defect else ""
            both = other.here or other.there
            sides = f": {other.here or 'nothing'} here, {other.there or 'nothing'} there" if both else ""
            click.echo(f"  {other.what}{of}{sides}{by}: {other.kind}: {other.text}")
