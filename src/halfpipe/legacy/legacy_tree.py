"""The legacy's tree as it lies there: downlinks, runs in them, chunk products. It is listed and read, never written.

What is where, and under which names, follows from the legacy's scripts. A run's directory has the run's start as a
decimal number without leading zeros; the eight hex digits of names may be seven where they begin with a zero.

Its record of what it delivered of a run are pairs of numbers in a pickle of Python 2. Of such a list only one form
comes from its programs, and that is matched. Nothing in the file is ever loaded.
"""

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from halfpipe import paths
from halfpipe.decode.chunk_products import PRODUCT
from halfpipe.downlink.halts import OF_A_DOWNLINK
from halfpipe.errors import FormatError
from halfpipe.files.reading import modified, open_regular
from halfpipe.formats.retdef import FILE_NAME
from halfpipe.ids import ChunkId, DownlinkId, RunId, RunKind
from halfpipe.merge.intervals import HIGHEST, Interval
from halfpipe.run.deliveries import LegacySpan

MOST_BYTES = 1 << 20  # a run has a few spans, of some forty bytes each
_NUMBER = rb"[IL](0|[1-9][0-9]{0,19})L?\n"
_LIST = re.compile(rb"\(l(?:p[0-9]+\n)?")
# A pair, which may be named, or the name of one that came before.
_SPAN = re.compile(rb"(?:\(" + _NUMBER + _NUMBER + rb"t(?:p([0-9]+)\n)?|g([0-9]+)\n)a")


def read_spans(path: Path) -> tuple[Interval, ...]:
    """Read the spans that the legacy recorded, in order of their first sequences.

    Raises
    ------
    FormatError
        If the file is anything but a list of spans as the legacy wrote it; names the byte.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MOST_BYTES)  # a longer one lacks its end
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from error
    spans: list[Interval] = []
    named: dict[bytes, Interval] = {}
    begin = _LIST.match(content)
    at = begin.end() if begin else 0
    while begin and (found := _SPAN.match(content, at)):
        first, last, name, again = found.groups()
        span = named.get(again) if again else Interval(int(first), int(last))
        if span is None or not span.first <= span.last <= HIGHEST:
            break
        spans.append(span)
        if name:
            named[name] = span
        at = found.end()
    if not begin or content[at:] != b".":
        raise FormatError(f"{path}: no record of spans: not a list of pairs of sequences (at byte {at})")
    return tuple(sorted(spans))


# Of no downlink, and no takeover's business.
OWN = frozenset({"lock", paths.FORCE, "stage", "evt", "orphan-events.idx"})
MET = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
_TO_MERGE = re.compile(r"r0([1-9][0-9]{0,9})_doMerge\.txt", re.ASCII)
# What it copies to Level-1 with the texts: every file of a downlink whose name ends like theirs.
SCRATCH = re.compile(rf"{_TO_MERGE.pattern}|(?:evt[01]|launch|aq_[0-9a-f]{{8}})\.txt", re.ASCII)
_DELIVERED = re.compile(r"\S+ (\d+) (\d+) (LPA|LCI)\s*", re.ASCII)


class Known(StrEnum):
    """What is known of a run that the legacy delivered of a downlink, the least first."""

    REFUSED = "refused"
    NOTHING = "nothing"
    SPANS = "spans"
    WHOLE = "whole"


@dataclass
class LegacyRun:
    """What the legacy recorded of a run in one downlink.

    Attributes
    ----------
    run, known, refused
        The run, what is known of it, and why its record of spans cannot be read.
    spans
        What was delivered, and how many events the merged indexes have.
    merged, orphans, kind, retired
        How many events were merged last and orphaned, and whether the run is complete.
    datagrams
        The file of the datagrams that were known when the run was merged.
    """

    run: RunId
    known: Known = Known.NOTHING
    refused: str = ""
    spans: tuple[LegacySpan, ...] = ()
    merged: int = 0
    orphans: int = 0
    kind: RunKind = RunKind.LPA
    retired: bool = False
    datagrams: Path | None = None

    @classmethod
    def at(cls, home: Path, run: RunId) -> "LegacyRun":
        """Read what lies in the directory of a run in one downlink, if there is one."""
        found = cls(run, retired=(home / f"{run.l1}-retired.txt").exists())
        named = (home / f"dgm-{digits}.idx" for digits in (run, f"{run.met:x}"))
        found.datagrams = next((path for path in named if path.exists()), None)
        with suppress(FileNotFoundError):
            counts = _DELIVERED.fullmatch((home / f"{run.l1}-delivered.txt").read_text(errors="replace"))
            if counts:
                found.merged, found.orphans = int(counts[1]), int(counts[2])
                found.kind = RunKind(counts[3])
        if (record := home / f"{run.l1}-spans.txt").exists():
            try:
                spans = read_spans(record)
            except FormatError as error:
                found.known, found.refused = Known.REFUSED, str(error)
            else:
                indexes = [home / f"{Path(paths.event_file(run.l1, first)).stem}.idx" for first, _ in spans]
                counted = zip(spans, map(_events_of, indexes), strict=True)
                found.spans = tuple(LegacySpan((first, last), events) for (first, last), events in counted)
                found.known = Known.SPANS if spans else Known.NOTHING
        return found

    @property
    def delivered(self) -> int:
        """How many events were delivered, as far as it is known; the legacy itself counts those of the last span."""
        return sum(span.events or 0 for span in self.spans) or (self.merged if len(self.spans) == 1 else 0)


def _events_of(path: Path) -> int | None:
    """Count the lines of a merged index."""
    return path.read_bytes().count(b"\n") if path.exists() else None


@dataclass(frozen=True)
class LegacyDownlink:
    """A downlink of the legacy: the `names` in its `home`, and which chunks have a RetDef, or products.

    Its runs are `begun`, or have `brought` something that is left.
    """

    id: DownlinkId
    home: Path
    names: frozenset[str]
    begun: set[RunId] = field(default_factory=set)
    brought: set[RunId] = field(default_factory=set)
    retdefs: list[ChunkId] = field(default_factory=list)
    products: dict[ChunkId, list[str]] = field(default_factory=dict)

    @classmethod
    def at(cls, home: Path) -> "LegacyDownlink":
        """List a downlink's directory.

        Raises
        ------
        OSError
            If it cannot be listed.
        IdError
            If a name has the start of a run that cannot be.
        """
        found = cls(DownlinkId(home.name), home, frozenset(os.listdir(home)))  # noqa: PTH208
        for name in sorted(found.names):
            if product := PRODUCT.fullmatch(name):
                found.brought.add(RunId(product["run"]))
                found.products.setdefault(ChunkId(product["chunk"]), []).append(name)
            elif FILE_NAME.fullmatch(name) and name == Path(paths.retdef(found.id, name[-9:-4])).name:
                found.retdefs.append(ChunkId(name[-9:-4]))
            elif met := MET.fullmatch(name) or _TO_MERGE.fullmatch(name):
                found.begun.add(RunId.from_met(int(met[met.lastindex or 0])))
        found.begun.update(found.brought)
        return found

    def runs(self) -> list[LegacyRun]:
        """Read what was recorded of its runs."""
        return [LegacyRun.at(self.home / str(run.met), run) for run in sorted(self.begun)]

    def retdef(self, chunk: ChunkId) -> Path:
        """Return where the RetDef of a chunk lies."""
        return self.home / Path(paths.retdef(self.id, chunk)).name

    def text(self, name: str) -> Path:
        """Return where a text for Level-1 lies."""
        return self.home / paths.text(name, self.id)

    @property
    def switches(self) -> list[str]:
        """The switches that an operator has put down for it."""
        return [name for name in OF_A_DOWNLINK if name in self.names]

    def unfinished(self) -> str:
        """Say why it is not to be taken over; empty if it is: the legacy is done with it."""
        text = self.text("delivered_events")
        if text.name not in self.names:
            begun = "has begun it and not handed it off" if self.begun else "has not begun it"
            return f"the legacy {begun}"
        lock = self.home.parent / "lock" / f"halfpipe-{self.id}"
        in_work = lock.exists() and lock.stat().st_mtime > text.stat().st_mtime
        return f"the legacy is at work on it: {lock} is younger than {text.name}" if in_work else ""


def handed_off(home: Path) -> str:
    """Return when the legacy handed a downlink off, as the time of its last text says; empty if it has not."""
    when = modified(str(home / paths.text("delivered_events", home.name)))
    return datetime.fromtimestamp(when, UTC).isoformat() if when else ""


def downlinks(root: Path) -> tuple[list[DownlinkId], list[str]]:
    """Return the downlinks in the legacy's tree in order, and the names of what else lies there.

    Raises
    ------
    OSError
        If it cannot be listed.
    """
    with os.scandir(root) as entries:
        every = sorted((entry.name, entry.is_dir()) for entry in entries)
    found = [DownlinkId(name) for name, is_directory in every if is_directory and DownlinkId.matches(name)]
    return found, sorted({name for name, _ in every} - {*found, *OWN})
