"""`halfpipe retdefs`."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import DOWNLINK, Site, Verb, as_json
from halfpipe.formats.retdef import RetDef
from halfpipe.ids import DownlinkId
from halfpipe.repipe import made_retdefs
from halfpipe.repipe.made_retdefs import Uncovered
from halfpipe.words import count, utc

TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


@click.command(
    "retdefs",
    cls=Verb,
    at_work=False,
    examples=[
        ("halfpipe retdefs 230401001", "compare the RetDefs of a downlink with level-0"),
        ("halfpipe retdefs 230401001 --l0key 1081721 -o made", "make them in made/230401001"),
        ("halfpipe retdefs 230401001 --from 2023-04-01 --to 2023-04-02", "of a span of time"),
    ],
    statuses={0: "good", 1: "packets are in no RetDef, or of no known run; or an error"},
)
@click.argument("downlink", type=DOWNLINK, metavar="DL")
@click.option(
    "--l0key",
    "keys",
    type=click.IntRange(0),
    multiple=True,
    metavar="N",
    help="Key that ends the names of its level-0 files. May be repeated. Default: that of its RetDefs, or any.",
)
@click.option(
    "--from", "begin", type=TIME, metavar="TIME", help="First packets (UTC). Default: 2 days before."
)
@click.option(
    "--to", "end", type=TIME, metavar="TIME", help="Last packets. Default: the end of the next day."
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write RetDefs into DIR/DL; those that HalfPipe made there before are replaced.",
)
@as_json
def command(
    site: Site,
    downlink: DownlinkId,
    keys: tuple[int, ...],
    begin: datetime | None,
    end: datetime | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Compare the RetDefs of a downlink with level-0, or make them.

    It makes one RetDef for each run, APID and contiguous piece of packets, at most 20 if that is possible. It lists
    gaps in the packets' counters, and packets that no RetDef of the downlink covers. Where
    paths.retdef has RetDefs of the site and of HalfPipe, the site's count.
    """
    if not as_json:
        site.say()
    settings = site.settings
    asked = made_retdefs.asked_for(settings, downlink, keys, (_unix(begin), _unix(end)))
    found = made_retdefs.look(settings, asked, made_retdefs.recorded_runs(settings, asked))
    made = found.made()
    written = made_retdefs.write(made, downlink, out) if out is not None else []
    if as_json:
        printed.as_json(
            downlink=downlink,
            archive=asked.root,
            l0keys=sorted(asked.keys) if asked.keys else None,
            packets=found.packets,
            chunks=[asdict(retdef) for retdef in made],
            written=written,
            uncovered=found.uncovered,
            faults=found.faults,
        )
    else:
        printed.table([_row(retdef) for retdef in made])
        for line in [*found.faults, *(_uncovered(each, downlink) for each in found.uncovered)]:
            click.echo(line)
        where = f"written to {out / downlink}" if out is not None else "nothing was written (no -o)"
        click.echo(f"{count(found.packets, 'packet')}, {count(len(made), 'chunk')}: {where}")
    return 1 if found.uncovered else 0


def _uncovered(each: Uncovered, downlink: DownlinkId) -> str:
    times = f"{count(each.packets, 'packet')} from {utc(each.begin)} to {utc(each.end)}"
    if each.run is None:
        return f"APID {each.apid}: {times} are of no known run, and in no RetDef"
    return (
        f"run {each.run} ({each.run.l1}), APID {each.apid}: {times} are in the archive, and no RetDef of downlink "
        f"{downlink} covers them"
    )


def _unix(time: datetime | None) -> float | None:
    return time.replace(tzinfo=UTC).timestamp() if time else None


def _when(unix: float) -> datetime:
    return datetime.fromtimestamp(unix, UTC)


def _row(retdef: RetDef) -> dict[str, printed.Cell]:
    first, last = retdef.spans[0], retdef.spans[-1]
    return {
        "chunk": retdef.chunk,
        "run": retdef.run,
        "APID": first.apid,
        "spans": len(retdef.spans),
        "begin": _when(first.begin),
        "end": _when(last.end),
    }
