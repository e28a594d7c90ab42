"""Who is on it, and until when: said by a person of a downlink, a run or a cause. It silences nothing.

A file for each, as halt switches are; one that is said again replaces the one before, and each ends by itself.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause
from halfpipe.errors import HalfPipeError
from halfpipe.files.json_files import read_json, write_json
from halfpipe.ids import DownlinkId, RunId
from halfpipe.words import utc


@dataclass(frozen=True)
class Acknowledged:
    """What a person has said: `what` is a downlink, a run, or the code of a cause; `until` is Unix seconds."""

    what: str
    who: str
    until: float
    reason: str

    def __str__(self) -> str:
        """Say it."""
        return f"{self.who} is on it until {utc(self.until)}: {self.reason}"

    def is_of(self, cause: Cause, downlink: DownlinkId | None = None) -> bool:
        """Tell whether a cause, of a downlink or of none, is what was meant: of a run, if it names the run."""
        return self.what in {downlink, cause.code} or (
            RunId.matches(self.what) and any(name in cause.text for name in (self.what, RunId(self.what).l1))
        )


def say(work: Path, said: Acknowledged) -> None:
    """Write it down."""
    file = work / paths.acknowledged(said.what)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, asdict(said))


def read(work: Path, now: float) -> tuple[Acknowledged, ...]:
    """Return what holds at `now`, Unix seconds; what cannot be read was never said."""
    found = []
    for file in sorted(work.glob(paths.acknowledged("*"))):
        with suppress(HalfPipeError, OSError, TypeError):
            found.append(Acknowledged(**read_json(file)))
    return tuple(one for one in found if one.until > now)


def marked(
    said: Sequence[Acknowledged], causes: Sequence[Cause], downlink: DownlinkId | None = None
) -> tuple[Cause, ...]:
    """Return causes, those that somebody is on with who it is."""
    return tuple(
        replace(cause, on_it="; ".join(str(one) for one in said if one.is_of(cause, downlink)))
        for cause in causes
    )
