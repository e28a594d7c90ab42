"""Declared outputs of rules that say which record counts: the series, the number and the seal of the record.

Snakemake deletes a declared output before its job runs, so it is never the only copy of a fact. Only `resolves` reads
pointers. If a pointer is missing or does not resolve, the rule that makes it must run again, and nothing is lost.

A pointer is not a hard link to its record: a link would have the record's time, and after a rerun that changes nothing
it would be older than the inputs of its rule, so Snakemake would run the rule each time.
"""

from pathlib import Path

from halfpipe.errors import HalfPipeError
from halfpipe.files.records import Record
from halfpipe.files.typed import Stored, read_stored, write_stored


class Pointer(Stored, frozen=True):
    """The place of a series relative to `paths.work`, and the number and seal of one of its records."""

    series: str
    number: int
    seal: str


def point(path: Path, record: Record) -> None:
    """Write a pointer to a record, completely or not at all."""
    write_stored(path, Pointer(record.series, record.number, record.seal))


def resolves(path: Path, seal: str) -> bool:
    """Tell whether the pointer at `path` names the record with this seal."""
    try:
        return read_stored(path, Pointer).seal == seal
    except HalfPipeError:
        return False
