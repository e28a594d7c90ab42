"""What Level-1 accepts: its tests of all event files of a run, from all downlinks (ground-chain §6)."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files.records import DamagedError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.deliveries import Deliveries, EventFile

MAX_FILES = 1000
# The texts that Level-1 reads, and the form of their lines. A line of another form fails the whole delivery.
LINES = {
    "delivered_events": re.compile(r"(r\d{10}) \d+ \d+ (?:LPA|LCI)"),
    "retired_runs": re.compile(r"(r\d{10}) (?:COMPLETE|INCOMPLETE)"),
}


def refusals(files: Iterable[EventFile]) -> list[str]:
    """Return why Level-1 would refuse a run with these files; an empty list if Level-1 would accept it.

    Parameters
    ----------
    files
        All event files of one run, from all downlinks, in any order.
    """
    ordered = sorted(files, key=lambda file: file.sequences)
    tests = [
        (len(ordered) > MAX_FILES, f"{len(ordered)} event files; Level-1 takes at most {MAX_FILES}"),
    ]
    for file in ordered:
        (first, last), (begin, end), name, events = file.sequences, file.seconds, file.name, file.events
        tests += [
            (events <= 1, f"{name} has {events} event; Level-1 needs at least 2"),
            (last < first, f"{name} ends at sequence {last}, before it begins at {first}"),
            (
                events > last - first + 3,
                f"{name} has {events} events between sequences {first} and {last}: more than two share a sequence",
            ),
            (begin > end, f"{name} ends at second {end}, before it begins at {begin}"),
        ]
    for one, other in pairwise(ordered):
        last, first, end, begin = one.sequences[1], other.sequences[0], one.seconds[1], other.seconds[0]
        tests += [
            (first <= last, f"{other.name} begins at sequence {first}, and {one.name} ends at {last}"),
            (begin < end, f"{other.name} begins at second {begin}, before {one.name} ends at {end}"),
        ]
    by_name = sorted(ordered, key=lambda file: file.name)
    by_seconds = sorted(ordered, key=lambda file: (*file.seconds, file.sequences[0]))
    in_one_order = by_name == by_seconds == ordered
    tests.append(
        (not in_one_order, "sorting the files by sequence, by seconds and by name gives different orders")
    )
    return [why for refused, why in tests if refused]


def failures(stage: Path, work: Path, downlink: DownlinkId) -> Iterator[str]:
    """Yield why Level-1 would fail on the staged files of a downlink (ground-chain §6).

    Like Level-1, this checks the names of directories and event files, the headers of event files, and two texts. The
    files of other downlinks of a run come from the records. Receipts and checksums are not used.
    """
    home = stage / paths.staged(downlink)
    runs = {path.name for path in home.iterdir() if path.is_dir()}
    for name in sorted(runs):
        try:
            staged = [_staged_file(path) for path in sorted((home / name).iterdir())]
            recorded = Deliveries(work, RunId.from_l1(name))
        except DamagedError:  # the check of the records reports it
            continue
        except HalfPipeError as error:
            yield error.text
            continue
        if not staged:
            yield f"{home / name} has no event file"
        others = [dl for dl in recorded.latest() if dl != downlink]
        yield from refusals([*(file for dl in others for file in recorded.latest()[dl].files), *staged])
    for text, form in LINES.items():
        path = home / paths.text(text, downlink)
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            found = form.fullmatch(line)
            if found is None or (text == "retired_runs" and found[1] not in runs):
                yield f"{path} has the line {line!r}; Level-1 fails on " + (
                    "a retired run without event files" if found else "this line"
                )


def _staged_file(path: Path) -> EventFile:
    """Return an event file as Level-1 sees it: by its header."""
    from halfpipe.formats.evt import read_header  # noqa: PLC0415 - most importers never read a header

    header = read_header(path)
    first, last = int(header["gemseq_beg"]), int(header["gemseq_end"])
    if path.name != paths.event_file(path.parent.name, first):
        raise HalfPipeError(f"{path}: its first event is {first}, but Level-1 uses the number in its name")
    seconds = int(header["secs_beg"]), int(header["secs_end"])
    return EventFile(path.name, int(header["evtcnt"]), (first, last), seconds, path.stat().st_size, "")
