"""The legacy's tree as it lies there: downlinks, runs in them, chunk products. It is listed and read, never written.

What is where, and under which names, follows from the legacy's scripts. A run's directory has the run's start as a
decimal number without leading zeros; the eight hex digits of names may be seven where they begin with a zero.

Its record of what it delivered of a run are pairs of numbers in a pickle of Python 2. Of such a list only one form
comes from its programs, and that is matched. Nothing in the file is ever loaded.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from halfpipe import paths
from halfpipe.decode.chunk_products import PRODUCT
from halfpipe.downlink.halts import OF_A_DOWNLINK
from halfpipe.errors import FormatError
from halfpipe.files.reading import modified, open_regular
from halfpipe.formats.retdef import FILE_NAME
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.intervals import HIGHEST, Interval

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


FORCE = "force"
# Of no downlink, and no takeover's business.
OWN = frozenset({"lock", FORCE, "stage", "evt", "orphan-events.idx"})
MET = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
_TO_MERGE = re.compile(r"r0([1-9][0-9]{0,9})_doMerge\.txt", re.ASCII)
_FORCED = re.compile(r"([0-9a-f]{8})-([0-9a-f]{7,8})", re.ASCII)


@dataclass
class LegacyRun:
    """What the legacy left of a run in one downlink: `names` in the run's `home`, none without that directory."""

    run: RunId
    home: Path
    names: frozenset[str] = frozenset()

    def file(self, what: str) -> Path | None:
        """Return a record of the run; None if there is none.

        ``spans`` are what was delivered; ``delivered`` how many events were merged last and orphaned, and the kind of
        the run; ``retired`` says that it is complete; ``evtgaps`` are the gaps between its spans.
        """
        return self._file(f"{self.run.l1}-{what}.txt")

    @property
    def datagrams(self) -> Path | None:
        """The datagrams that were known when the run was merged."""
        return self._file(f"dgm-{self.run}.idx") or self._file(f"dgm-{self.run.met:x}.idx")

    def merged(self, first: int) -> Path | None:
        """Return the merged index of the span that starts at sequence `first`."""
        return self._file(f"{Path(paths.event_file(self.run.l1, first)).stem}.idx")

    def _file(self, name: str) -> Path | None:
        return self.home / name if name in self.names else None


@dataclass(frozen=True)
class LegacyDownlink:
    """A downlink of the legacy: the `names` in its `home`, its runs, and which chunks have a RetDef, or products."""

    id: DownlinkId
    home: Path
    names: frozenset[str]
    runs: dict[RunId, LegacyRun]
    retdefs: tuple[ChunkId, ...]
    products: dict[ChunkId, list[str]]

    @classmethod
    def at(cls, home: Path) -> "LegacyDownlink":
        """List a downlink's directory, and those of its runs.

        Raises
        ------
        OSError
            If one cannot be listed.
        IdError
            If a name has the start of a run that cannot be.
        """
        downlink, names = DownlinkId(home.name), sorted(os.listdir(home))  # noqa: PTH208
        runs: dict[RunId, LegacyRun] = {}
        retdefs, products = [], dict[ChunkId, list[str]]()

        def of(run: RunId) -> LegacyRun:
            return runs.setdefault(run, LegacyRun(run, home / str(run.met)))

        for name in names:
            if product := PRODUCT.fullmatch(name):
                of(RunId(product["run"]))
                products.setdefault(ChunkId(product["chunk"]), []).append(name)
            elif FILE_NAME.fullmatch(name) and name == Path(paths.retdef(downlink, name[-9:-4])).name:
                retdefs.append(ChunkId(name[-9:-4]))
            elif merge := _TO_MERGE.fullmatch(name):
                of(RunId.from_met(int(merge[1])))
            elif MET.fullmatch(name):
                found = of(RunId.from_met(int(name)))
                found.names = frozenset(os.listdir(found.home))  # noqa: PTH208
        return cls(downlink, home, frozenset(names), runs, tuple(retdefs), products)

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
            begun = "has begun it and not handed it off" if self.runs else "has not begun it"
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
    taken = {*found, *OWN}
    return found, [name for name, _ in every if name not in taken]


def given_up(root: Path) -> Iterator[tuple[str, RunId | None]]:
    """Yield the names in the legacy's list of runs abandoned, and the runs; None if a name gives none."""
    try:
        names = sorted(os.listdir(root / FORCE))  # noqa: PTH208
    except FileNotFoundError:
        return
    for name in names:
        match = _FORCED.fullmatch(name)
        yield name, RunId(match[2].zfill(8)) if match else None
