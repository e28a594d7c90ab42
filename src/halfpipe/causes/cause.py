"""A cause: why a downlink, or the site, is not good."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from halfpipe.causes.registry import CODES, OF_RULE, Phase
from halfpipe.errors import NOTHING, HalfPipeError, Remedy, StateError


class Verdict(StrEnum):
    """The state of a downlink or the site. `NOTE`: worth knowing, no action needed; `ACTION`: a person must act."""

    GOOD = "good"
    NOTE = "note"
    ACTION = "action"


@dataclass(frozen=True)
class Cause:
    """One cause: a `code` of the registry, a sentence, what to do next, and since when (Unix seconds; None if unknown).

    `failed` names the jobs that failed, as ``decode_chunk 00001, 00002``, and `log` is the log to look at. `seen` says
    who works on it, and why it is not done yet (`halfpipe ack`).
    """

    code: str
    verdict: Verdict
    text: str
    remedy: Remedy = NOTHING
    since: float | None = None
    failed: str = ""
    log: str = ""
    seen: str = ""

    @property
    def facts(self) -> str:
        """What makes it another cause if it changes: the code, the jobs, and the subjects and numbers to accept."""
        return " ".join(filter(None, (self.code, self.failed, *self.remedy.accept)))

    @classmethod
    def of(cls, error: HalfPipeError) -> "Cause":
        """Return the cause for an error: a person must do what its remedy says."""
        return cls(error.code, Verdict.ACTION, error.text, error.remedy)

    @property
    def phase(self) -> Phase:
        """The phase of the jobs that failed; if none failed, that of the code."""
        if self.failed:
            return OF_RULE.get(self.failed.replace(";", " ").split(" ")[0], Phase.JOB)
        known = CODES.get(self.code)  # a failure recorded by an earlier version may have an unknown code
        return known.phase if known else Phase.JOB

    @property
    def lines(self) -> list[str]:
        """Who works on it, what to do, and which log to look at, a line each; the only source of all screens."""
        seen = [f"seen: {self.seen}"] if self.seen else []
        log = [f"log: {self.log}"] if self.log else []
        return [*seen, *self.remedy.lines, *log]

    def refused(self, what: str, kind: type[HalfPipeError] = StateError) -> HalfPipeError:
        """Return the error for work that is refused because of this cause; `what` is what was done, or not done."""
        return kind(f"{self.text}. {what}", self.remedy, code=self.code, text=self.text)

    def as_json(self) -> dict[str, object]:
        """Return the cause for programs."""
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
            "accept": self.remedy.decision,
            "log": self.log,
            "seen": self.seen,
        }
