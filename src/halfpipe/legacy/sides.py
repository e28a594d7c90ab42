"""What a system delivered of a downlink, as it lies there: in a stage, in an archive of them, in the legacy's tree.

Each run is read when it is asked for. What contradicts itself is told, whatever the other side has: a name, a header or
an order that is not that of the events, a file that nobody makes there.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.errors import FormatError, HalfPipeError
from halfpipe.formats import evt
from halfpipe.formats.structured import joined
from halfpipe.ids import DownlinkId, RunId
from halfpipe.legacy.legacy_tree import MET, read_spans
from halfpipe.merge.intervals import Interval
from halfpipe.merge.ordering import in_order

# What is held of each event of one run: `place` counts into the files that hold the records, `offset` and `size` are
# bytes there, `sum` is of the record's bytes.
ROW = np.dtype(
    [("sequence", "u8"), ("apid", "u2"), ("place", "u4"), ("offset", "i8"), ("size", "u4"), ("sum", "i8")]
)
NOTHING = np.empty(0, ROW)
_opened = lru_cache(maxsize=64)(evt.open_evt)
TEXTS = ("delivered_events", "retired_runs", "event_gaps", "moot_keys")
MAGIC7 = "magic7"
GONE = "(gone)"  # in place of the lines of a text that is not there
# From 2^31 on the legacy wrote the sequence in a name as a number of 32 bits with a sign (its defect 27).
WRAPPED = 2**31
# Of a line of a merged index; `file` is an absolute path of the machine that it was written on.
_LINE = ["tag", "run", "sequence", "apid", "datagram", "opening", "closing", "offset", "file"]
_TYPES = {"sequence": "u8", "apid": "u2", "offset": "i8", "file": str}


@dataclass(frozen=True)
class File:
    """An event file as it was delivered; without a `header` (dtype `evt.HEADER`) in the legacy's tree."""

    name: str
    events: int
    sequences: Interval
    header: np.void | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Delivered:
    """What a downlink delivered of a run.

    `rows` (dtype `ROW`) are in order, each event once, and lie in `places`. `wrong` says what contradicts itself,
    whatever another side has; `gone`, why the records cannot be had.
    """

    rows: NDArray[np.void] = field(default_factory=lambda: NOTHING)
    places: Sequence[Path] = ()
    files: Sequence[File] = ()
    wrong: Sequence[str] = ()
    gone: str = ""

    def record(self, number: int) -> bytes:
        """Return the bytes of the record of an event."""
        row = self.rows[number]
        begin = int(row["offset"])
        return _opened(self.places[int(row["place"])]).data[begin : begin + int(row["size"])].tobytes()


@dataclass(frozen=True)
class Side:
    """What a system delivered of a downlink: `reads` gives each run when it is asked for; the lines of its texts."""

    reads: Mapping[RunId, Callable[[], Delivered]]
    texts: Mapping[str, Sequence[str]]

    def delivered(self, run: RunId) -> Delivered:
        """Read what was delivered of a run."""
        return self.reads.get(run, Delivered)()


def side_at(root: Path, downlink: DownlinkId) -> Side | None:
    """Return what lies at `root` of a downlink; None without anything of it, or if the legacy has not handed it off."""
    home = next((home for home in (root / downlink, root / downlink[:4] / downlink) if home.is_dir()), None)
    if home is None:
        return None
    names = [path.name for path in home.iterdir() if path.is_dir()]
    texts = {name: _lines_of(home / paths.text(name, downlink)) for name in (*TEXTS, MAGIC7)}
    of_tree = [RunId.from_met(int(name)) for name in names if MET.fullmatch(name)]
    staged = [RunId.from_l1(name) for name in names if name[0] == "r" and name[1:].isdecimal()]
    reads = {run: partial(_recorded, root, downlink, run) for run in of_tree}
    reads |= {run: partial(_staged, home / run.l1) for run in staged}
    handed_off = any(lines != [GONE] for lines in texts.values())
    return Side(reads, texts) if handed_off or (reads and not of_tree) else None


def _lines_of(text: Path) -> list[str]:
    """Return the lines as they lie there, byte for byte: a last one without an end is another one."""
    if not text.exists():
        return [GONE]
    *lines, rest = text.read_bytes().decode("latin-1").split("\n")
    return [*lines, f"{rest} (without a line end)"] if rest else lines


def _staged(home: Path) -> Delivered:
    """Read the event files of a run, one after the other."""
    places = sorted(home.iterdir())
    files, parts, wrong = [], [NOTHING], [] if places else [f"{home}: an empty directory"]
    for place, path in enumerate(places):
        try:
            opened = evt.open_evt(path)
            rows = _rows(places, place, evt.walk(opened.data, str(path)))
            file = _file(path.name, rows, opened.header)
        except HalfPipeError as error:
            wrong.append(str(error))
            continue
        first = file.sequences.first
        wrapped = f"{home.name}-e{(first + WRAPPED) % 2**32 - WRAPPED:020d}.evt"
        if path.name not in {Path(paths.event_file(home.name, first)).name, wrapped}:
            wrong.append(f"{path}: not the name of a file with these events")
        if in_order(rows) is not rows:
            wrong.append(f"{path}: its events are not in order, or one is there twice")
        wrong += [f"{path}: its header has another {name} than its events" for name in _unlike(opened, rows)]
        files.append(file)
        parts.append(rows)
    return _delivered(parts, places, files, wrong)


def _unlike(opened: evt.EvtFile, rows: NDArray[np.void]) -> list[str]:
    """Return the fields of a header that are not what the events and the place of the file give; not those of MOOT."""
    seconds = evt.context_column(opened.data, rows["offset"][[0, -1]], "current_timeSecs").tolist()
    sequences = rows["sequence"][[0, -1]].tolist()
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


def _recorded(root: Path, downlink: DownlinkId, run: RunId) -> Delivered:
    """Read the legacy's merged indexes of a run, one for each span, and the records that they name in chunks.

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
        return Delivered(gone="the legacy has cleaned away what the downlink brought of the run")
    tables = [_lines(path) for path in indexes]
    names = list(dict.fromkeys(name for lines in tables for name in lines["file"]))
    places = [root.joinpath(*name.split("/")[-2:]) for name in names]
    if missing := [path for path in places if not path.exists()]:
        raise FormatError(f"{missing[0]}: gone, though other chunks of the run are there.")
    files, parts, wrong = [], [NOTHING], []
    for path, lines in zip(indexes, tables, strict=True):
        rows = np.empty(len(lines), ROW)
        for name, of_file in lines.groupby("file"):
            rows[of_file.index] = _rows(places, names.index(name), of_file["offset"].to_numpy())
        file = _file(f"{path.stem}.evt", rows)
        if (
            any((rows[key] != lines[key]).any() for key in ("sequence", "apid"))
            or in_order(rows) is not rows
            or file.name != Path(paths.event_file(run.l1, file.sequences.first)).name
        ):
            wrong.append(f"{path}: not an index of its events in order, named by the first")
        files.append(file)
        parts.append(rows)
    if sorted(file.sequences for file in files) != list(spans):
        wrong.append(f"{record}: not the spans of the merged indexes beside it")
    return _delivered(parts, places, files, wrong)


def _lines(path: Path) -> pd.DataFrame:
    """Read a merged index of the legacy."""
    try:
        return pd.read_csv(
            path,
            sep=r"\s+",
            names=_LINE,
            usecols=[*_TYPES],
            dtype=_TYPES,
            index_col=False,
            keep_default_na=False,
            quoting=csv.QUOTE_NONE,
            encoding="latin-1",
        )
    except (ValueError, OverflowError) as error:
        raise FormatError(f"{path}: no merged index of the legacy: {error}") from error


def _rows(places: Sequence[Path], place: int, offsets: NDArray[np.int64]) -> NDArray[np.void]:
    """Return the events that lie at some offsets of a file, in the same order."""
    path, rows = places[place], np.zeros(len(offsets), ROW)
    data = evt.open_evt(path).data
    rows["size"] = evt.record_layout(data, offsets, str(path)).sizes
    rows["sequence"] = evt.context_column(data, offsets, "scalers_sequence")
    rows["apid"] = evt.context_column(data, offsets, "ccsds_apid")
    rows["place"], rows["offset"] = place, offsets
    ends = (offsets + rows["size"]).tolist()
    rows["sum"] = [hash(data[a:b].tobytes()) for a, b in zip(offsets.tolist(), ends, strict=True)]
    return rows


def _file(name: str, rows: NDArray[np.void], header: np.void | None = None) -> File:
    if not len(rows):
        raise FormatError(f"{name}: holds no event")
    return File(name, len(rows), Interval(int(rows["sequence"][0]), int(rows["sequence"][-1])), header)


def _delivered(
    parts: Sequence[NDArray[np.void]], places: Sequence[Path], files: Sequence[File], wrong: list[str]
) -> Delivered:
    """Put the events of a delivery in order, and say what is there twice."""
    rows = joined(parts)
    ordered = in_order(rows)
    if twice := len(rows) - len(ordered):
        wrong.append(f"{twice} events were delivered more than once")
    return Delivered(ordered, places, files, wrong)
