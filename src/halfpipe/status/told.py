"""The last messages of unattended processing: the alarms record them, and `halfpipe status` keeps showing them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from halfpipe.errors import HalfPipeError
from halfpipe.files.json_files import read_json, write_json


@dataclass(frozen=True)
class Told:
    """The last message about a subject: the codes of its causes in order, when they began, and when it was sent."""

    codes: Sequence[str]
    since: float
    at: float


def read_told(path: Path) -> dict[str, Told]:
    """Return the last message about each subject; nothing if the file cannot be read."""
    with suppress(HalfPipeError, KeyError, TypeError, AttributeError):
        return {subject: Told(**one) for subject, one in read_json(path)["sent"].items()}
    return {}


def write_told(path: Path, told: Mapping[str, Told]) -> None:
    """Write the last message about each subject, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"sent": {subject: asdict(one) for subject, one in told.items()}})
