"""What unattended processing has told people: written by the alarms, read by whoever must not lose sight of it."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from halfpipe.errors import HalfPipeError
from halfpipe.files.json_files import read_json, write_json


@dataclass(frozen=True)
class Told:
    """What was told of one subject: the codes of its causes, in order, since when they are there, and when last."""

    codes: Sequence[str]
    since: float
    at: float


@dataclass
class Memory:
    """What unattended processing keeps from turn to turn.

    Attributes
    ----------
    sent
        What was told, by subject.
    """

    sent: dict[str, Told] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Memory":
        """Read it; what cannot be read was never told."""
        with suppress(HalfPipeError, KeyError, TypeError, AttributeError):
            value = read_json(path)
            return cls({subject: Told(**one) for subject, one in value["sent"].items()})
        return cls()

    def write(self, path: Path) -> None:
        """Write it, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(self))
