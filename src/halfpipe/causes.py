"""Why a downlink, or the site, is not simply good: the form of a cause.

Those of a downlink come together in `status/account.py`, those of the site in `status/site_causes.py`; the modules
that find them are named `*_causes`, besides `decode/shortfall.py` and `status/failures.py`.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

_COMMAND = re.compile(
    r"(?:(.*?): )?((?:cp|halfpipe|kill|ls|mkdir|mv|rm|snakemake|systemctl|touch) .*)", re.DOTALL
)


class Verdict(StrEnum):
    """How a downlink, or the site, stands. `NOTE`: worth knowing, no action needed; `ACTION`: somebody must act."""

    GOOD = "good"
    NOTE = "note"
    ACTION = "action"


@dataclass(frozen=True)
class Cause:
    """One cause: a stable `code`, a sentence, what to do next, and since when (Unix seconds), if that is known.

    `do` are commands, one a line, and nothing else: what a person does before them, or has to choose, is `first`, in
    words. Given together, as ``have it made; then: snakemake dl=230401001``, they are parted. Of jobs that failed,
    `failed` names them. `on_it` says who is on it, and until when, if somebody has said so.
    """

    code: str
    verdict: Verdict
    text: str
    do: str = ""
    since: float | None = None
    failed: str = ""
    on_it: str = ""
    first: str = ""

    def __post_init__(self) -> None:
        """Part words and commands."""
        if self.do and "\n" not in self.do:
            first, commands = parted(self.do)
            object.__setattr__(self, "first", "; ".join(filter(None, [self.first, first])))
            object.__setattr__(self, "do", "\n".join(commands))

    @property
    def steps(self) -> list[str]:
        """What to do, a step each: the words, then the commands."""
        return [*filter(None, [self.first]), *self.do.splitlines()]

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        when = (
            None
            if self.since is None
            else datetime.fromtimestamp(self.since, UTC).isoformat(timespec="seconds")
        )
        return {
            "code": self.code,
            "verdict": str(self.verdict),
            "text": self.text,
            "since": when,
            "do": self.do,
            "first": self.first,
            "on_it": self.on_it,
        }


def parted(do: str) -> tuple[str, list[str]]:
    """Return what is to be done in words, and the commands behind them: each after a colon, or after ``; ``."""
    words, commands = list[str](), list[str]()
    for part in do.split("; "):
        found = _COMMAND.fullmatch(part)
        words.append((found[1] or "") if found else part)
        commands += [found[2]] if found else []
    said = (each.removesuffix("then").rstrip(", ") for each in words)
    return "; ".join(filter(None, said)), commands
