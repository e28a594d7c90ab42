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
from halfpipe.formats.structured import at_every_byte, layout


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
    words = at_every_byte(data, "<u4")
    length = int(words[ebf])
    parts = [
        ("context", CONTEXT),
        ("ebf", layout("<u4 length marker length_inside", f"V{length - 8} payload")),
        ("info", layout("<i4 infotype")),
    ]
    if kind is InfoType.LPA:
        handlers = range(words[ebf + 4 + length + 4 + LPA_INFO.itemsize])
        parts += [("info", LPA_INFO), ("info", layout("<u4 nhandlers"))]
        parts += [*((f"handler {number}", LPA_HANDLER) for number in handlers), ("keys", LPA_KEYS)]
    else:
        parts += [("info", layout("<u4 info_length")), ("info", LCI_INFO_OF[kind]), ("keys", LCI_KEYS)]
    for part, dtype in parts:
        yield from _of_part(part, dtype, data, offset)
        offset += dtype.itemsize


def _of_part(part: str, dtype: np.dtype[np.void], data: NDArray[np.uint8], at: int) -> Iterator[Field]:
    """Yield the fields of a part that begins at byte `at`."""
    item = data[at : at + dtype.itemsize].view(dtype)[0]
    for name, (_, start, *_) in (dtype.fields or {}).items():
        yield Field(at + start, part, name, item[name])


def describe_file(path: Path) -> Iterator[str]:
    """Yield lines that show the header of an event file and the number of events of each kind.

    Raises
    ------
    FormatError, MissingInputError
        As `open_evt` and `walk`.
    """
    evt = open_evt(path)
    yield f"{path}: {evt.data.size} bytes"
    for field in _of_part("header", HEADER, evt.data, 0):
        yield from _lines_of(field)
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
    value = field.value
    match value.dtype.kind:
        case "V":
            raw = value.tobytes()
            return [raw[i : i + 32].hex(" ", -4) for i in range(0, len(raw), 32)] or [""]
        case "S":
            # The bytes after the NUL of a text are leftovers in the writer's memory.
            text, _, rest = bytes(value).partition(b"\0")
            return [ascii(text.decode("latin-1")) + (f", then {rest.hex()}" if rest else "")]
        case "f":
            return [f"{value:.6f}"]
    if value.ndim:
        return [" ".join(map(str, value))]
    if field.name == "infotype":
        return [f"{value} ({InfoType(value).name})"]
    return [f"{value} (0x{value:x})" if value > 0xFFFF else str(value)]
