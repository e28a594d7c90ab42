"""`halfpipe events`."""

from pathlib import Path

import click

from halfpipe.cli import completion, printed
from halfpipe.cli.verbs import Named, Site, Verb, row_options
from halfpipe.errors import MissingInputError
from halfpipe.ids import RunId
from halfpipe.words import count


@click.command(
    "events",
    cls=Verb,
    at_work=False,
    examples=[
        ("halfpipe events FILE.evt -o events.csv", "the events of a file"),
        ("halfpipe events r0702010205", "the known events of a run, and which downlink delivered each"),
    ],
    statuses={0: "good", 1: "events of a downlink are not listed, because its chunk products are gone"},
)
@click.argument(
    "what",
    type=Named(
        "run or event file",
        lambda text: Path(text) if text.endswith(".evt") else RunId.parse(text),
        completion.runs,
    ),
    metavar="RUN|FILE",
    help="A run, as 2c2e5787 or r0741234567, or an event file (.evt).",
)
@row_options
def command(site: Site, what: RunId | Path) -> int:
    """List the events of a run or a file: sequence, EPU, time, downlink, and position in the file.

    The events of a run are read from the products of its chunks, so waiting events are listed, too. After a cleanup,
    these products are gone, and the events are not listed. The times of a file are whole seconds. docs/frames.md
    describes the columns.
    """
    from halfpipe.tables.site_frames import SiteFrames, events_of_file  # noqa: PLC0415 - pandas

    if isinstance(what, Path):
        found = events_of_file(what)
        simulated = found.attrs["simulated"]
    else:
        site.check()
        found = SiteFrames(site.settings).run(what).events()
        simulated = site.settings.is_simulated
    foot = count(len(found), "event") + (", SIMULATED" if simulated else "")
    gone = [
        MissingInputError(f"the events of downlink {dl} are not listed: its chunk products are gone")
        for dl in found.attrs.get("gone", ())
    ]
    document = {"failed": list(map(str, gone))}
    printed.listed(site.form, site.output, "events", found, foot, simulated=simulated, document=document)
    printed.errors(gone)
    return 1 if gone else 0
