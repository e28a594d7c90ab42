"""Numbered records: how HalfPipe remembers everything that it did (docs/architecture.md, *Records*).

A *series* is a directory of immutable records ``000001.json``, ``000002.json``, … Each contains its own SHA-256 and
that of the record before it. A record is written to a temporary file, flushed, and published with link(2), which fails
if the number exists. So a process that based a decision on older records notices that another process was faster, reads
again, and decides again. Records are never changed.

Every record has a second copy at the same path below ``copies/``. A reader uses the union of both, and repairs a copy
that is lost or damaged.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import UnionType

import msgspec

from halfpipe import paths
from halfpipe.errors import FormatError, HalfPipeError, Remedy, StateError
from halfpipe.files import json_files
from halfpipe.files.advice import advice, cannot_be_read
from halfpipe.files.durable import publish, write_bytes
from halfpipe.files.json_files import SEAL, Json, seal_of
from halfpipe.files.reading import modified, names_in, read_whole
from halfpipe.files.typed import T, convert

PREVIOUS = "previous"
MOST_BYTES = 1 << 26  # the receipt of thousands of chunks; a larger file is not a record
_NAME = re.compile(r"(\d{6,})\.json")


class TakenError(HalfPipeError):
    """Another process has published a record with this number: read again, and decide again."""

    code = "in-progress"


class DamagedError(StateError):
    """Both copies of a record are gone or damaged, or contradict each other."""


@dataclass(frozen=True)
class Record:
    """One published record: its values, its seal, and the place and number that it was read from.

    `values` does not include the seal, and the seal of the record before.
    """

    values: Mapping[str, Json]
    seal: str
    previous: str | None
    content: bytes = field(repr=False, compare=False)
    number: int = 0
    series: str = ""


def sealed(values: Mapping[str, object], previous: str | None) -> bytes:
    """Return the content of a record: JSON, with the SHA-256 of all other lines in the first line."""
    return json_files.sealed({**values, PREVIOUS: previous})


def parse_record(content: bytes) -> Record | None:
    """Return the record with this content, without its number; None if the content is damaged."""
    seal = seal_of(content)
    if seal is None:
        return None
    try:
        values = msgspec.json.decode(content)
        del values[SEAL]
        return Record(values, seal, values.pop(PREVIOUS), content)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


class Series:
    """The records of one series.

    Parameters
    ----------
    work
        `paths.work`.
    place
        The directory of the series, relative to `work`; it need not exist.
    only_look
        No decision depends on the records, so a good first copy of the last record is enough.

    Attributes
    ----------
    place, records
        The directory, and the records that were read or published, oldest first.
    harmed
        The lost or damaged copies, each with a text on its repair.
    """

    def __init__(self, work: Path, place: str, *, only_look: bool = False) -> None:
        self.place = place
        self.home = f"{work}/{place}"  # text is faster than paths
        self.second = f"{work}/{paths.copies(place)}"
        self._only_look = only_look
        self.records: list[Record] = []
        self.harmed: dict[Path, str] = {}

    def read(self) -> list[Record]:
        """Read all records, oldest first, and repair lost or damaged copies.

        Raises
        ------
        DamagedError
            If both copies of a record are gone or damaged, or a record does not follow the one before it.
        """
        first = numbers(self.home)
        # A report only looks whether the second copies go on where the first ones end: faster than another list.
        last = max(first, default=0)
        goes_on = not (last and self._only_look) or modified(f"{self.second}/{last + 1:06d}.json") is not None
        second = numbers(self.second) if goes_on else {*range(1, last + 1)}
        self.records = []
        next_one: Record | None = None
        for number in range(max(first | second, default=0), 0, -1):
            record = self._open(self.home, number) if number in first else None
            if record is not None and number not in second:
                self._repair(self.second, record)
            elif record is None or (
                not self._only_look if next_one is None else record.seal != next_one.previous
            ):
                # If both copies are good, the second one counts, because it is published after the first by the same
                # process. If the first copy was lost, a suspended process may have published another one in its place.
                other = self._open(self.second, number) if number in second else None
                if other is not None and (record is None or other.seal != record.seal):
                    self._repair(self.home, other)
                record = other or record
            if record is None:
                raise self.damaged(number)
            if next_one is not None and next_one.previous != record.seal:
                raise self.damaged(next_one.number, "it does not follow the record before it")
            next_one = record
            self.records.insert(0, record)
        if next_one is not None and next_one.previous is not None:
            raise self.damaged(1, "it does not follow the record before it")
        return self.records

    def publish(self, values: Mapping[str, object]) -> Record:
        """Publish a record after those that were read, and its second copy.

        Raises
        ------
        TakenError
            If another process published a record after they were read.
        HalfPipeError
            If the record cannot be written. Then it does not count.
        """
        assert not self._only_look
        number = len(self.records) + 1
        content = sealed(values, self.records[-1].seal if self.records else None)
        publish_file(self.home, number, content)
        try:
            publish_file(self.second, number, content)
        except TakenError:
            other = self._open(self.second, number)
            # The first copy of another process's record was lost just now.
            if other is not None and other.content != content:
                write_bytes(file_of(self.home, number), other.content, locked=False)
                raise
        record = self._numbered(content, number)
        assert record is not None
        self.records.append(record)
        return record

    def verify(self) -> Iterator[tuple[Path, str]]:
        """Read both copies of all records; yield each damaged or lost copy, with a text on its repair."""
        for record in self.read():
            other = self._open(self.second, record.number)
            if other is not None and other.seal != record.seal:
                raise self.damaged(record.number, "its copies differ")
            if other is None:
                self._repair(self.second, record)
        yield from self.harmed.items()

    def typed(self, record: Record, kind: type[T] | UnionType) -> T:
        """Return the values of a record as a `kind`.

        Raises
        ------
        DamagedError
            If it is another kind of record.
        """
        try:
            return convert(record.values, kind, f"{self.home}/{record.number:06d}.json")
        except FormatError as error:
            raise self.damaged(record.number, error.text) from error

    def damaged(self, number: int, why: object = "") -> DamagedError:
        """Return the error for a record that cannot be used."""
        copies = f"{file_of(self.home, number)} and {file_of(self.second, number)}"
        return DamagedError(
            f"both copies of record {number} are gone or damaged ({why or 'neither can be read'}): {copies}. Until one "
            "is restored, all work that needs this record stops.",
            Remedy(first="Restore one of the two files from a backup"),
        )

    def _open(self, home: str, number: int) -> Record | None:
        try:
            return self._numbered(read_whole(f"{home}/{number:06d}.json", MOST_BYTES), number)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except OSError as error:
            raise StateError(cannot_be_read(file_of(home, number), error), code="file-system") from error

    def _numbered(self, content: bytes, number: int) -> Record | None:
        found = parse_record(content)
        return found and replace(found, number=number, series=self.place)

    def _repair(self, home: str, record: Record) -> None:
        """Rewrite a lost or damaged copy, if this process has the permission."""
        path = file_of(home, record.number)
        try:
            there = self._open(home, record.number)
            if there is not None and (home == self.second or there.seal == record.seal):
                return  # published in the meantime
            if path.is_dir():
                path.rename(path.with_name(f".{path.name}.damaged"))
            if path.exists():
                # Overwrite a damaged copy: if it were removed first, another process could publish under its name.
                write_bytes(path, record.content, locked=False)
            else:
                publish_file(home, record.number, record.content)
        except (OSError, HalfPipeError) as error:
            self.harmed[path] = f"is lost or damaged, and cannot be repaired: {error}"
        else:
            self.harmed[path] = "was lost or damaged; repaired from the other copy"


def file_of(home: Path | str, number: int) -> Path:
    """Return the file of a record in a directory."""
    return Path(f"{home}/{number:06d}.json")


def numbers(home: Path | str) -> set[int]:
    """Return the numbers of the records in a directory."""
    return {int(match[1]) for match in map(_NAME.fullmatch, names_in(home)) if match}


def publish_file(home: Path | str, number: int, content: bytes) -> None:
    """Write a record to a temporary file, flush it, and link it to its name.

    Raises
    ------
    TakenError
        If another process has published a record with this number.
    HalfPipeError
        If the record cannot be written.
    """
    path = file_of(home, number)
    try:
        if not publish(path, content):
            raise TakenError(
                f"{path}: another process published this record at the same moment. Rerun the command."
            )
    except OSError as error:
        raise HalfPipeError(f"{path}: cannot write this record: {error.strerror}. {advice(error)}") from error
