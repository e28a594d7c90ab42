"""The delivery of a downlink in a stage, in an archive of deliveries, or in the legacy's tree.

Contradictions within a delivery are always reported: a header that does not match its events, events that are not in
order, an empty directory, a file that is not an event file.
"""

import csv
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.errors import FormatError, HalfPipeError, IdError
from halfpipe.formats import evt, idx
from halfpipe.formats.idx import Sequenced
from halfpipe.formats.retdef import FILE_NAME
from halfpipe.formats.structured import Column, at_every_byte, joined
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import Interval
from halfpipe.merge.ordering import in_order
from halfpipe_switchover.legacy_tree import MET, SCRATCH, read_spans

# One event of a run: `place` is the number of the file with the record, `offset` is its first byte, `sum` is a
# checksum of the record. A `bare` event is an LPA event without handlers.


class Placed(Sequenced):
    """Events in files: the number of the file, the offset and a hash of the record; `bare` LPA events lack handlers."""

    place = Column(np.uint32)
    offset = Column(np.int64)
    digest = Column(np.int64)
    bare = Column(np.bool_)


NOTHING = Placed.zeros(0)
_opened = lru_cache(maxsize=64)(evt.open_evt)
RETIRED = "retired_runs"
MOOT_KEYS = "moot_keys"
TIMES = "event_times"
TEXTS = ("delivered_events", RETIRED, "event_gaps", MOOT_KEYS, TIMES)
MAGIC7 = "magic7"
GONE = "(gone)"  # instead of the lines of a missing text
# The columns of a merged index; `file` is an absolute path on the machine that wrote it.
_LINE = ["tag", "run", "sequence", "apid", "datagram", "opening", "closing", "offset", "file"]
_TYPES = {
    "run": "u4",
    "sequence": "u8",
    "apid": "u2",
    "datagram": "u4",
    "opening": str,
    "closing": str,
    "offset": "i8",
}
# Size in bytes of an LPA event without handlers, except for its EBF.
_BARE = evt.CONTEXT.itemsize + 4 + 4 + evt.LPA_INFO.itemsize + 4 + evt.LPA_KEYS.itemsize
Moot = tuple[int, bytes]


@dataclass(frozen=True)
class File:
    """A delivered event file; `moot` (its key and alias) is None in the legacy's tree."""

    name: str
    events: int
    sequences: Interval
    moot: Moot | None = None

    def __str__(self) -> str:
        """Return a text for messages."""
        return f"{self.name} ({self.events} events, MOOT {self.moot and self.moot[0]})"


@dataclass(frozen=True)
class Delivered:
    """The delivery of a run by a downlink.

    `rows` are in order, each event once. Their records are in the files `places`; LPA records are read
    with `latc` as LATC_master. `wrong` lists contradictions. `spans` are those that the legacy recorded in its tree.
    `gone` is the reason why there are no records.
    """

    rows: Placed = field(default_factory=lambda: NOTHING)
    places: Sequence[Path] = ()
    files: Sequence[File] = ()
    wrong: Sequence[str] = ()
    gone: str = ""
    spans: tuple[Interval, ...] | None = None
    latc: int | None = None

    def record(self, number: int) -> bytes:
        """Return the bytes of the record of an event."""
        return record_at(self.places[self.rows.place[number]], int(self.rows.offset[number]), self.latc)


@dataclass(frozen=True)
class Side:
    """The delivery of a downlink by one system.

    Attributes
    ----------
    runs
        The delivery of each run.
    texts
        The lines of each text.
    stage
        The stage that contains the delivery; None for an archive and for the legacy's tree.
    is_tree
        Whether the delivery is in the legacy's tree of downlinks.
    others
        Files and directories that are not part of a hand-off, by name.
    """

    runs: Mapping[RunId, Delivered]
    texts: Mapping[str, Sequence[str]]
    stage: Path | None = None
    is_tree: bool = False
    others: Mapping[str, Path] = field(default_factory=dict)

    def lines(self, name: str, run: str) -> list[str]:
        """Return the sorted lines of a text that begin with Level-1's name of a run."""
        return sorted(line for line in self.texts.get(name, ()) if line.partition(" ")[0] == run)

    def lines_but(self, name: str, runs: Container[str]) -> list[str]:
        """Return the sorted lines of a text that begin with none of `runs`."""
        return sorted(line for line in self.texts[name] if line.partition(" ")[0] not in runs)


def side_at(root: Path, downlink: DownlinkId, latc: int | None = None) -> Side | None:
    """Read the delivery of a downlink below `root`; None if it does not exist, or if the legacy has not handed it off.

    The legacy's tree contains records as they were decoded, so `latc` is put into them, as a merge does.
    """
    _opened.cache_clear()  # a file may have changed since
    if (home := home_at(root, downlink)) is None:
        return None
    texts = {name: _lines_of(home / paths.text(name, downlink)) for name in (*TEXTS, MAGIC7)}
    there = {path.name: path for path in home.iterdir()}
    runs = [RunId.from_met(int(name)) for name in there if MET.fullmatch(name)]
    if runs and any(map(FILE_NAME.fullmatch, there)):  # only the legacy's tree has RetDefs beside the runs
        if all(lines == [GONE] for lines in texts.values()):
            return None
        return Side({run: _recorded(root, downlink, run, latc) for run in runs}, texts, is_tree=True)
    if not there:
        return None
    staged = {run: _staged(path) for path in there.values() if (run := _run_of(path))}
    known = {run.l1 for run in staged} | {paths.text(name, downlink) for name in texts}
    others = {name: path for name, path in there.items() if name not in known and not SCRATCH.fullmatch(name)}
    return Side(staged, texts, root if home.parent == root else None, others=others)


def home_at(root: Path, downlink: DownlinkId) -> Path | None:
    """Return the directory of a downlink in a stage, an archive of deliveries, or a tree; None if there is none."""
    return next((home for home in (root / downlink, root / downlink[:4] / downlink) if home.is_dir()), None)


def _run_of(path: Path) -> RunId | None:
    """Return the run that a directory is named after; None for anything else."""
    with suppress(IdError):
        return RunId.from_l1(path.name) if path.is_dir() else None
    return None


def _lines_of(text: Path) -> list[str]:
    """Return the lines of a text, byte for byte; a last line without an end is marked."""
    return lines_of(text.read_bytes()) if text.exists() else [GONE]


def lines_of(content: bytes) -> list[str]:
    """Return the lines of a text."""
    *lines, rest = content.decode("latin-1").split("\n")
    return [*lines, f"{rest} (without a line end)"] if rest else lines


def _staged(home: Path) -> Delivered:
    """Read the event files of a run, one after the other."""
    places = sorted(home.iterdir())
    files = []
    parts = [NOTHING]
    wrong = [] if places else [f"{home}: an empty directory"]
    for place, path in enumerate(places):
        try:
            opened = evt.open_evt(path)
            rows = rows_of(places, place, evt.walk(opened.data, str(path)))
            file = file_of(path.name, rows, moot_of(opened.header))
        except HalfPipeError as error:
            wrong.append(str(error))
            continue
        if in_order(rows) is not rows:
            wrong.append(f"{path}: its events are not in order, or one is there twice")
        wrong += [f"{path}: its header has another {name} than its events" for name in _unlike(opened, rows)]
        files.append(file)
        parts.append(rows)
    return Delivered(in_order(joined(parts)), places, files, wrong)


def _unlike(opened: evt.EvtFile, rows: Placed) -> list[str]:
    """Return the fields of a header, except those of MOOT, that do not match the events and the place of the file."""
    seconds = evt.context_column(opened.data, rows.offset[[0, -1]], "current_timeSecs").tolist()
    sequences = rows.sequence[[0, -1]].tolist()
    packed = evt.pack_header(
        runid=int(opened.path.parents[1].name),
        seconds=(seconds[0], seconds[1]),
        sequences=(sequences[0], sequences[1]),
        events=len(rows),
        moot_key=int(opened.header["moot_key"]),
        moot_alias="",
    )
    right = np.frombuffer(packed, evt.HEADER)[0]
    names = (name for name in evt.HEADER.names or () if name != "moot_alias")
    return [name for name in names if not np.array_equal(opened.header[name], right[name])]


def _recorded(root: Path, downlink: DownlinkId, run: RunId, latc: int | None) -> Delivered:
    """Read the legacy's merged indexes of a run, one for each span, and the records in the chunks.

    A run without a record of its spans was not delivered: its merge died, or the legacy refused it.
    """
    home = root / downlink / str(run.met)
    indexes = sorted(home.glob(f"{run.l1}-e*.idx"))
    record = home / f"{run.l1}-spans.txt"
    if not record.exists():
        died = "the legacy's merge died before it recorded what it delivered"
        return Delivered(gone=died if indexes else "")
    spans = read_spans(record)
    if spans and not any((root / downlink).glob(f"*-{run}-*.evt")):
        cleaned = "the legacy has removed the downlink's chunks of the run"
        return Delivered(gone=cleaned, spans=spans)
    tables = [_lines(path) for path in indexes]
    names = list(dict.fromkeys(name for lines in tables for name in lines["file"]))
    places = [root.joinpath(*name.split("/")[-2:]) for name in names]
    if missing := [path for path in places if not path.exists()]:
        raise FormatError(f"{missing[0]}: missing, though other chunks of the run exist.")
    files = []
    parts = [NOTHING]
    wrong = []
    for path, lines in zip(indexes, tables, strict=True):
        rows = Placed.zeros(len(lines))
        differs: set[str] = set()
        for name, of_file in lines.groupby("file"):
            place = names.index(name)
            rows[of_file.index] = rows_of(places, place, of_file["offset"].to_numpy(), latc)
            differs |= _differing(places[place], of_file)
        file = file_of(f"{path.stem}.evt", rows)
        if in_order(rows) is not rows or differs or (lines["run"] != run.met).any():
            columns = f" (other in the chunks: {', '.join(sorted(differs))})" if differs else ""
            wrong.append(f"{path}: not an index of its events in order{columns}")
        files.append(file)
        parts.append(rows)
    return Delivered(in_order(joined(parts)), places, files, wrong, spans=spans, latc=latc)


def _differing(path: Path, lines: pd.DataFrame) -> set[str]:
    """Return the columns of lines that differ from the index of the chunk `path`; none if it has no index."""
    place = path.with_suffix(".idx")
    if not place.exists():
        return set()
    index = idx.read_index(place)
    if not len(index.events) or not len(index.datagrams):
        return {"offset"}
    offsets = lines["offset"].to_numpy()
    in_file = index.events[np.argsort(index.events.offset)]
    events = in_file[np.searchsorted(in_file.offset, offsets).clip(max=len(in_file) - 1)]
    in_order_of_numbers = index.datagrams[np.argsort(index.datagrams.datagram)]
    datagrams = in_order_of_numbers[
        np.searchsorted(in_order_of_numbers.datagram, events.datagram).clip(max=len(index.datagrams) - 1)
    ]
    right = {
        "offset": events.offset,
        "sequence": events.sequence,
        "apid": events.apid,
        "datagram": events.datagram,
        "opening": datagrams.oaction,
        "closing": datagrams.caction,
    }
    return {
        name
        for name, column in right.items()
        if (column != lines[name].to_numpy().astype(column.dtype)).any()
    }


def _lines(path: Path) -> pd.DataFrame:
    """Read a merged index of the legacy."""
    try:
        return pd.read_csv(
            path,
            sep=r"\s+",
            names=_LINE,
            usecols=[*_TYPES, "file"],
            dtype={**_TYPES, "file": str},
            index_col=False,
            keep_default_na=False,
            quoting=csv.QUOTE_NONE,
            encoding="latin-1",
        )
    except (ValueError, OverflowError) as error:
        raise FormatError(f"{path}: not a merged index of the legacy: {error}") from error


def rows_of(
    places: Sequence[Path], place: int, offsets: NDArray[np.int64], latc: int | None = None
) -> Placed:
    """Return the events at given offsets of a file, in the same order.

    Parameters
    ----------
    places, place
        A list of files, and the index of this file in the list.
    offsets
        Bytes from its start to each record.
    latc
        LATC_master of all LPA events; None: as in the file.

    Raises
    ------
    HalfPipeError
        If the file cannot be read, or if there is no record at an offset.
    """
    path = places[place]
    rows = Placed.zeros(len(offsets))
    data = _opened(path).data
    layout = evt.record_layout(data, offsets, str(path))
    rows.place[:] = place
    rows.offset[:] = offsets
    rows.sequence[:] = evt.context_column(data, offsets, "scalers_sequence")
    rows.apid[:] = evt.context_column(data, offsets, "ccsds_apid")
    rows.digest[:] = [*map(hash, _records(data, offsets, layout, latc))]
    lengths = at_every_byte(data, "<u4")[offsets + evt.CONTEXT.itemsize]
    rows.bare[:] = (layout.infotypes == evt.InfoType.LPA) & (layout.sizes == lengths + _BARE)
    return rows


def _records(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], layout: evt.RecordLayout, latc: int | None
) -> Iterator[bytes]:
    """Yield the bytes of records; LPA events get `latc` as LATC_master unless it is None."""
    master = None if latc is None else latc.to_bytes(4, "little")
    every = zip(offsets.tolist(), layout.sizes.tolist(), layout.infotypes.tolist(), strict=True)
    for begin, size, kind in every:
        record = data[begin : begin + size].tobytes()
        if master is None or kind != evt.InfoType.LPA:
            yield record
        else:
            yield record[: -evt.LATC_FROM_END] + master + record[4 - evt.LATC_FROM_END :]


def record_at(path: Path, offset: int, latc: int | None = None) -> bytes:
    """Return the bytes of one record of a file; parameters and errors are those of `rows_of`."""
    data = _opened(path).data
    offsets = np.array([offset])
    return next(_records(data, offsets, evt.record_layout(data, offsets, str(path)), latc))


def moot_of(header: np.void) -> Moot:
    """Return the MOOT key and alias of a header."""
    return int(header["moot_key"]), bytes(header["moot_alias"])


def file_of(name: str, rows: Sequenced, moot: Moot | None = None) -> File:
    """Return the file that contains the events `rows` in order.

    Raises
    ------
    FormatError
        If there are no events.
    """
    if not len(rows):
        raise FormatError(f"{name}: contains no event")
    sequences = Interval(int(rows.sequence[0]), int(rows.sequence[-1]))
    return File(name, len(rows), sequences, moot)
