"""Whether working directory and stage belong together, and both are of today.

The stage keeps a mark: which working directory uses it, and the last records that were published there. A working
directory that was put back from a backup, emptied, or is not mounted lacks them; what was delivered since would be
delivered, and submitted, a second time. The working directory keeps a copy of the mark: a stage that is not mounted,
or was put back, lacks what that has.

Each mark has a number and is published as records are, so of two processes that write one neither undoes what the
other has noted. The highest number counts; those before it are removed.
"""

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import ConfigError, HalfPipeError, Remedy
from halfpipe.files import working_directory
from halfpipe.files.advice import cannot_be_read, sentence
from halfpipe.files.json_files import seal_of, sealed
from halfpipe.files.records import Record, TakenError, file_of, numbers, parse_record, publish_file
from halfpipe.settings import Settings
from halfpipe.words import count

log = logging.getLogger(__name__)
MOST = 1000  # series of which a mark names the last record: those of some weeks
LOOKED_AT = 20  # of them, the last ones: a backup lacks the last of all

Mark = Mapping[str, Any]


def refuse(settings: Settings, *series: str) -> None:
    """Refuse a working directory or a stage that is not mounted or belongs to another, and one put back from a backup.

    It reads two small files and a few records, and changes nothing. Who delivers or submits calls `refuse_delivery`.

    Parameters
    ----------
    settings
        The settings.
    *series
        Series that are looked at besides those that were written last: one directory may be from a backup.

    Raises
    ------
    ConfigError
        If the directory above one of them is not there, the stage belongs to another working directory, or the working
        directory lacks what the stage knows.
    """
    if wrong := _foreign_or_away(settings, series):
        raise wrong.refused("Nothing was done.", ConfigError)


def trouble(settings: Settings) -> Cause | None:
    """Return why nothing can be delivered to the stage, for commands that only look; None if all is well."""
    try:
        return _foreign_or_away(settings, ()) or stage_lacks(settings)
    except HalfPipeError as error:
        return Cause(error.code, Verdict.ACTION, error.text, error.remedy)
    except OSError as error:
        return Cause("file-system", Verdict.ACTION, sentence(error), _look(settings.paths.stage))


def _look(place: Path, first: str = "") -> Remedy:
    """Return the commands that show which file system a place is on, and what is there."""
    return Remedy(f"df -h {place}", f"ls -la {place}", first=first)


def _foreign_or_away(settings: Settings, series: Collection[str]) -> Cause | None:
    work, stage = settings.paths.work, settings.paths.stage
    for key, place in (("work", work), ("stage", stage)):
        if not place.exists() and not place.parent.is_dir():
            return Cause(
                "not-mounted",
                Verdict.ACTION,
                f"paths.{key}: {place.parent} does not exist, so {place} cannot be made",
                Remedy(
                    f"df -h {place.parent.parent}",
                    first="Have its file system mounted. If the site is new, see docs/operations.md (A new stage)",
                ),
            )
    mark, copy = stage / paths.STAGE_MARK, work / paths.STAGE_MARK_COPY
    # In this order, for a mark is published in the stage first.
    here, there = _read(copy), _read(mark)
    known = working_directory.refuse_other(work)
    if there is not None and there["id"] != known:
        return Cause(
            "stage-foreign",
            Verdict.ACTION,
            f"the stage {stage} belongs to the working directory {there['work']}, and {work} is another one, or was "
            "emptied: what that one has delivered would be delivered and submitted again",
            _look(
                work,
                "See that paths.work and paths.stage are those you mean, and that their file systems are mounted. If "
                "the other one was given up on purpose, see docs/operations.md (A new stage)",
            ),
        )
    if there is None and here is not None:
        return Cause(
            "not-mounted",
            Verdict.ACTION,
            f"the stage {stage} is not mounted, or was emptied: {mark} is not there",
            _look(
                stage,
                "Have its file system mounted. If it was emptied on purpose, see docs/operations.md (A new stage)",
            ),
        )
    if there is not None and (lost := list(_lost(work, there, series))):
        told = all(Path(name).parent.name == "submissions" for name in lost)
        return Cause(
            "restored",
            Verdict.ACTION,
            f"the stage {stage} knows {count(len(lost), 'record')} that {work} lacks: {', '.join(lost)}. {work} was "
            "put back from a backup, or they are lost: what was delivered since would be delivered and submitted again",
            _look(
                work,
                "Put a newer backup in its place. If there is none, "
                + (
                    "look in the pipeline, and"
                    if told
                    else "roll back in Level-1 what it got since then, and"
                )
                + " see docs/operations.md (A new stage)",
            ),
        )
    return None


def refuse_delivery(settings: Settings, *series: str) -> None:
    """Refuse what `refuse` does, and a stage that was put back: for whoever stages or submits something.

    Raises
    ------
    ConfigError
        As `refuse`, and if the stage lacks what the working directory knows.
    """
    refuse(settings, *series)
    if lacks := stage_lacks(settings):
        raise lacks.refused("Nothing was done.", ConfigError)


def stage_lacks(settings: Settings) -> Cause | None:
    """Return that the stage was put back from a backup: its mark is older than the copy in the working directory."""
    work, stage = settings.paths.work, settings.paths.stage
    mark, copy = stage / paths.STAGE_MARK, work / paths.STAGE_MARK_COPY
    # In this order, for a mark is published in the stage first.
    here, there = _read(copy), _read(mark)
    if there is None or here is None or here["number"] <= there["number"]:
        return None
    known = {place: number for place, number, _ in there["last"]}
    lost = [f"{place}/{number:06d}.json" for place, number, _ in here["last"] if known.get(place, 0) < number]
    return Cause(
        "restored",
        Verdict.ACTION,
        f"the stage {stage} lacks {len(lost)} records that {work} noted there: {', '.join(lost[-LOOKED_AT:])}. It was "
        "put back from a backup: what Level-1 has taken may be there again, and what was handed off since is gone",
        _look(
            stage,
            "Compare what is there with what Level-1 has taken, then see docs/operations.md (A new stage)",
        ),
    )


def last_noted(settings: Settings, place: str) -> int:
    """Return the number of the last record of the series at `place` that the stage's mark names, 0 without one."""
    there = _read(settings.paths.stage / paths.STAGE_MARK)
    return next((number for series, number, _ in (there or {"last": ()})["last"] if series == place), 0)


def claim(settings: Settings, *series: str) -> None:
    """Mark the stage as that of the working directory, before anything is staged.

    Raises
    ------
    ConfigError
        As `refuse_delivery`.
    HalfPipeError
        If the mark cannot be written.
    """
    refuse_delivery(settings, *series)
    note(settings, ())


def noted(settings: Settings, place: str, record: Record) -> None:
    """Note a record of the series at `place`; where that fails, go on: what it records is done all the same."""
    try:
        note(settings, [(place, record)])
    except HalfPipeError as error:
        log.warning("%s", error)


def note(settings: Settings, records: Iterable[tuple[str, Record]]) -> None:
    """Note records in the mark, each with the series whose last one it is, after they were published.

    Raises
    ------
    HalfPipeError
        If the mark cannot be written.
    """
    work = settings.paths.work
    mark, copy = settings.paths.stage / paths.STAGE_MARK, work / paths.STAGE_MARK_COPY
    new = [(place, record.number, record.seal) for place, record in records][-MOST:]
    owner = {"id": working_directory.begin(work), "work": str(work)}
    while True:
        before = _read(mark) or {"number": 0, "last": []}
        known = {place: number for place, number, _ in before["last"]}
        added = {entry[0]: entry for entry in new if entry[1] > known.get(entry[0], 0)}
        if before["number"] and not added:
            break
        last = [*(entry for entry in before["last"] if entry[0] not in added), *map(list, added.values())]
        try:
            publish_file(mark, before["number"] + 1, sealed({**owner, "last": last[-MOST:]}))
        except TakenError:
            continue
    # Also for one that died before it came so far.
    if before["number"] not in numbers(copy):
        with suppress(TakenError, FileNotFoundError):  # whoever has published a newer one does this
            publish_file(copy, before["number"], file_of(mark, before["number"]).read_bytes())
    for home in (mark, copy):
        for older in numbers(home):
            if older < before["number"]:
                file_of(home, older).unlink(missing_ok=True)


def _read(home: Path) -> Mark | None:
    """Read the last mark in a directory, with its number; None if there is none.

    Raises
    ------
    ConfigError
        If it cannot be read, or is damaged.
    """
    while there := numbers(home):
        path = file_of(home, max(there))
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # a newer one has been published
        except OSError as error:
            raise ConfigError(cannot_be_read(path, error), code="file-system") from error
        if seal_of(content) is None:
            raise ConfigError(
                f"{path}: damaged (checksum mismatch). It records which working directory the stage belongs to, so "
                "nothing was done. There are two copies, this one and the other in the working directory or the stage: "
                "copy the good one over this one",
                code="damaged",
            )
        return {**json.loads(content), "number": max(there)}
    return None


def _lost(work: Path, mark: Mark, series: Collection[str]) -> Iterator[str]:
    """Yield the last records of a mark, and those of some series, that the working directory lacks.

    One that is damaged in both copies it has: whoever reads its series says so, and what to do.
    """
    last, older = mark["last"][-LOOKED_AT:], mark["last"][:-LOOKED_AT]
    for place, number, seal in [*(entry for entry in older if entry[0] in series), *last]:
        name = f"{number:06d}.json"
        for home in (place, paths.copies(place)):
            with suppress(OSError):
                record = parse_record((work / home / name).read_bytes())
                if record is None or record.seal == seal:
                    break
        else:
            yield f"{place}/{name}"
