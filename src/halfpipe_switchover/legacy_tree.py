"""The legacy's tree: downlinks, their runs, and chunk products. It is listed and read, never written.

The names of files and directories follow from the legacy's scripts. A run's directory is named after the start of the
run, as a decimal number without leading zeros. Other names have eight hex digits, or seven if the first is a zero.

The legacy recorded the spans of a run as pairs of numbers in a pickle of Python 2. Only the one form that its programs
wrote is matched. The file is never unpickled.
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
from halfpipe.errors import FormatError
from halfpipe.files.reading import modified, open_regular
from halfpipe.formats.retdef import FILE_NAME
from halfpipe.ids import ChunkId, DownlinkId, RunId, RunKind
from halfpipe.merge.intervals import HIGHEST, Interval
from halfpipe.state.deliveries import CountedSpan
from halfpipe_switchover.legacy_force import FORCE

MOST_BYTES = 1 << 20  # a run has a few spans, of some forty bytes each
NOWHERE = Interval(1, 0)
_NUMBER = rb"[IL](0|[1-9][0-9]{0,19})L?\n"
# A pair, which may be named, or the name of an earlier pair.
_SPAN = rb"(?:\(" + _NUMBER + _NUMBER + rb"t(?:p([0-9]+)\n)?|g([0-9]+)\n)a"
_LIST = re.compile(rb"\(l(?:p[0-9]+\n)?(?:" + _SPAN + rb")*\.")


def read_spans(path: Path) -> tuple[Interval, ...]:
    """Read the spans that the legacy recorded, in order of their first sequences.

    Raises
    ------
    FormatError
        If the file is not a list of spans as the legacy wrote it.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MOST_BYTES)  # a longer file is cut off here, so it is refused
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from error
    spans: list[Interval] = []
    named: dict[bytes, Interval] = {}
    for first, last, name, again in re.findall(_SPAN, content):
        named[name] = named.get(again, NOWHERE) if again else Interval(int(first), int(last))
        spans.append(named[name])
    if not _LIST.fullmatch(content) or not all(first <= last <= HIGHEST for first, last in spans):
        raise FormatError(f"{path}: no record of spans: not a list of pairs of sequences")
    return tuple(sorted(spans))


# Names in the tree that belong to no downlink, and that a takeover ignores.
OWN = frozenset({"lock", FORCE, "stage", "evt", "orphan-events.idx"})
MET = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
_TO_MERGE = re.compile(r"r0([1-9][0-9]{0,9})_doMerge\.txt", re.ASCII)
# Files that the legacy copies to Level-1 beside the texts, because their names end in the same way.
SCRATCH = re.compile(rf"{_TO_MERGE.pattern}|(?:evt[01]|launch|aq_[0-9a-f]{{8}})\.txt", re.ASCII)
_DELIVERED = re.compile(r"\S+ (\d+) (\d+) (LPA|LCI)\s*", re.ASCII)


class Known(StrEnum):
    """What is known of the legacy's delivery of a run in a downlink, from least to most."""

    REFUSED = "refused"
    NOTHING = "nothing"
    SPANS = "spans"
    WHOLE = "whole"


@dataclass
class LegacyRun:
    """The legacy's records of a run in one downlink.

    Attributes
    ----------
    run, known, refused
        The run, what is known about it, and why its record of spans cannot be read.
    spans
        The delivered spans, with the number of events in each merged index.
    merged, orphans, kind, retired
        Number of events in the last span, number of orphans, the kind of the run, and whether it is complete.
    datagrams
        The file with the datagrams that were known when the run was merged.
    """

    run: RunId
    known: Known = Known.NOTHING
    refused: str = ""
    spans: tuple[CountedSpan, ...] = ()
    merged: int = 0
    orphans: int = 0
    kind: RunKind = RunKind.LPA
    retired: bool = False
    datagrams: Path | None = None

    @classmethod
    def at(cls, home: Path, run: RunId) -> "LegacyRun":
        """Read the directory of a run in one downlink, if there is one."""
        found = cls(run, retired=(home / f"{run.l1}-retired.txt").exists())
        named = (home / f"dgm-{digits}.idx" for digits in (run, f"{run.met:x}"))
        found.datagrams = next((path for path in named if path.exists()), None)
        with suppress(FileNotFoundError):
            counts = _DELIVERED.fullmatch((home / f"{run.l1}-delivered.txt").read_text(errors="replace"))
            if counts:
                found.merged = int(counts[1])
                found.orphans = int(counts[2])
                found.kind = RunKind(counts[3])
        if (record := home / f"{run.l1}-spans.txt").exists():
            try:
                spans = read_spans(record)
            except FormatError as error:
                found.known = Known.REFUSED
                found.refused = str(error)
            else:
                indexes = [home / f"{Path(paths.event_file(run.l1, first)).stem}.idx" for first, _ in spans]
                counted = zip(spans, map(_events_of, indexes), strict=True)
                found.spans = tuple(CountedSpan((first, last), events) for (first, last), events in counted)
                found.known = Known.SPANS if spans else Known.NOTHING
        return found

    @property
    def delivered(self) -> int:
        """Number of delivered events, or 0 if it is unknown; the legacy counts only those of the last span."""
        return sum(span.events or 0 for span in self.spans) or (self.merged if len(self.spans) == 1 else 0)


def _events_of(path: Path) -> int | None:
    """Count the lines of a merged index."""
    return path.read_bytes().count(b"\n") if path.exists() else None


@dataclass(frozen=True)
class LegacyDownlink:
    """A downlink of the legacy: the `names` in its `home`, and the chunks with a RetDef or with products.

    `begun` are the runs that the legacy began, and `with_products` are the runs with chunk products.
    """

    id: DownlinkId
    home: Path
    names: frozenset[str]
    begun: set[RunId] = field(default_factory=set)
    with_products: set[RunId] = field(default_factory=set)
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
            If a name contains a start that no run can have.
        """
        found = cls(DownlinkId(home.name), home, frozenset(os.listdir(home)))  # noqa: PTH208
        for name in sorted(found.names):
            if product := PRODUCT.fullmatch(name):
                found.with_products.add(RunId(product["run"]))
                found.products.setdefault(ChunkId(product["chunk"]), []).append(name)
            elif FILE_NAME.fullmatch(name) and name == Path(paths.retdef(found.id, name[-9:-4])).name:
                found.retdefs.append(ChunkId(name[-9:-4]))
            elif met := MET.fullmatch(name) or _TO_MERGE.fullmatch(name):
                found.begun.add(RunId.from_met(int(met[met.lastindex or 0])))
        found.begun.update(found.with_products)
        return found

    def retdef(self, chunk: ChunkId) -> Path:
        """Return the path of the RetDef of a chunk."""
        return self.home / Path(paths.retdef(self.id, chunk)).name

    def text(self, name: str) -> Path:
        """Return the path of a text for Level-1."""
        return self.home / paths.text(name, self.id)

    def unfinished(self) -> str:
        """Return why it cannot be taken over yet; empty if the legacy has finished it."""
        text = self.text("delivered_events")
        if text.name not in self.names:
            return (
                f"the legacy system has {'begun it and not handed it off' if self.begun else 'not begun it'}"
            )
        lock = self.home.parent / "lock" / f"halfpipe-{self.id}"
        in_progress = lock.exists() and lock.stat().st_mtime > text.stat().st_mtime
        return f"the legacy system is processing it: {lock} is newer than {text.name}" if in_progress else ""


def handed_off(home: Path) -> str:
    """Return when the legacy handed a downlink off, from the time of its last text; empty if it did not."""
    when = modified(str(home / paths.text("delivered_events", home.name)))
    return datetime.fromtimestamp(when, UTC).isoformat() if when else ""


def downlinks(root: Path) -> tuple[list[DownlinkId], list[str]]:
    """Return the downlinks in the legacy's tree in order, and the other names there.

    Raises
    ------
    OSError
        If the tree cannot be listed.
    """
    with os.scandir(root) as entries:
        every = sorted((entry.name, entry.is_dir()) for entry in entries)
    found = [DownlinkId(name) for name, is_directory in every if is_directory and DownlinkId.matches(name)]
    return found, sorted({name for name, _ in every} - {*found, *OWN})
