"""What is remembered of a run's re-pipes: a record when one is begun, and one when it has ended well."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.files.records import Series, TakenError
from halfpipe.ids import RunId


def noted(work: Path, run: RunId) -> tuple[Mapping[str, Any], ...]:
    """Return what was noted of a run's re-pipes, in order."""
    return tuple(record.values for record in _series(work, run).read())


def done(work: Path, run: RunId) -> tuple[Mapping[str, Any], ...]:
    """Return what was noted of the re-pipes that ended well, in order."""
    return tuple(value for value in noted(work, run) if "events" in value)


def note(work: Path, run: RunId, said: Mapping[str, Any]) -> None:
    """Record what is known of a re-pipe, after all that others record at this moment: it is of one of its own."""
    series = _series(work, run)
    while True:
        series.read()
        try:
            series.publish(said)
        except TakenError:
            continue
        return


def _series(work: Path, run: RunId) -> Series:
    return Series(work, paths.repipe_record(run), f"run {run} is not re-piped")
