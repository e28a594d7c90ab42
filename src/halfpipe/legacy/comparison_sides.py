"""Where deliveries are read from: a stage or an archive of event files, a working directory, the legacy's tree.

Files are read one at a time; of a run 34 bytes an event are held, as arrays. What contradicts itself is told, whatever
the other side has: a name, a header or an order that is not that of the events, a file that nobody makes there.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.downlink.texts import texts
from halfpipe.errors import FormatError, HalfPipeError, MissingInputError
from halfpipe.files.json_files import read_json
from halfpipe.formats import evt
from halfpipe.formats.structured import joined
from halfpipe.ids import DownlinkId, RunId
from halfpipe.legacy.legacy_replay import number_in_name
from halfpipe.legacy.legacy_tree import MET, LegacyRun, read_spans
from halfpipe.merge.decision import holding, in_sources
from halfpipe.merge.intervals import Interval, Ranges
from halfpipe.merge.late import listed
from halfpipe.merge.ordering import in_one, in_order
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.run.event_table import load_events
from halfpipe.run.receipt_file import read_receipt

# What is held of each event of one run: 30 bytes.
ROW = np.dtype(
    [
        ("sequence", "u8"),
        ("apid", "u2"),
        ("datagram", "u4"),  # 0 if nobody says it
        ("place", "u4"),  # counts into the files that hold the records
        ("offset", "i8"),  # bytes, of the record in that file
        ("size", "u4"),  # bytes, of the record
    ]
)


class Where(StrEnum):
    """Where an event is: here only, there only, or on both sides with other bytes."""

    HERE = "here"
    THERE = "there"
    BOTH = "both"


@dataclass(frozen=True)
class File:
    """An event file as it was delivered; without a `header` (dtype `evt.HEADER`) where the file cannot be read."""

    name: str
    events: int
    sequences: Interval
    header: np.void | None = None


class Records:
    """Where records lie: a column ``place`` counts into these files, which are opened when one is asked for."""

    def __init__(self, places: Sequence[Path] = ()) -> None:
        self.places = tuple(places)
        self._opened: dict[int, evt.EvtFile] = {}

    def __getitem__(self, row: np.void) -> bytes:
        """Return the record of a row."""
        begin = int(row["offset"])
        return self._data(int(row["place"]))[begin : begin + int(row["size"])].tobytes()

    def _data(self, place: int) -> NDArray[np.uint8]:
        if place not in self._opened:
            self._opened[place] = evt.open_evt(self.places[place])
        return self._opened[place].data

    def digests(self, rows: NDArray[np.void]) -> NDArray[np.uint64]:
        """Return the sums of the records' bytes, read file by file.

        Raises
        ------
        HalfPipeError
            If a file cannot be read, or is shorter than when it was indexed.
        """
        found = np.zeros(len(rows), np.uint64)
        for place in np.unique(rows["place"]).tolist():
            which, data = np.flatnonzero(rows["place"] == place), self._data(place)
            begins, sizes = rows["offset"][which].tolist(), rows["size"][which].tolist()
            if max(map(sum, zip(begins, sizes, strict=True))) > data.size:
                raise FormatError(
                    f"{self.places[place]}: shorter than when it was indexed. Have its chunk decoded again."
                )
            found[which] = [
                int.from_bytes(
                    hashlib.blake2b(data.data[begin : begin + size], digest_size=8).digest(), "little"
                )
                for begin, size in zip(begins, sizes, strict=True)
            ]
        return found


@dataclass(frozen=True)
class Delivered:
    """What a downlink delivered of a run.

    `rows` (dtype `ROW`, or more) are in order, each event once; `twice` counts events that were delivered more than
    once. `wrong` says what contradicts itself, whatever another side has. `gone` says why the records cannot be had.
    """

    rows: NDArray[np.void] = field(default_factory=lambda: np.empty(0, ROW))
    records: Records = field(default_factory=Records)
    files: tuple[File, ...] = ()
    twice: int = 0
    wrong: Sequence[str] = ()
    gone: str = ""


def in_delivery(
    rows: NDArray[np.void], places: Sequence[Path], files: Sequence[File], wrong: Sequence[str] = ()
) -> Delivered:
    """Put the rows of a delivery in order, and count what is there twice."""
    ordered = in_order(rows)
    return Delivered(ordered, Records(places), tuple(files), len(rows) - len(ordered), wrong)


def where_in(rows: NDArray[np.void], among: NDArray[np.void]) -> NDArray[np.intp]:
    """Return where each event of `rows` is `among`, -1 if it is not there; both in order, by sequence and APID."""
    found = np.full(len(rows), -1, np.intp)
    if not len(among):
        return found
    sequences = np.ascontiguousarray(among["sequence"])
    at = np.searchsorted(sequences, rows["sequence"])
    # As many EPUs share a sequence at the most.
    for step in range(4):
        place = np.minimum(at + step, len(among) - 1)
        equal = (sequences[place] == rows["sequence"]) & (among["apid"][place] == rows["apid"])
        found[equal] = place[equal]
    return found


def present(rows: NDArray[np.void], among: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell for each event of `rows` whether it is one of `among`; both in order, by sequence and APID."""
    return where_in(rows, among) >= 0


def neighbours(rows: NDArray[np.intp], codes: NDArray[np.intp], apart: NDArray[np.bool_]) -> list[slice]:
    """Return where rows with the same code follow each other; those `apart` only if no other row lies between."""
    if not len(rows):
        return []
    cut = (codes[1:] != codes[:-1]) | (apart[1:] & (np.diff(rows) != 1))
    edges = [0, *(np.flatnonzero(cut) + 1).tolist(), len(rows)]
    return [slice(a, b) for a, b in pairwise(edges)]


def subset(rows: NDArray[np.void], which: NDArray[np.bool_]) -> NDArray[np.void]:
    """Return the rows of a mask."""
    return rows.take(np.flatnonzero(which))


TEXTS = ("delivered_events", "retired_runs", "event_gaps", "event_times", "moot_keys", "magic7")
OF_A_RUN = ("delivered_events", "event_gaps", "retired_runs")  # that follow from a merge
# From 2^31 on the legacy wrote the sequence in a name as a negative number, later modulo 2^32 (its defect 27).
EVENT_FILE = re.compile(r"(?P<run>r[0-9]{10})-e(?P<sequence>-?[0-9]{19,20})\.evt", re.ASCII)
_MERGED = re.compile(r"r[0-9]{10}-e[0-9]{20}\.idx", re.ASCII)
SHOWN = 200  # characters of a line
LINES = 1 << 16  # of a merged index, held at a time
_EVT_LINE = "EVT: {:10d} {:20d} {:4d} {:8d} {} {} {:20d} {}\n"  # of a merged index
_L1_RUN = re.compile(r"r[0-9]{10}", re.ASCII)

# Of an event in a merged index of the legacy: how its datagram opens and closes, too.
INDEX_ROW = np.dtype([*ROW.descr, ("opening", "S16"), ("closing", "S16")])


REQUIRED = frozenset(
    {"delivered_events", "retired_runs", "event_gaps", "moot_keys"}
)  # even if they hold nothing


def side_of(root: Path, downlink: DownlinkId) -> "Side":
    """Return what lies at `root`.

    Raises
    ------
    MissingInputError
        If nothing of the downlink is found there; says what was looked for.
    """
    if (root / paths.runs()).is_dir() and (root / paths.receipt(downlink)).exists():
        return Work(root)
    stage = Stage(root)
    if stage.home(downlink) is not None:
        if any(MET.fullmatch(path.name) for path in (root / downlink).glob("*") if path.is_dir()):
            tree = LegacyTree(root)
            if not tree.texts(downlink):
                raise MissingInputError(
                    f"{root}: the legacy has begun downlink {downlink} and not handed it off."
                )
            return tree
        return stage
    raise MissingInputError(
        f"{root}: nothing of downlink {downlink} was found there. Expected is a stage or an archive of deliveries "
        f"({root}/{downlink}/r…/r…-e….evt, or {root}/{downlink[:4]}/{downlink}/…), event files whose headers name the "
        f"downlink ({root}/r…/*.evt), a working directory of HalfPipe ({paths.receipt(downlink)} in it), or the tree "
        f"of the legacy ({root}/{downlink}/<run>/r…-e….idx)"
    )


def _lines(home: Path, downlink: DownlinkId) -> dict[str, list[str]]:
    found = {}
    for name in TEXTS:
        with suppress(FileNotFoundError):
            found[name] = _lines_of(home / paths.text(name, downlink))
    return found


def _lines_of(text: Path) -> list[str]:
    """Return the lines as they lie there, byte for byte; a last one without an end is not that line."""
    *lines, rest = text.read_bytes().decode("latin-1").split("\n")
    return [*lines, f"{rest} (without a line end)"] if rest else lines


def _written(root: Path, text: str) -> bool:
    """Tell whether a text of any downlink lies in the downlinks' directories below `root`."""
    return any(root.glob(f"*/{text}_?????????.txt"))


@dataclass(frozen=True)
class Stage:
    """Event files and texts as Level-1 finds or archives them."""

    root: Path

    def home(self, downlink: DownlinkId) -> Path | None:
        """Return the directory of a delivery, `root` itself where event files of several may lie; None: nowhere."""
        for place in (self.root / downlink, self.root / downlink[:4] / downlink):
            if place.is_dir():
                return place
        if self.root.name == downlink or any(self._files(self.root)):
            return self.root
        return None

    def _files(self, home: Path, pattern: str = "r*") -> Iterator[Path]:
        found = (*home.glob(f"{pattern}-e*.evt"), *home.glob(f"{pattern}/{pattern}-e*.evt"))
        return (path for path in sorted(found) if EVENT_FILE.fullmatch(path.name))

    def _of(self, downlink: DownlinkId, pattern: str = "r*") -> list[Path]:
        home = self.home(downlink)
        files = list(self._files(home, pattern)) if home else []
        if home != self.root or self.root.name == downlink:
            return files
        return [path for path in files if evt.read_header(path)["runid"] == downlink.number]

    def has(self, downlink: DownlinkId) -> bool:
        """Tell whether it has a directory, or files whose headers name it."""
        home = self.home(downlink)
        return home is not None and (home != self.root or bool(self._of(downlink)))

    def runs(self, downlink: DownlinkId) -> set[RunId]:
        """Return the runs that have a directory or a file."""
        home = self.home(downlink)
        names = {path.name[:11] for path in self._of(downlink)}
        if home is not None and home != self.root:
            names |= {path.name for path in home.glob("r*") if path.is_dir()}
        return {RunId.from_l1(name) for name in names if _L1_RUN.fullmatch(name)}

    def delivered(self, downlink: DownlinkId, run: RunId) -> Delivered:
        """Read the event files of a run, one after the other."""
        places = tuple(self._of(downlink, run.l1))
        files, parts, wrong = [], [np.empty(0, ROW)], list(self._strange(downlink, run))
        for number, path in enumerate(places):
            file, rows = _read(path, number, downlink, wrong)
            files.append(file)
            parts.append(rows)
        ordered = tuple(sorted(files, key=lambda file: file.sequences))
        wrong += [
            f"{after.name}: begins at {after.sequences.first}, inside {before.name}"
            for before, after in pairwise(file for file in ordered if file.events)
            if after.sequences.first < before.sequences.last
        ]
        return in_delivery(joined(parts), places, ordered, wrong)

    def _strange(self, downlink: DownlinkId, run: RunId) -> Iterator[str]:
        """Yield what lies in the directory of a run and is none of its event files, or that there is none."""
        home = self.home(downlink)
        if home is None or not (home / run.l1).is_dir():
            return
        names = sorted(path.name for path in (home / run.l1).iterdir())
        if not names:
            yield f"{home / run.l1}: an empty directory"
        for name in names:
            if not ((match := EVENT_FILE.fullmatch(name)) and match["run"] == run.l1):
                yield f"{home / run.l1 / name}: not the name of an event file of this run"

    def writes(self, text: str, downlink: DownlinkId) -> bool:
        """Tell whether a text is to be expected; beside event files of several downlinks there is none."""
        home = self.home(downlink)
        return home not in {None, self.root} and (
            text in REQUIRED
            or _written(self.root / downlink[:4] if home != self.root / downlink else self.root, text)
        )

    def texts(self, downlink: DownlinkId) -> dict[str, list[str]]:
        """Read the texts."""
        home = self.home(downlink)
        return _lines(home, downlink) if home else {}

    def datagrams(self, downlink: DownlinkId, run: RunId) -> Ranges | None:  # noqa: ARG002 - as each `Side` has it
        """Return None: event files do not say it."""
        return None


def _read(path: Path, place: int, downlink: DownlinkId, wrong: list[str]) -> tuple[File, NDArray[np.void]]:
    """Read one event file, and add what is wrong with it; of one that is damaged only its name counts."""
    match = EVENT_FILE.fullmatch(path.name)
    assert match is not None
    first = int(match["sequence"]) % 2**64
    try:
        opened = evt.open_evt(path)
        offsets = evt.walk(opened.data, str(path))
        if not len(offsets):
            raise FormatError(f"{path}: holds no event")
    except HalfPipeError as error:
        wrong.append(str(error))
        return File(path.name, 0, Interval(first, first)), np.empty(0, ROW)
    rows = np.zeros(len(offsets), ROW)
    rows["sequence"] = evt.context_column(opened.data, offsets, "scalers_sequence")
    rows["apid"] = evt.context_column(opened.data, offsets, "ccsds_apid")
    rows["place"], rows["offset"], rows["size"] = place, offsets, np.diff(offsets, append=opened.data.size)
    keys = rows["sequence"], rows["apid"]
    step, equal = keys[0][1:] > keys[0][:-1], keys[0][1:] == keys[0][:-1]
    if not (step | (equal & (keys[1][1:] >= keys[1][:-1]))).all():
        wrong.append(f"{path}: its events are not in order")
    begin, end = int(keys[0][0]), int(keys[0][-1])
    if int(match["sequence"]) not in {begin, number_in_name(begin)}:
        wrong.append(f"{path}: its first event is {begin}, another one than its name says")
    seconds = evt.context_column(opened.data, offsets[[0, -1]], "current_timeSecs").tolist()
    key = int(opened.header["moot_key"])
    packed = evt.pack_header(
        runid=downlink.number,
        seconds=(seconds[0], seconds[1]),
        sequences=(begin, end),
        events=len(rows),
        moot_key=key,
        moot_alias="",
    )
    right = np.frombuffer(packed, evt.HEADER)[0]
    wrong += [
        f"{path}: its header has {name} {opened.header[name]}, its events and its place {right[name]}"
        for name in evt.HEADER.names or ()
        if name != "moot_alias" and not np.array_equal(opened.header[name], right[name])
    ]
    sequences = Interval(int(keys[0].min()), int(keys[0].max()))
    return File(path.name, len(rows), sequences, opened.header), rows


@dataclass(frozen=True)
class Work:
    """A working directory: what was delivered follows from manifests, its records lie in the chunks' evt files.

    Nothing is decoded again for it.
    """

    root: Path

    def manifest(self, downlink: DownlinkId, run: RunId) -> dict[str, Any] | None:
        """Read what vouches for a delivery, None without one."""
        path = self.root / paths.manifest(run, downlink)
        return dict(read_json(path)) if path.exists() else None

    def has(self, downlink: DownlinkId) -> bool:
        """Tell whether it has a receipt."""
        return (self.root / paths.receipt(downlink)).exists()

    def runs(self, downlink: DownlinkId) -> set[RunId]:
        """Return the runs of the receipt."""
        return {RunId(run["run"]) for run in read_receipt(self.root, downlink)["runs"]}

    def delivered(self, downlink: DownlinkId, run: RunId) -> Delivered:
        """Find the events that a manifest names among those that are known."""
        manifest = self.manifest(downlink, run)
        if manifest is None or not manifest["files"]:
            return Delivered()
        files = tuple(
            File(entry["name"], entry["events"], Interval(*entry["sequences"])) for entry in manifest["files"]
        )
        known = Known(self.root, run, downlink)
        if known.gone:
            return Delivered(files=files, gone=known.gone)
        rows = known.then(_ranges_of(manifest["datagrams"]))
        rows = subset(rows, holding(rows["sequence"], [file.sequences for file in files]))
        return in_delivery(rows, known.records.places, files)

    def texts(self, downlink: DownlinkId) -> dict[str, list[str]]:
        """Write the texts anew, as the receipt has their content; magic-7 is not there."""
        written = texts(read_receipt(self.root, downlink)["runs"])
        return {name: text.splitlines() for name, text in written.items() if name in TEXTS}

    def writes(self, text: str, downlink: DownlinkId) -> bool:  # noqa: ARG002 - as each `Side` has it
        """Tell whether a text follows from a receipt."""
        return text != "magic7"

    def datagrams(self, downlink: DownlinkId, run: RunId) -> Ranges | None:
        """Return what the manifest lists."""
        manifest = self.manifest(downlink, run)
        return None if manifest is None else _ranges_of(manifest["datagrams"])


def _ranges_of(entry: dict[str, list[list[int]]]) -> Ranges:
    return {int(apid): tuple((a, b) for a, b in ranges) for apid, ranges in entry.items()}


class Known:
    """The events that all downlinks of a working directory brought of a run, those of `first` before other copies.

    `gone` says why they cannot be had.
    """

    def __init__(self, work: Path, run: RunId, first: DownlinkId) -> None:
        self.gone = ""
        named: list[Path] = []
        tables = {}
        for downlink in known_downlinks(work, run):
            if not (work / paths.events(run, downlink)).exists():
                self.gone = (
                    f"the events that downlink {downlink} brought of run {run} were cleaned up: snakemake -F "
                    f"dl={downlink} makes them again"
                )
                continue
            table = load_events(work, run, downlink)
            part = np.zeros(len(table.events), ROW)
            for name in ("sequence", "apid", "datagram", "offset", "size"):
                part[name] = table.events[name]
            part["place"] = table.events["file"].astype(np.uint32) + len(named)
            named += [work / paths.chunks(downlink) / name for name in table.files]
            tables[downlink] = part
        self.records = Records(named)
        self.parts = {
            downlink: tables[downlink] for downlink in in_sources(first, tables) if downlink in tables
        }

    @cached_property
    def rows(self) -> NDArray[np.void]:
        """All events in order, each once (dtype `ROW`)."""
        return in_one([np.empty(0, ROW), *self.parts.values()])

    def then(self, datagrams: Ranges) -> NDArray[np.void]:
        """Return the events of some datagrams: those that were known at a time."""
        return subset(self.rows, listed(self.rows, datagrams))

    def copies(self, sequence: int, apid: int) -> Iterator[bytes]:
        """Yield the record of every copy of an event."""
        for part in self.parts.values():
            for row in part[(part["sequence"] == np.uint64(sequence)) & (part["apid"] == apid)]:
                with suppress(HalfPipeError):
                    yield self.records[row]


class LegacyTree(Stage):
    """The legacy's outputBase: a merged index for each span, records in the chunks' evt files beside it.

    A run without a record of its spans was not delivered: its merge died, or the legacy refused it.
    """

    def _run(self, downlink: DownlinkId, run: RunId) -> LegacyRun:
        return LegacyRun.at(self.root, downlink, run)

    def runs(self, downlink: DownlinkId) -> set[RunId]:
        """Return the runs that have a directory."""
        names = [path.name for path in (self.root / downlink).glob("*") if path.is_dir()]
        return {RunId.from_met(int(name)) for name in names if MET.fullmatch(name)}

    def delivered(self, downlink: DownlinkId, run: RunId) -> Delivered:
        """Read the merged indexes of a run, one after the other, and the records that they name."""
        left = self._run(downlink, run)
        delivered = left.file("delivered")
        indexes = [left.home / name for name in sorted(left.names) if left.home and _MERGED.fullmatch(name)]
        if not left.file("spans") and (indexes or not delivered):
            died = "the legacy's merge died before it recorded what it delivered"
            return Delivered(gone=died if indexes else "")
        cleaned = not any((self.root / downlink).glob(f"*-{run}-*.evt"))
        if cleaned and not indexes and delivered and delivered.read_text().split()[1:2] != ["0"]:
            return Delivered(gone="the legacy has cleaned its indexes of the run away")
        places: dict[Path, int] = {}
        files, parts = [], [np.empty(0, INDEX_ROW)]
        for path in indexes:
            rows = self._rows(path, places, run)
            sequences = Interval(int(rows["sequence"][0]), int(rows["sequence"][-1]))
            files.append(File(f"{path.stem}.evt", len(rows), sequences))
            parts.append(rows)
        table, where = joined(parts), tuple(places)
        try:
            for place, path in enumerate(where):
                which = np.flatnonzero(table["place"] == place)
                opened = evt.open_evt(path)
                offsets = table["offset"][which]
                table["size"][which] = evt.record_layout(opened.data, offsets, str(path)).sizes
        except MissingInputError as error:
            if not cleaned and any(path.exists() for path in where):
                raise FormatError(str(error)) from error
            return Delivered(files=tuple(files), gone=f"the legacy has cleaned up: {error}")
        return in_delivery(table, where, files)

    def _rows(self, path: Path, places: dict[Path, int], run: RunId) -> NDArray[np.void]:
        """Read a merged index; event files are found beside it, wherever they lay before."""
        parts, tree, wrong = [np.empty(0, INDEX_ROW)], None, f"{path}: no merged index of the legacy: "
        with path.open(encoding="latin-1", newline="\n") as file:
            while lines := list(islice(file, LINES)):
                rows = np.zeros(len(lines), INDEX_ROW)
                for n, line in enumerate(lines):
                    try:
                        *_, sequence, apid, datagram, opening, closing, offset, name = line.split()
                        tree, *there = name.rsplit("/", 2) if tree is None else (tree, *name.split("/")[-2:])
                        numbers, at, place = (
                            (int(sequence), int(apid), int(datagram)),
                            int(offset),
                            Path(*there),
                        )
                        number = places.setdefault(self.root / place, len(places))
                        rows[n] = (*numbers, number, at, 0, opening, closing)
                        again = _EVT_LINE.format(run.met, *numbers, opening, closing, at, f"{tree}/{place}")
                    except (ValueError, OverflowError):
                        again = ""
                    if line != again:
                        raise FormatError(
                            f"{wrong}not a line of EVT:, 8 fields, this run and the same tree as before: "
                            f"{line.strip()[:SHOWN]}"
                        )
                parts.append(rows)
        rows = joined(parts)
        if not len(rows):
            raise FormatError(f"{wrong}it is empty")
        if strange := [str(place) for place in places if not DownlinkId.matches(place.parent.name)]:
            raise FormatError(f"{wrong}{strange[0]} is no chunk's event file")
        sequences = rows["sequence"]
        if path.name != f"{run.l1}-e{sequences[0]:020d}.idx" or (sequences[1:] < sequences[:-1]).any():
            raise FormatError(f"{wrong}its events are not in order, or its name is not that of the first")
        return rows

    def spans(self, downlink: DownlinkId, run: RunId) -> tuple[Interval, ...] | None:
        """Return the spans that were recorded; None without a record."""
        path = self._run(downlink, run).file("spans")
        return read_spans(path) if path else None

    def records(self, downlink: DownlinkId, run: RunId) -> dict[str, list[str]]:
        """Return what lies beside the merged indexes: the lines of texts of this run, by the names of the texts."""
        left = self._run(downlink, run)
        files = zip(OF_A_RUN, map(left.file, ("delivered", "evtgaps", "retired")), strict=True)
        return {text: _lines_of(path) if path else [] for text, path in files}

    def lines(self, downlink: DownlinkId, run: RunId) -> KnownDatagrams | None:
        """Return the datagrams of the run's cumulative index; None without one."""
        if not (path := self._run(downlink, run).datagrams):
            return None
        *lines, rest = path.read_bytes().split(b"\n")
        return KnownDatagrams.of([*lines, rest] if rest else lines, str(path))

    def datagrams(self, downlink: DownlinkId, run: RunId) -> Ranges | None:
        """Return the datagrams of the run's cumulative index."""
        known = self.lines(downlink, run)
        return None if known is None else known.ranges()


@dataclass(frozen=True)
class Here(Work):
    """What HalfPipe delivered: the stage's event files, or where Level-1 took them what the working directory has."""

    stage: Stage

    def delivered(self, downlink: DownlinkId, run: RunId) -> Delivered:
        """Return what the receipt's files hold."""
        manifest = self.manifest(downlink, run)
        home = self.stage.root / paths.staged_run(downlink, run.l1)
        files = manifest["files"] if manifest else []
        if files and all((home / entry["name"]).exists() for entry in files):
            return self.stage.delivered(downlink, run)
        return super().delivered(downlink, run)

    def texts(self, downlink: DownlinkId) -> dict[str, list[str]]:
        """Return the stage's texts, or what the receipt says of them."""
        return super().texts(downlink) | _lines(self.stage.root / paths.staged(downlink), downlink)


Side = Stage | Work  # something that downlinks were delivered by
