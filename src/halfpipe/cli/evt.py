"""`halfpipe evt`: event files, wherever they lie."""

from pathlib import Path

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import DOWNLINK, Verb, as_json
from halfpipe.errors import HalfPipeError
from halfpipe.formats import evt_view
from halfpipe.ids import DownlinkId
from halfpipe.words import count

FILE = click.Path(path_type=Path)


@click.group("evt")
def command() -> None:
    """Show or check event files.

    They may lie in the stage, beside chunks, or with Online; docs/evt-layout.md has the format.
    """


@command.command(
    "show",
    cls=Verb,
    of_site=False,
    examples=[
        ("halfpipe evt show FILE", "its header, and how many events of which kind"),
        ("halfpipe evt show FILE --event -1", "the last event with all its fields"),
        ("halfpipe evt show FILE --sequence 1042", "every event of this GEM sequence"),
    ],
    statuses={0: "good", 1: "there is no such file or event, or it cannot be read"},
)
@click.argument("file", type=FILE, metavar="FILE", help="An event file.")
@click.option("--event", type=int, metavar="N", help="Show event N, counted from 0; -1 is the last.")
@click.option("--sequence", type=int, metavar="S", help="Show every event with this GEM sequence.")
def show(file: Path, event: int | None, sequence: int | None) -> None:
    """Show the header and counts of an event file, or any event.

    A line has the byte in the file, the part of the record, the name of the field, and its value.
    """
    if event is not None and sequence is not None:
        raise click.UsageError("--event and --sequence: give one of the two.")
    if event is None and sequence is None:
        lines = evt_view.describe_file(file)
    else:
        lines = evt_view.describe_events(file, number=event, sequence=sequence)
    for line in lines:
        click.echo(line)


@command.command(
    "check",
    cls=Verb,
    of_site=False,
    examples=[("halfpipe evt check STAGE/230401001/*/*.evt --downlink 230401001", "all files of a hand-off")],
    statuses={0: "all files are good", 1: "one is not"},
)
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...", help="Event files.")
@click.option("--downlink", type=DOWNLINK, metavar="DL", help="Downlink that the headers must name.")
@as_json
def check(files: tuple[Path, ...], downlink: DownlinkId | None, as_json: bool) -> int:
    """Check event files: every record, their order, header and name.

    One line for each file, or for each fault.
    """
    results = [_checked(path, downlink) for path in files]
    bad = sum(bool(faults) for _, faults in results)
    if as_json:
        printed.as_json(
            files=[
                {"file": path, "events": events, "faults": faults}
                for path, (events, faults) in zip(files, results, strict=True)
            ]
        )
        return 1 if bad else 0
    for path, (events, faults) in zip(files, results, strict=True):
        for fault in faults:
            click.echo(fault)
        if not faults:
            click.echo(f"{path}: {count(events, 'event')}, good")
    if bad:
        click.echo(
            f"{bad} of {count(len(files), 'file')} {'is' if bad == 1 else 'are'} not good; have them made again",
            err=True,
        )
    return 1 if bad else 0


def _checked(path: Path, downlink: DownlinkId | None) -> tuple[int, list[str]]:
    """Return the number of events of a file, and what is wrong with it."""
    try:
        verdict = evt_view.check_evt(path, downlink.number if downlink else None)
    except HalfPipeError as error:
        return 0, [str(error)]
    return verdict.events, [f"{path}: {fault}" for fault in verdict.faults]
