"""Why a downlink, or the site, is not simply good."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What is wanted. `TOLD`: worth knowing, and nobody need do anything; `PERSON`: somebody must act."""

    GOOD = "good"
    TOLD = "told"
    PERSON = "person"

    @property
    def word(self) -> str:
        """What people read for it."""
        return "note" if self is Verdict.TOLD else str(self)


@dataclass(frozen=True)
class Cause:
    """One cause: a stable `code`, a sentence, what to do next, and since when (Unix seconds), if that is known.

    Of jobs that failed, `failed` names them.
    """

    code: str
    verdict: Verdict
    text: str
    do: str = ""
    since: float | None = None
    failed: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        when = (
            None
            if self.since is None
            else datetime.fromtimestamp(self.since, UTC).isoformat(timespec="seconds")
        )
        return {"code": self.code, "text": self.text, "since": when, "do": self.do}
