"""Event files for the eye: every field of a record by name, and whether a file is sound as a whole.

For `halfpipe show FILE`; the format itself is in `halfpipe.formats.evt`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from halfpipe.errors import MissingInputError
from halfpipe.formats.evt import (
    CONTEXT,
    HEADER,
    LCI_INFO_OF,
    LCI_KEYS,
    LPA_HANDLER,
    LPA_INFO,
    LPA_KEYS,
    EvtFile,
    InfoType,
    context_column,
    field_starts,
    open_evt,
    record_layout,
    walk,
)
from halfpipe.ids import DownlinkId


@dataclass(frozen=True)
class Field:
    """One field: where it stands in the file, what part it belongs to, its name, and its value in numpy."""

    at: int
    part: str
    name: str
    value: Any


def fields(data: NDArray[np.uint8], offset: int, name: str) -> Iterator[Field]:
    """Yield every field of the record at `offset`, paddings and the bytes of the EBF included.

    Raises
    ------
    FormatError
        As `record_layout`.
    """
    layout = record_layout(data, np.array([offset]), name)
    kind = InfoType(int(layout.infotypes[0]))
    at = offset

    def part(title: str, dtype: np.dtype[np.void]) -> Iterator[Field]:
        nonlocal at
        item = np.frombuffer(data[at : at + dtype.itemsize].tobytes(), dtype)[0]
        for field, start in field_starts(dtype).items():
            yield Field(at + start, title, field, item[field])
        at += dtype.itemsize

    def number(title: str, field: str, dtype: DTypeLike = "<u4") -> Iterator[Field]:
        return part(title, np.dtype([(field, dtype)]))

    yield from part("context", CONTEXT)
    length = int(data[at : at + 4].view("<u4")[0])
    yield from number("ebf", "length")
    yield from number("ebf", "marker")
    yield from number("ebf", "length_inside")
    yield from number("ebf", "payload", f"V{length - 8}") if length > 8 else ()
    yield from number("info", "infotype", "<i4")
    if kind is InfoType.LPA:
        yield from part("info", LPA_INFO)
        handlers = int(data[at : at + 4].view("<u4")[0])
        yield from number("info", "nhandlers")
        for i in range(handlers):
            yield from part(f"handler {i}", LPA_HANDLER)
        yield from part("keys", LPA_KEYS)
    else:
        yield from number("info", "info_length")
        yield from part("info", LCI_INFO_OF[kind])
        yield from part("keys", LCI_KEYS)


STAGED_NAME = re.compile(r"r(?P<run>[0-9]{10})-e(?P<sequence>[0-9]{20})\.evt", re.ASCII)
CHUNK_NAME = re.compile(
    r"(?P<ground>[0-9a-f]{8})-(?P<run>[0-9a-f]{8})-(?P<apid>[0-9]{4})-(?P<chunk>[0-9]{5})\.evt", re.ASCII
)


@dataclass(frozen=True)
class Verdict:
    """What `check_evt` found: how many events, and what is wrong, a sentence each; a good file has none."""

    events: int
    faults: tuple[str, ...]


def check_evt(path: Path) -> Verdict:
    """Check an event file as a whole: records, their order, and what header and name say of them.

    Records must be in the order of (sequence, APID). In what the decoder makes of a chunk an event may
    stand twice (the merge takes the first); in any other file it may not.

    Parameters
    ----------
    path
        Name of the file; if it is that of a staged file or of a chunk's, it must fit the events. If one of the two
        directories around it is named as a downlink, the header must name that.

    Raises
    ------
    FormatError, MissingInputError
        If there is no looking at the events at all: as `open_evt` and `walk`.
    """
    evt = open_evt(path)
    offsets = walk(evt.data, str(path))
    sequences = context_column(evt.data, offsets, "scalers_sequence")
    apids = context_column(evt.data, offsets, "ccsds_apid")
    faults = [
        *_header_faults(evt, offsets, sequences),
        *_order_faults(path, offsets, sequences, apids),
        *_name_faults(evt, offsets, sequences, apids),
    ]
    return Verdict(offsets.size, tuple(faults))


def _header_faults(evt: EvtFile, offsets: NDArray[np.int64], sequences: NDArray[np.uint64]) -> Iterator[str]:
    said = {"evtcnt": offsets.size}
    around = [home.name for home in evt.path.absolute().parents[:2] if DownlinkId.matches(home.name)]
    if around:
        said["runid"] = DownlinkId(around[0]).number
    if offsets.size:
        ends = offsets[[0, -1]]
        said["gemseq_beg"], said["gemseq_end"] = sequences[[0, -1]].tolist()
        said["secs_beg"], said["secs_end"] = context_column(evt.data, ends, "current_timeSecs").tolist()
    for field, right in said.items():
        if evt.header[field] != right:
            yield f"the header has {field} {evt.header[field]}, expected {right}"


def _order_faults(
    path: Path, offsets: NDArray[np.int64], sequences: NDArray[np.uint64], apids: NDArray[np.int32]
) -> Iterator[str]:
    same = sequences[1:] == sequences[:-1]
    back = (sequences[1:] < sequences[:-1]) | (same & (apids[1:] < apids[:-1]))
    twice = same & (apids[1:] == apids[:-1])
    kinds = [("out of the order of (sequence, APID)", back)]
    if CHUNK_NAME.fullmatch(path.name) is None:
        kinds.append(("there twice", twice))
    for what, where in kinds:
        if where.any():
            i = int(np.argmax(where)) + 1
            yield (
                f"{np.count_nonzero(where)} events are {what}, first event {i} "
                f"(sequence {sequences[i]}, APID {apids[i]}) at byte {offsets[i]}"
            )


def _name_faults(
    evt: EvtFile, offsets: NDArray[np.int64], sequences: NDArray[np.uint64], apids: NDArray[np.int32]
) -> Iterator[str]:
    runs = context_column(evt.data, offsets, "run_startedAt")
    grounds = context_column(evt.data, offsets, "run_groundId")
    staged, chunk = STAGED_NAME.fullmatch(evt.path.name), CHUNK_NAME.fullmatch(evt.path.name)
    said: list[tuple[str, NDArray[Any], int]] = []
    if staged is not None:
        said = [
            ("run", runs, int(staged["run"])),
            ("first sequence", sequences[:1], int(staged["sequence"])),
        ]
    elif chunk is not None:
        said = [
            ("run", runs, int(chunk["run"], 16)),
            ("ground id", grounds, int(chunk["ground"], 16)),
            ("APID", apids, int(chunk["apid"])),
        ]
    elif offsets.size:
        said = [("run", runs, runs[0])]
    for what, found, right in said:
        other = np.flatnonzero(found != right)
        if other.size:
            i = other[0]
            yield f"event {i} at byte {offsets[i]} has {what} {found[i]}, expected {right}"


def describe_file(path: Path) -> Iterator[str]:
    """Yield lines that show the header of an event file and how many events it holds of which kind.

    Raises
    ------
    FormatError, MissingInputError
        As `open_evt` and `walk`.
    """
    evt = open_evt(path)
    yield f"{path}: {evt.data.size} bytes"
    for field, start in field_starts(HEADER).items():
        yield from _lines_of(Field(start, "header", field, evt.header[field]))
    offsets = walk(evt.data, str(path))
    apids = context_column(evt.data, offsets, "ccsds_apid")
    infotypes = record_layout(evt.data, offsets, str(path)).infotypes
    yield f"{offsets.size} events"
    for apid in np.unique(apids):
        for kind in np.unique(infotypes[apids == apid]):
            count = np.count_nonzero((apids == apid) & (infotypes == kind))
            yield f"APID {apid:04d}  {InfoType(kind).name:<8} {count}"


def describe_events(path: Path, *, number: int | None = None, sequence: int | None = None) -> Iterator[str]:
    """Yield lines that show every field of some events: of event `number`, or of all with `sequence`.

    A line has the byte in the file, the part of the record, the name of the field, and its value.

    Raises
    ------
    FormatError, MissingInputError
        As `open_evt` and `walk`; `MissingInputError` also if there is no such event.
    """
    evt = open_evt(path)
    offsets = walk(evt.data, str(path))
    if number is not None:
        wanted = [number % offsets.size] if -offsets.size <= number < offsets.size else []
        what = f"event {number}: there are {offsets.size}, counted from 0"
    else:
        sequences = context_column(evt.data, offsets, "scalers_sequence")
        wanted = np.flatnonzero(sequences == sequence).tolist()
        what = f"event of sequence {sequence} among {offsets.size}"
    if not wanted:
        raise MissingInputError(f"{path}: no {what}")
    for i in wanted:
        yield f"event {i}"
        for field in fields(evt.data, int(offsets[i]), str(path)):
            yield from _lines_of(field)


def _lines_of(field: Field) -> Iterator[str]:
    first, *more = _spelt(field)
    yield f"{field.at:>10}  {field.part:<11} {field.name:<24} {first}"
    yield from (f"{'':<49}{line}" for line in more)


def _spelt(field: Field) -> list[str]:
    """Return the value of a field for the eye, in one line or several."""
    kind = field.value.dtype.kind
    if kind == "V":
        raw = field.value.tobytes()
        return [raw[i : i + 32].hex(" ", -4) for i in range(0, len(raw), 32)]
    if kind == "S":
        # What stands behind the NUL of a text is whatever the writer's memory held.
        text, _, rest = bytes(field.value).partition(b"\0")
        spelt = ascii(text.decode("latin-1"))
        return [f"{spelt}, then {rest.hex()}" if rest else spelt]
    if kind == "f":
        return [f"{field.value:.6f}"]
    if field.value.ndim:
        return [" ".join(map(str, field.value))]
    if field.name == "infotype":
        return [f"{field.value} ({InfoType(field.value).name})"]
    return [f"{field.value} (0x{field.value:x})" if field.value > 0xFFFF else str(field.value)]
