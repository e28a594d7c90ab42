"""Event files in readable form: every field of a record by name, for `halfpipe show FILE`.

The format itself is in `halfpipe.formats.evt`.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import MissingInputError
from halfpipe.formats.evt import (
    CONTEXT,
    HEADER,
    LCI_INFO_OF,
    LCI_KEYS,
    LPA_HANDLER,
    LPA_INFO,
    LPA_KEYS,
    InfoType,
    context_column,
    open_evt,
    record_layout,
    walk,
)
from halfpipe.formats.structured import layout


@dataclass(frozen=True)
class Field:
    """One field: its byte offset in the file, the part of the record, its name, and its numpy value."""

    at: int
    part: str
    name: str
    value: Any


def fields(data: NDArray[np.uint8], offset: int, name: str) -> Iterator[Field]:
    """Yield every field of the record at `offset`, including padding and the bytes of the EBF.

    Raises
    ------
    FormatError
        As `record_layout`.
    """
    kind = InfoType(int(record_layout(data, np.array([offset]), name).infotypes[0]))
    ebf = offset + CONTEXT.itemsize
    length = _word(data, ebf)
    parts = [("context", CONTEXT), ("ebf", layout("<u4 length marker length_inside"))]
    parts += [("ebf", layout(f"V{length - 8} payload"))] if length > 8 else []
    parts += [("info", layout("<i4 infotype"))]
    if kind is InfoType.LPA:
        handlers = _word(data, ebf + 4 + length + 4 + LPA_INFO.itemsize)
        parts += [("info", LPA_INFO), ("info", layout("<u4 nhandlers"))]
        parts += [(f"handler {number}", LPA_HANDLER) for number in range(handlers)]
        parts += [("keys", LPA_KEYS)]
    else:
        parts += [("info", layout("<u4 info_length")), ("info", LCI_INFO_OF[kind]), ("keys", LCI_KEYS)]
    for part, dtype in parts:
        item = np.frombuffer(data[offset : offset + dtype.itemsize].tobytes(), dtype)[0]
        for field, (_, start, *_) in (dtype.fields or {}).items():
            yield Field(offset + start, part, field, item[field])
        offset += dtype.itemsize


def _word(data: NDArray[np.uint8], at: int) -> int:
    return int(data[at : at + 4].view("<u4")[0])


def describe_file(path: Path) -> Iterator[str]:
    """Yield lines that show the header of an event file and the number of events of each kind.

    Raises
    ------
    FormatError, MissingInputError
        As `open_evt` and `walk`.
    """
    evt = open_evt(path)
    yield f"{path}: {evt.data.size} bytes"
    for field, (_, start, *_) in (HEADER.fields or {}).items():
        yield from _lines_of(Field(start, "header", field, evt.header[field]))
    offsets = walk(evt.data, str(path))
    apids = context_column(evt.data, offsets, "ccsds_apid")
    infotypes = record_layout(evt.data, offsets, str(path)).infotypes
    yield f"{offsets.size} events"
    for (apid, kind), count in sorted(Counter(zip(apids.tolist(), infotypes.tolist(), strict=True)).items()):
        yield f"APID {apid:04d}  {InfoType(kind).name:<8} {count}"


def describe_events(path: Path, *, number: int | None = None, sequence: int | None = None) -> Iterator[str]:
    """Yield lines that show every field of event `number`, or of all events with `sequence`.

    A line has the byte in the file, the part of the record, the name of the field, and its value.

    Raises
    ------
    FormatError, MissingInputError
        As `open_evt` and `walk`; `MissingInputError` also if there is no such event.
    """
    evt = open_evt(path)
    offsets = walk(evt.data, str(path))
    if number is None:
        numbers = np.flatnonzero(context_column(evt.data, offsets, "scalers_sequence") == sequence)
    else:
        numbers = np.arange(offsets.size)[number : number + 1 or None]
    if not numbers.size:
        what = f"of sequence {sequence}" if number is None else f"{number}, counted from 0,"
        raise MissingInputError(f"{path}: no event {what} among {offsets.size}")
    for i in numbers:
        yield f"event {i}"
        for field in fields(evt.data, int(offsets[i]), str(path)):
            yield from _lines_of(field)


def _lines_of(field: Field) -> Iterator[str]:
    first, *more = _text_of(field)
    yield f"{field.at:>10}  {field.part:<11} {field.name:<24} {first}"
    yield from (f"{'':<49}{line}" for line in more)


def _text_of(field: Field) -> list[str]:
    """Return the value of a field in readable form, in one line or several."""
    kind = field.value.dtype.kind
    if kind == "V":
        raw = field.value.tobytes()
        return [raw[i : i + 32].hex(" ", -4) for i in range(0, len(raw), 32)]
    if kind == "S":
        # The bytes after the NUL of a text are leftovers in the writer's memory.
        text, _, rest = bytes(field.value).partition(b"\0")
        shown = ascii(text.decode("latin-1"))
        return [f"{shown}, then {rest.hex()}" if rest else shown]
    if kind == "f":
        return [f"{field.value:.6f}"]
    if field.value.ndim:
        return [" ".join(map(str, field.value))]
    if field.name == "infotype":
        return [f"{field.value} ({InfoType(field.value).name})"]
    return [f"{field.value} (0x{field.value:x})" if field.value > 0xFFFF else str(field.value)]
