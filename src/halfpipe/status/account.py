"""The state of a downlink: the only source for status, checks, the end of a command, mails and pages.

*Good* is a claim, and each cause is a reason why it would be wrong. Missing knowledge is not a cause, for example about
downlinks that an earlier version processed. The causes follow from the facts of the downlink alone (`DownlinkFacts`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from halfpipe.causes import Cause, Phase, Verdict
from halfpipe.errors import HalfPipeError, Remedy
from halfpipe.files.advice import advice
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Standing
from halfpipe.plan import plan_causes
from halfpipe.staging.stage_look import GONE
from halfpipe.status.causes import books, hand_off, records, submission
from halfpipe.status.survey import LEVEL0_SETTLED_SECONDS, DownlinkFacts, Survey, read_facts

COSTS = "The remedy makes a hand-off that needs a rollback"
TAKEN = "taken by Level-1"  # states
UNKNOWN = "not known"
# The state of a downlink without a receipt, by the first of these codes that it has.
STATES = {
    "held": "held",
    "in-progress": "in progress",
    "file-system": "not known",
    "killed": "cut off",
    "waits-retdef": "waiting for RetDefs",
    "settling": "waiting for RetDefs",
}


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
        The books of the runs whose waiting events are counted here (`halfpipe.state.run_books.counted_at`).
    handoff, submitted
        Numbers of the latest hand-off and of the one that Level-1 has; None without one.
    handed_off
        Time of its receipt, Unix seconds; None without one.
    at_level1
        The seal of its receipt if Level-1 has this hand-off and needs rows of it in the ledger; otherwise empty.
    closed
        When it last changed (`halfpipe.state.closed.last_change`) if it is closed; otherwise None.
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
    at_level1: str = ""
    closed: float | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of its causes."""
        return self.causes[0].verdict if self.causes else Verdict.GOOD

    @property
    def waiting(self) -> int | None:
        """The events that wait now, of the runs in `books`; None if a part of them is not known."""
        found = [standing.books.all_waiting if standing.books else None for standing in self.books.values()]
        return None if None in found else sum(filter(None, found))

    def as_json(self) -> dict[str, object]:
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
        facts = read_facts(survey, downlink)
        return _account(facts, of_files), facts
    except OSError as error:
        cause = Cause("file-system", Verdict.ACTION, f"{error.filename}: {error.strerror}. {advice(error)}")
    except HalfPipeError as error:
        cause = Cause(error.code, Verdict.ACTION, str(error), Remedy(f"halfpipe show {downlink}"))
    return Account(downlink, UNKNOWN, (cause, *of_files)), facts


def _account(of: DownlinkFacts, of_files: Sequence[Cause]) -> Account:
    handed_off = of.handed_off
    found = list(downlink_causes(of))
    # A cause already names the first missing file, with the number of the others.
    is_told = any(cause.code == GONE for cause in found)
    told = {(cause.code, cause.text) for cause in found}
    found += [
        cause
        for cause in of_files
        if not (is_told and cause.code == GONE) and (cause.code, cause.text) not in told
    ]
    if of.confirmed is not None:
        found = [
            replace(each, text=f"{each.text}. {COSTS}") if each.remedy.hands_off else each for each in found
        ]
    worst_first = sorted(found, key=lambda cause: cause.verdict is not Verdict.ACTION)
    causes = of.survey.decisions.seen(of.id, worst_first)
    chunks = _chunks(of)
    runs = handed_off.runs if handed_off else ()
    one = Account(
        of.id,
        _state(of, causes),
        causes,
        chunks,
        len(runs),
        sum(run.delivery.events for run in runs),
        of.books,
        handed_off.number if handed_off else None,
        of.submitted,
        of.receipt_time if handed_off else None,
        _phases(of, chunks),
        _at_level1(of),
    )
    return replace(one, closed=of.changed) if _is_closed(of, one) else one


def _is_closed(of: DownlinkFacts, one: Account) -> bool:
    """Return whether nobody needs to look at a downlink again.

    Level-1 has taken it, or gets nothing of it; nothing needs action, or is unknown; and no more level-0 arrives.
    """
    last = of.handed_off
    if last is None or of.in_progress or one.verdict is Verdict.ACTION or one.waiting is None:
        return False
    if (of.receipt_time or 0.0) > of.survey.now - LEVEL0_SETTLED_SECONDS:
        return False
    # A decision to leave chunks out may be changed.
    return (of.is_taken or bool(last.receipt.origin) or not last.names_files) and not last.receipt.ignored


def _at_level1(of: DownlinkFacts) -> str:
    """Return the seal of the receipt if Level-1 has this hand-off, and the ledger has rows of it."""
    if of.handed_off is None or not of.is_submitted:
        return ""
    has_rows = any(run.delivery.index for run in of.handed_off.runs)  # not if only spans were taken over
    return of.handed_off.seal if has_rows else ""


def _chunks(of: DownlinkFacts) -> tuple[int, int]:
    """Return the number of its chunks that are decoded, or handed off after the hand-off; and of all its chunks."""
    if not of.plan.numbers:
        return 0, 0
    made = of.handed_off.receipt.chunks if of.handed_off else of.chunks
    return len({chunk.chunk for chunk in made}.intersection(of.plan.chunks)), len(of.plan.chunks)


def _phases(of: DownlinkFacts, chunks: tuple[int, int]) -> dict[Phase, tuple[int, int]]:
    """Return how much of each phase is done, and how much there is; nothing if another system delivered it.

    Level-0 is left out if the decoder did not report which hours it needed.
    """
    handed_off = of.handed_off
    if handed_off is not None and handed_off.receipt.origin:
        return {}
    done, every = chunks
    # If the archive was not visible, it is not known which hours were missing.
    seen = [chunk.level0 for chunk in of.chunks if chunk.level0 and chunk.level0.missing is not None]
    needed = sum(level0.needed for level0 in seen)
    missing = sum(len(level0.missing or ()) for level0 in seen)
    undecoded = every - done  # at least one hour for each
    phases = {
        Phase.RETDEFS: (len(of.plan.numbers), every),
        Phase.LEVEL0: (needed - missing, needed + undecoded),
        Phase.DECODED: chunks,
        Phase.STAGED: _step(handed_off is not None),
        Phase.LEDGER: _step(of.entered, exists=of.settings.ledger.url is not None),
    }
    has_files = handed_off is None or handed_off.names_files
    phases[Phase.SUBMITTED] = _step(of.is_submitted, exists=has_files)
    phases[Phase.TAKEN] = _step(of.is_taken, exists=has_files)
    if of.chunks and not needed:
        del phases[Phase.LEVEL0]
    return phases


def _step(is_done: bool, *, exists: bool = True) -> tuple[int, int]:
    """Return how much is done of a step of the whole downlink, and how much there is: nothing if there is none."""
    if not exists:
        return 0, 0
    return int(is_done), 1


def _state(of: DownlinkFacts, causes: Sequence[Cause]) -> str:
    """Return the state of a downlink in a few words."""
    handed_off = of.handed_off
    if of.in_progress:
        return "in progress"
    if handed_off is None:
        codes = {cause.code for cause in causes}
        if first := next((cause.failed for cause in causes if cause.failed), ""):
            return f"failed at {first.partition(';')[0].partition(',')[0]}"
        default = "outstanding" if of.plan.numbers else "nothing is there to process"
        return next((state for code, state in STATES.items() if code in codes), default)
    if handed_off.receipt.origin:
        return "taken over"
    if of.is_taken:
        return TAKEN
    if of.is_submitted:
        return f"submitted {handed_off.number}"
    empty = "" if handed_off.names_files else ", no event files"
    return f"handed off {handed_off.number}{empty}"


def downlink_causes(of: DownlinkFacts) -> Iterator[Cause]:
    """Yield every reason why a downlink is not good."""
    handed_off = of.handed_off
    found = [
        *plan_causes.lease_troubles(of.plan, of.lease),
        *plan_causes.troubles(of.plan, of.survey.now),
        *plan_causes.reissued(of.plan),
        *records.receipt_causes(of),
    ]
    yield from found
    if of.in_progress:  # the site has these causes with their verdicts
        yield from (replace(cause, verdict=Verdict.NOTE) for cause in of.survey.queue)
    if handed_off is None:
        yield from hand_off.outstanding_causes(of, is_explained=bool(found))
    else:
        yield from hand_off.receipt_causes(of, handed_off)
    if not of.in_progress:
        for run, standing in of.books.items():
            yield from books.books_causes(of, run, standing)
            yield from records.online_causes(of, run)
        yield from records.run_causes(of)
    yield from submission.level1_causes(of)
