"""Why a downlink, or the site, is not simply good: the form of a cause.

Those of a downlink come together in `status/account.py`, those of the site in `status/site_causes.py`. Most modules
that find them are named `*_causes`; who refuses work for one raises what `Cause.refused` gives.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from halfpipe.errors import NOTHING, HalfPipeError, Remedy, StateError


class Verdict(StrEnum):
    """How a downlink, or the site, stands. `NOTE`: worth knowing, no action needed; `ACTION`: somebody must act."""

    GOOD = "good"
    NOTE = "note"
    ACTION = "action"


@dataclass(frozen=True)
class Cause:
    """One cause: a stable `code`, a sentence, what to do next, and since when (Unix seconds), if that is known.

    For jobs that failed, `failed` names them, and `log` is the log to look at. `on_it` says who is on it, until when.
    """

    code: str
    verdict: Verdict
    text: str
    remedy: Remedy = NOTHING
    since: float | None = None
    failed: str = ""
    on_it: str = ""
    log: str = ""

    @property
    def lines(self) -> list[str]:
        """What to do, then which log to look at, a line each."""
        log = [f"log: {self.log}"] if self.log else []
        return [*filter(None, [self.on_it]), *(f"→ {step}" for step in self.remedy.steps), *log]

    def refused(self, what: str, kind: type[HalfPipeError] = StateError) -> HalfPipeError:
        """Return the error with which work is refused for it; `what` says what was done, or not."""
        return kind(f"{self.text}. {what}", self.remedy, code=self.code, text=self.text)

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
            "do": "\n".join(self.remedy.do),
            "first": self.remedy.first,
            "on_it": self.on_it,
            "log": self.log,
        }
