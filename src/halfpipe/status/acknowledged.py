"""Who is on it, and until when: said by a person of a downlink, a run or a cause. It silences nothing.

A file for each, as halt switches are, whose time of modification is when it ends by itself; one that is said again
replaces the one before.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause
from halfpipe.files import markers
from halfpipe.files.reading import modified
from halfpipe.ids import DownlinkId, RunId
from halfpipe.words import utc


def say(work: Path, what: str, until: float, reason: str) -> None:
    """Say of a downlink, a run, or the code of a cause that somebody is on it until a time, Unix seconds, and why."""
    file = work / paths.acknowledged(what)
    file.unlink(missing_ok=True)
    markers.make(file, reason)
    os.utime(file, (until, until))


def read(work: Path, now: float) -> dict[str, str]:
    """Return what holds at `now`, Unix seconds: until when, who, when it was said and why, by what it is said of."""
    files = ((modified(str(file)) or now, file) for file in sorted(work.glob(paths.acknowledged("*"))))
    return {
        file.name: f"somebody is on it until {utc(end)}: {markers.content(file)}"
        for end, file in files
        if end > now
    }


def marked(
    said: Mapping[str, str], causes: Sequence[Cause], downlink: DownlinkId | None = None
) -> tuple[Cause, ...]:
    """Return causes, those that somebody is on with who it is: of a run, if they name the run."""

    def is_of(what: str, cause: Cause) -> bool:
        return what in {downlink, cause.code} or (
            RunId.matches(what) and any(name in cause.text for name in (what, RunId(what).l1))
        )

    return tuple(
        replace(cause, on_it="; ".join(who for what, who in said.items() if is_of(what, cause)))
        for cause in causes
    )
