"""The state of a downlink: the only source for status, checks, the end of a command, mails and pages.

This module only reads. *Good* is a claim, and each cause is a reason why it would be wrong. Missing knowledge is not a
cause, for example about downlinks that an earlier version processed.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from halfpipe import paths
from halfpipe.causes import PHASES, Cause, Phase, Verdict
from halfpipe.downlink import stage_look
from halfpipe.errors import HalfPipeError, Remedy
from halfpipe.files.advice import advice
from halfpipe.files.reading import modified
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Standing
from halfpipe.status.downlink_causes import downlink_causes
from halfpipe.status.survey import DownlinkFacts, Survey

COSTS = "The remedy makes a hand-off that needs a rollback"
TAKEN, UNKNOWN = "taken by Level-1", "not known"  # states


@dataclass(frozen=True)
class Account:
    """The state of one downlink.

    Attributes
    ----------
    downlink, state
        The downlink and its state in a few words.
    causes
        Why it is not simply good, the worst first.
    chunks
        The number of decoded chunks, and of all chunks.
    phases
        For each of `PHASES` how much is done and how much there is: RetDefs, hours of level-0, chunks, or the hand-off
        itself. Both are 0 if a phase does not apply.
    runs, events
        Numbers in its receipt; 0 without one.
    books
        The books of the runs whose waiting events are counted here (`halfpipe.run.manifest_books.counted_at`).
    handoff, submitted
        Numbers of the latest hand-off and of the one that Level-1 has; None without one.
    handed_off
        Time of its receipt, Unix seconds; None without one.
    """

    downlink: DownlinkId
    state: str
    causes: tuple[Cause, ...] = ()
    chunks: tuple[int, int] = (0, 0)
    runs: int = 0
    events: int = 0
    books: Mapping[RunId, Standing] = field(default_factory=dict)
    handoff: int | None = None
    submitted: int | None = None
    handed_off: float | None = None
    phases: Mapping[Phase, tuple[int, int]] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """The worst of its causes."""
        return self.causes[0].verdict if self.causes else Verdict.GOOD

    @property
    def waiting(self) -> int | None:
        """The events that wait now, of the runs in `books`; None if a part of them is not known."""
        found = [standing.books.all_waiting if standing.books else None for standing in self.books.values()]
        return None if None in found else sum(filter(None, found))

    def as_json(self) -> dict[str, Any]:
        """Return the account for programs."""
        return {
            "dl": str(self.downlink),
            "state": self.state,
            "verdict": str(self.verdict),
            "handoff": self.handoff,
            "submitted": self.submitted,
            "events": self.events,
            "waiting": self.waiting,
            "causes": self.causes,
        }


def account(survey: Survey, downlink: DownlinkId, of_files: Sequence[Cause] = ()) -> Account:
    """Return the account of one downlink, including the causes found in its files. An error becomes a cause, too."""
    return account_and_facts(survey, downlink, of_files)[0]


def account_and_facts(
    survey: Survey, downlink: DownlinkId, of_files: Sequence[Cause] = ()
) -> tuple[Account, DownlinkFacts | None]:
    """Return the account as `account` does, and what was read for it; None if nothing could be read."""
    facts = None
    try:
        facts = DownlinkFacts(survey, downlink)
        return _account(facts, of_files), facts
    except OSError as error:
        cause = Cause("file-system", Verdict.ACTION, f"{error.filename}: {error.strerror}. {advice(error)}")
    except HalfPipeError as error:
        cause = Cause(error.code, Verdict.ACTION, str(error), Remedy(f"halfpipe show {downlink}"))
    return Account(downlink, UNKNOWN, (cause, *of_files)), facts


def _account(of: DownlinkFacts, of_files: Sequence[Cause]) -> Account:
    downlink, receipt = of.id, of.receipt
    found = list(downlink_causes(of))
    # A cause already names the first missing file, with the number of the others.
    is_told, told = (
        any(cause.code == stage_look.GONE for cause in found),
        {(cause.code, cause.text) for cause in found},
    )
    found += [
        cause
        for cause in of_files
        if not (is_told and cause.code == stage_look.GONE) and (cause.code, cause.text) not in told
    ]
    if of.confirmed is not None:
        found = [replace(one, text=f"{one.text}. {COSTS}") if one.remedy.hands_off else one for one in found]
    causes = tuple(sorted(found, key=lambda cause: cause.verdict is not Verdict.ACTION))  # the worst first
    expected = len(of.plan.chunks) if of.plan.numbers else 0
    chunks = (expected if receipt else min(len(of.decoded), expected), expected)
    runs, state = receipt["runs"] if receipt else [], _state(of, causes)
    return Account(
        downlink,
        state,
        causes,
        chunks,
        len(runs),
        sum(run["delivered"] for run in runs),
        of.books,
        receipt["handoff"] if receipt else None,
        of.submitted,
        of.receipt_time if receipt else None,
        _phases(of, chunks, taken=state == TAKEN),
    )


def _phases(of: DownlinkFacts, chunks: tuple[int, int], *, taken: bool) -> dict[Phase, tuple[int, int]]:
    """Return how much of each phase is done, and how much there is; nothing for a downlink taken over from the legacy.

    Level-0 is left out if the decoder did not report which hours it needed.
    """
    if of.receipt is not None and of.receipt.get("taken_over"):
        return {}
    needed = missing = 0
    unknown = chunks[1] - chunks[0]  # at least one hour for each chunk that is not decoded yet
    of_chunks = of.receipt["chunks"] if of.receipt else of.decoded
    for chunk in of_chunks:
        with suppress(AttributeError, KeyError, TypeError):  # unknown, or damaged
            missing, needed = missing + len(chunk["level0"]["missing"]), needed + chunk["level0"]["needed"]
    something = int(of.receipt is None or stage_look.names_files(of.receipt))
    entered = modified(f"{of.work}/{paths.loaded(of.id)}") is not None
    done = (of.receipt is not None, entered, of.is_submitted, taken)
    each = (1, int(of.settings.ledger.url is not None), something, something)
    hand_off = [(int(so and bool(most)), most) for so, most in zip(done, each, strict=True)]
    before = [(len(of.plan.numbers), chunks[1]), (needed - missing, needed + unknown), chunks]
    phases = dict(zip(PHASES, [*before, *hand_off], strict=True))
    if of_chunks and not needed:
        del phases[Phase.LEVEL0]
    return phases


def _state(of: DownlinkFacts, causes: Sequence[Cause]) -> str:
    """Return the state of a downlink in a few words."""
    receipt = of.receipt
    if of.in_progress:
        return "in progress"
    if receipt is None:
        codes = {cause.code for cause in causes}
        if first := next((cause.failed for cause in causes if cause.failed), ""):
            return f"failed at {first.partition(';')[0].partition(',')[0]}"
        if "held" in codes:
            return "held"
        if "killed" in codes:
            return "cut off"
        if codes & {"waits-retdef", "settling"}:
            return "waiting for RetDefs"
        return "outstanding" if of.plan.numbers else "nothing is there to process"
    if receipt.get("taken_over"):
        return "taken over"
    if of.record is not None and of.is_submitted:
        taken = of.survey.sees_stage and stage_look.is_taken(of.settings, of.id, receipt, of.record)
        return TAKEN if taken else f"submitted {receipt['handoff']}"
    return f"handed off {receipt['handoff']}"
