"""The mark that ties a stage to its working directory, and shows if either was restored from a backup.

The mark in the stage contains the id of the working directory that uses the stage, and the last records published
there. A working directory that was restored, emptied, or is not mounted lacks some of them. Without this check,
everything delivered since would be delivered and submitted again. The working directory has a copy of the mark, so a
stage that was restored or is not mounted is noticed, too.

Marks are numbered records (`halfpipe.files.records`). The highest number counts, and older marks are removed. If two
processes write a mark at the same time, neither undoes what the other noted, because only one can publish a number.
"""

import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import ConfigError, FormatError, HalfPipeError, Remedy
from halfpipe.files import typed, working_directory
from halfpipe.files.advice import cannot_be_read, sentence
from halfpipe.files.records import Record, TakenError, file_of, numbers, parse_record, publish_file, sealed
from halfpipe.files.typed import Stored
from halfpipe.settings import Settings
from halfpipe.words import count

log = logging.getLogger(__name__)
MOST = 1000  # series with their last record in a mark: a few weeks of them
LOOKED_AT = 20  # the newest of them, which are always checked, because a backup lacks the newest records
NEW_STAGE = "see docs/operations.md (A new stage)"


class _Last(Stored, frozen=True, array_like=True):
    """The last record of a series."""

    place: str
    number: int
    seal: str


class _Mark(Stored, frozen=True):
    """A mark: the id and the path of the working directory, and the last records there, oldest first."""

    id: str
    work: str
    last: tuple[_Last, ...]

    @property
    def numbers(self) -> dict[str, int]:
        """The number of the last record of each series."""
        return {one.place: one.number for one in self.last}


@dataclass(frozen=True)
class _Published:
    """A mark, and the record with it."""

    mark: _Mark
    record: Record


def refuse(settings: Settings, *series: str) -> None:
    """Refuse if the working directory or the stage is not mounted, is of another site, or was restored from a backup.

    Reads two small files and a few records, and changes nothing.

    Parameters
    ----------
    settings
        The settings.
    *series
        Series to check besides the newest ones, because a single directory may be restored from a backup.

    Raises
    ------
    ConfigError
        If one of these is found. Nothing was changed.
    """
    if wrong := _wrong(settings, series):
        raise wrong.refused("Nothing was done.", ConfigError)


def trouble(settings: Settings) -> Cause | None:
    """Return why nothing can be delivered to the stage, for commands that change nothing; None if it can be used."""
    try:
        return _wrong(settings, ())
    except HalfPipeError as error:
        return Cause.of(error)
    except OSError as error:
        return Cause("file-system", Verdict.ACTION, sentence(error), _look(settings.paths.stage))


def _look(place: Path, first: str = "") -> Remedy:
    """Return the commands that show the file system of a place, and its content."""
    return Remedy(f"df -h {place}", f"ls -la {place}", first=first)


def _wrong(settings: Settings, series: Collection[str]) -> Cause | None:
    work = settings.paths.work
    stage = settings.paths.stage
    for key, place in (("work", work), ("stage", stage)):
        if not place.exists() and not place.parent.is_dir():
            return Cause(
                "not-mounted",
                Verdict.ACTION,
                f"paths.{key}: {place.parent} does not exist, so {place} cannot be made",
                Remedy(
                    f"df -h {place.parent.parent}",
                    first=f"Have its file system mounted. If the site is new, {NEW_STAGE}",
                ),
            )
    # A mark is published in the stage first, so a copy that is newer than the mark never comes from a running process.
    copy = _read(work / paths.STAGE_MARK_COPY)
    found = _read(stage / paths.STAGE_MARK)
    known = working_directory.refuse_other(work)
    if found is None and copy is not None:
        return Cause(
            "not-mounted",
            Verdict.ACTION,
            f"the stage {stage} is not mounted, or was emptied: {stage / paths.STAGE_MARK} does not exist",
            _look(stage, f"Have its file system mounted. If it was emptied on purpose, {NEW_STAGE}"),
        )
    if found is None:
        return None
    mark = found.mark
    if mark.id != known:
        return Cause(
            "stage-foreign",
            Verdict.ACTION,
            f"the stage {stage} belongs to the working directory {mark.work}, and {work} is another one, or "
            "was emptied: everything that was delivered would be delivered and submitted again",
            _look(
                work,
                "Check that paths.work and paths.stage are right, and that their file systems are mounted. If the "
                f"other directory is no longer used, {NEW_STAGE}",
            ),
        )
    if lost := list(_lost(work, mark, series)):
        only_submissions = all(Path(name).parent.name == "submissions" for name in lost)
        check = "check the pipeline" if only_submissions else "roll back in Level-1 what it got since then"
        return Cause(
            "restored",
            Verdict.ACTION,
            f"{work} lacks {count(len(lost), 'record')} that the stage {stage} knows: {', '.join(lost)}. The directory "
            "was restored from a backup, or they are lost: everything delivered since would be delivered and submitted "
            "again",
            _look(work, f"Restore a newer backup. If there is none, {check}, and {NEW_STAGE}"),
        )
    if copy is not None and copy.record.number > found.record.number:
        lacks = [
            f"{one.place}/{one.number:06d}.json"
            for one in copy.mark.last
            if mark.numbers.get(one.place, 0) < one.number
        ]
        return Cause(
            "restored",
            Verdict.ACTION,
            f"the stage {stage} lacks {len(lacks)} records that {work} noted there: {', '.join(lacks[-LOOKED_AT:])}. "
            "It was restored from a backup: files that Level-1 has taken may be there again, and newer hand-offs are "
            "gone",
            _look(stage, f"Compare its content with what Level-1 has taken, then {NEW_STAGE}"),
        )
    return None


def last_noted(settings: Settings, place: str) -> int:
    """Return the number of the last record of the series at `place` that is in the stage's mark; 0 without one."""
    found = _read(settings.paths.stage / paths.STAGE_MARK)
    return found.mark.numbers.get(place, 0) if found is not None else 0


def noted(settings: Settings, place: str, record: Record) -> None:
    """Note a record of the series at `place`. A failure is only logged, because the recorded action has happened."""
    try:
        note(settings, [(place, record)])
    except HalfPipeError as error:
        log.warning("%s", error)


def note(settings: Settings, records: Iterable[tuple[str, Record]]) -> None:
    """Note published records in the mark, each with its series; without any, mark the stage as in use.

    Raises
    ------
    HalfPipeError
        If the mark cannot be written.
    """
    work = settings.paths.work
    mark = settings.paths.stage / paths.STAGE_MARK
    copy = work / paths.STAGE_MARK_COPY
    new = [_Last(place, record.number, record.seal) for place, record in records][-MOST:]
    id = working_directory.begin(work)
    while True:
        found = _read(mark)
        before = found.mark if found is not None else _Mark(id, str(work), ())
        added = {one.place: one for one in new if one.number > before.numbers.get(one.place, 0)}
        if found is not None and not added:
            break
        last = [*(one for one in before.last if one.place not in added), *added.values()]
        after = typed.values(_Mark(id, str(work), tuple(last[-MOST:])))
        number = found.record.number if found is not None else 0
        with suppress(TakenError):
            publish_file(mark, number + 1, sealed(after, found.record.seal if found is not None else None))
    # Also if a killed process published the mark without its copy.
    number = found.record.number
    if number not in numbers(copy):
        with suppress(TakenError, FileNotFoundError):  # another process publishes a newer one
            publish_file(copy, number, found.record.content)
    for home in (mark, copy):
        for older in numbers(home):
            if older < number:
                file_of(home, older).unlink(missing_ok=True)


def _read(home: Path) -> _Published | None:
    """Read the newest mark in a directory; None if there is none.

    Raises
    ------
    ConfigError
        If it cannot be read, or is damaged.
    """
    while there := numbers(home):
        path = file_of(home, max(there))
        try:
            record = parse_record(path.read_bytes())
            if record is None:
                raise FormatError(f"{path}: damaged (checksum mismatch)")
            mark = typed.convert(record.values, _Mark, path)
        except FileNotFoundError:
            continue  # another process published a newer one
        except OSError as error:
            raise ConfigError(cannot_be_read(path, error), code="file-system") from error
        except FormatError as error:
            raise ConfigError(
                f"{error}. It records which working directory the stage belongs to, so nothing was done. There are "
                "two copies, in the stage and in the working directory.",
                Remedy(first="Copy the good one over this one"),
                code="damaged",
            ) from error
        return _Published(mark, replace(record, number=max(there)))
    return None


def _lost(work: Path, mark: _Mark, series: Collection[str]) -> Iterator[str]:
    """Yield the newest records of a mark, and those of `series`, that the working directory lacks.

    A damaged record is not lost: reading its series reports the damage.
    """
    older = [one for one in mark.last[:-LOOKED_AT] if one.place in series]
    for one in [*older, *mark.last[-LOOKED_AT:]]:
        name = f"{one.number:06d}.json"
        for home in (one.place, paths.copies(one.place)):
            with suppress(OSError):
                record = parse_record((work / home / name).read_bytes())
                if record is None or record.seal == one.seal:
                    break
        else:
            yield f"{one.place}/{name}"
