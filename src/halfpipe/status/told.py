"""What unattended processing has told people: written by the alarms, read by whoever must not lose sight of it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from halfpipe.files.durable import write_text


@dataclass(frozen=True)
class Told:
    """What was told of one subject: its causes as far as they count, since when they are there, and when last."""

    causes: tuple[str, ...]
    since: float
    at: float


@dataclass
class Memory:
    """What unattended processing keeps from turn to turn.

    Attributes
    ----------
    sent
        What was told, by subject.
    week
        The ISO week of the last turn, as ``2026-W48``; empty before the first.
    wanted
        When action was needed in the last weeks, Unix seconds, and for which codes.
    """

    sent: dict[str, Told] = field(default_factory=dict)
    week: str = ""
    wanted: list[tuple[float, list[str]]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Memory":
        """Read it; what cannot be read was never told."""
        try:
            value: Any = json.loads(path.read_bytes())
            told = {
                str(subject): Told(tuple(map(str, one["causes"])), float(one["since"]), float(one["at"]))
                for subject, one in value["sent"].items()
            }
            wanted = [(float(at), [str(code) for code in codes]) for at, codes in value["wanted"]]
            return cls(told, str(value["week"]), wanted)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return cls()

    def write(self, path: Path) -> None:
        """Write it, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")
