"""The state of a downlink: the only source for status, checks, the end of a command, mails and pages.

This module only reads. *Good* is a claim, and each cause is a reason why it would be wrong. Missing knowledge is not a
cause, for example about downlinks that an earlier version processed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.causes import PHASES, Cause, Phase, Verdict
from halfpipe.decode import shortfall
from halfpipe.decode.chunk import Chunk, read_chunk
from halfpipe.downlink import handoff_causes, plan_causes, stage_look, unbalanced
from halfpipe.downlink.plan import looked_in
from halfpipe.downlink.submissions import submissions
from halfpipe.errors import HalfPipeError, Remedy, rerun
from halfpipe.files import leases
from halfpipe.files.advice import advice
from halfpipe.files.reading import modified
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.books import Standing
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.run.hand_offs import HandOff, Receipt
from halfpipe.run.online_record import OnlineRecord, OnlineState
from halfpipe.settings import reason_of
from halfpipe.status.failed_jobs import failed_jobs, failures
from halfpipe.status.survey import DownlinkFacts, Survey
from halfpipe.words import count

LEVEL0_SETTLED_SECONDS = 14 * 86400.0  # after a hand-off: then no more level-0 data of its hours arrive
COSTS = "The remedy makes a hand-off that needs a rollback"
TAKEN, UNKNOWN = "taken by Level-1", "not known"  # states
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
        The books of the runs whose waiting events are counted here (`halfpipe.run.manifest_books.counted_at`).
    handoff, submitted
        Numbers of the latest hand-off and of the one that Level-1 has; None without one.
    handed_off
        Time of its receipt, Unix seconds; None without one.
    at_level1
        The seal of its receipt if Level-1 has this hand-off and needs rows of it in the ledger; otherwise empty.
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
    downlink = of.id
    handed_off = of.handed_off
    found = list(downlink_causes(of))
    # A cause already names the first missing file, with the number of the others.
    is_told = any(cause.code == stage_look.GONE for cause in found)
    told = {(cause.code, cause.text) for cause in found}
    found += [
        cause
        for cause in of_files
        if not (is_told and cause.code == stage_look.GONE) and (cause.code, cause.text) not in told
    ]
    if of.confirmed is not None:
        found = [replace(one, text=f"{one.text}. {COSTS}") if one.remedy.hands_off else one for one in found]
    causes = tuple(sorted(found, key=lambda cause: cause.verdict is not Verdict.ACTION))  # the worst first
    expected = len(of.plan.chunks) if of.plan.numbers else 0
    chunks = (expected if handed_off else min(len(of.decoded), expected), expected)
    runs = handed_off.runs if handed_off else ()
    state = _state(of, causes)
    return Account(
        downlink,
        state,
        causes,
        chunks,
        len(runs),
        sum(run.delivery.events for run in runs),
        of.books,
        handed_off.number if handed_off else None,
        of.submitted,
        of.receipt_time if handed_off else None,
        _phases(of, chunks, taken=state == TAKEN),
        _at_level1(of),
    )


def _at_level1(of: DownlinkFacts) -> str:
    """Return the seal of the receipt if Level-1 has this hand-off, and the ledger has rows of it."""
    if of.handed_off is None or not of.is_submitted:
        return ""
    has_rows = any(run.delivery.index for run in of.handed_off.runs)  # not if only spans were taken over
    return of.handed_off.seal if has_rows else ""


def _phases(of: DownlinkFacts, chunks: tuple[int, int], *, taken: bool) -> dict[Phase, tuple[int, int]]:
    """Return how much of each phase is done, and how much there is; nothing if another system delivered it.

    Level-0 is left out if the decoder did not report which hours it needed.
    """
    handed_off = of.handed_off
    if handed_off is not None and handed_off.receipt.origin:
        return {}
    of_chunks = handed_off.receipt.chunks if handed_off else of.decoded
    # If the archive was not visible, it is not known which hours were missing.
    seen = [chunk.level0 for chunk in of_chunks if chunk.level0 and chunk.level0.missing is not None]
    needed = sum(level0.needed for level0 in seen)
    missing = sum(len(level0.missing or ()) for level0 in seen)
    unknown = chunks[1] - chunks[0]  # at least one hour for each chunk that is not decoded yet
    something = int(handed_off is None or handed_off.names_files)
    entered = modified(f"{of.work}/{paths.loaded(of.id)}") is not None
    done = (handed_off is not None, entered, of.is_submitted, taken)
    each = (1, int(of.settings.ledger.url is not None), something, something)
    hand_off = [(int(so and bool(most)), most) for so, most in zip(done, each, strict=True)]
    before = [(len(of.plan.numbers), chunks[1]), (needed - missing, needed + unknown), chunks]
    phases = dict(zip(PHASES, [*before, *hand_off], strict=True))
    if of_chunks and not needed:
        del phases[Phase.LEVEL0]
    return phases


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
    if of.record is not None and of.is_submitted:
        taken = of.survey.sees_stage and stage_look.is_taken(of.settings, handed_off, of.record)
        return TAKEN if taken else f"submitted {handed_off.number}"
    return f"handed off {handed_off.number}"


def downlink_causes(of: DownlinkFacts) -> Iterator[Cause]:
    """Yield every reason why a downlink is not good."""
    handed_off = of.handed_off
    in_progress = bool(of.in_progress)
    settings = of.settings
    found = [*plan_causes.lease_troubles(of.work, of.id), *plan_causes.troubles(of.plan, of.survey.now)]
    if of.damage is not None:
        found.append(Cause("damaged", Verdict.ACTION, of.damage.text, of.damage.remedy))
    elif of.receipt_time is not None and not in_progress:
        found += handoff_causes.unresolved(of.id, of.last, of.work)
    yield from found
    if in_progress:  # the site has these causes with their verdicts
        yield from (replace(cause, verdict=Verdict.NOTE) for cause in of.survey.queue)
    if handed_off is None:
        yield from _not_handed_off(of, is_explained=bool(found))
    else:
        yield from _handed_off(of, handed_off)
    if not in_progress:
        for run, standing in of.books.items():
            yield from _of_books(of, run, standing)
            yield from _online(of, run)
        yield from handoff_causes.contradictions(
            settings,
            of.id,
            of.survey.lost.get(of.id, ()),
            of.last if of.damage is None else None,
            handed_off is not None,
            of.survey.deliveries,
        )
    at_level1 = list(
        handoff_causes.at_level1(
            settings, of.id, handed_off, of.record, in_progress, sees_stage=of.survey.sees_stage
        )
    )
    if handed_off is not None and not in_progress and of.confirmed is None:
        # The present state of the stage explains a submission that was refused because of the stage.
        looks = {cause.code for cause in at_level1} & {stage_look.FOREIGN, stage_look.GONE}
        late = failures(settings, of.id, after_receipt=True)
        yield from (cause for cause in late if not (looks and cause.code == stage_look.DIFFERS))
    yield from at_level1


def _not_handed_off(of: DownlinkFacts, *, is_explained: bool) -> Iterator[Cause]:
    """Yield why a downlink has no receipt; `is_explained`: another cause already explains that."""
    failed = [] if of.in_progress else list(failures(of.settings, of.id))
    yield from failed
    is_untold = not (of.in_progress or is_explained or failed)
    if is_untold and of.plan.numbers:
        yield Cause("outstanding", Verdict.NOTE, "it is not handed off yet", Remedy(f"snakemake dl={of.id}"))
    elif is_untold and not of.plan.ignored and of.id not in of.survey.lost:
        made = Remedy(first="Have them made and copied")
        yield Cause("waits-retdef", Verdict.NOTE, f"no RetDef in {looked_in(of.plan)} yet", made)
    yield from shortfall.shortfall_causes(of.settings, of.id, of.decoded)


def _handed_off(of: DownlinkFacts, last: HandOff) -> Iterator[Cause]:
    """Yield the causes in a receipt: in its texts, runs and chunks."""
    attitude = paths.text("magic7", of.id)
    receipt = last.receipt
    if any(text.name == attitude and not text.size for text in receipt.texts):
        yield Cause(
            "magic7",
            Verdict.NOTE if of.is_submitted else Verdict.ACTION,
            f"hand-off {last.number} has no attitude and orbit ({attitude} is empty), which Level-1 needs",
            rerun(of.id, "deliver_run", "see that magic7.command gives ATT and ORB lines"),
            of.receipt_time,
        )
    for run in last.runs:
        if missing := run.delivery.missing:
            yield Cause(
                "merged-without",
                Verdict.ACTION,
                f"run {run.run} was merged without {count(len(missing), 'chunk')} of other downlinks",
                rerun(of.id, paths.manifest(run.run, of.id), "Restore their level-0 files"),
                of.receipt_time,
            )
        is_unreadable = of.id in of.survey.deliveries(run.run).unreadable  # which another cause reports
        if run.delivery.origin and not run.delivery.spans and not is_unreadable:
            yield Cause(
                "other-system",
                Verdict.NOTE,
                f"run {run.run} was taken over, and {run.delivery.origin} recorded nothing of it as delivered",
                Remedy(f"halfpipe show {run.run}"),
                of.receipt_time,
            )
    if receipt.origin:
        return
    yield from _without_retdef(of, receipt)
    yield from unbalanced.findings(of.id, receipt.chunks, last.runs)
    place = of.work / paths.chunks(of.id)
    if receipt.chunks and place.name not in of.plan.staged.names and not of.plan.staged.unread:
        text = f"{place} is gone, with all decoded products of this downlink"  # cleanup never does that
        yield Cause("damaged", Verdict.ACTION, text, rerun(of.id, "decode_chunk"))
    yield from shortfall.shortfall_causes(of.settings, of.id, _chunks_with_level0(of, receipt))
    waiting = sum(now.books.waiting for now in of.books.values() if now.books)
    if waiting and not any(run.delivery.events or run.delivery.refused for run in last.runs):
        # A part of the downlink may be missing.
        yield Cause(
            "nothing-delivered",
            Verdict.NOTE,
            f"no event of it is delivered yet, {count(waiting, 'event waits', 'events wait')}",
            Remedy(f"halfpipe explain {of.id}"),
            of.receipt_time,
        )


def _without_retdef(of: DownlinkFacts, receipt: Receipt) -> Iterator[Cause]:
    """Yield causes for chunks missing from a hand-off: their jobs failed, and their RetDefs have since disappeared."""
    known = {chunk.chunk.number for chunk in receipt.chunks} | of.plan.numbers | of.plan.ignored
    for job in failed_jobs(of.work, of.id):
        if job.rule == "decode_chunk" and ChunkId.matches(job.ids) and int(job.ids) not in known:
            yield Cause(
                "no-retdefs",
                Verdict.ACTION,
                f"the hand-off lacks chunk {job.ids}: its job failed, and its RetDef has since disappeared. {job.text}",
                Remedy(
                    f"snakemake dl={of.id}",
                    first="Have the RetDef copied again, or list the chunk under ignore.chunks",
                    hands_off=True,
                ),
                job.ended,
            )


def _chunks_with_level0(of: DownlinkFacts, receipt: Receipt) -> Iterator[Chunk]:
    """Yield the chunks of a receipt, with the level-0 files that were read if more packets may still arrive."""
    is_recent = (of.receipt_time or 0.0) >= of.survey.now - LEVEL0_SETTLED_SECONDS
    for chunk in receipt.chunks:
        if is_recent and chunk.is_short:
            with suppress(HalfPipeError):
                yield read_chunk(of.work, of.id, chunk.chunk)
                continue
        yield chunk


def _of_books(of: DownlinkFacts, run: RunId, standing: Standing) -> Iterator[Cause]:
    """Yield the causes in the books of a run."""
    again = Remedy(f"snakemake dl={of.id} -R {paths.manifest(run, of.id)}", hands_off=True)
    books = standing.books
    if standing.old and (books is None or books.undelivered):
        known = f"{count(books.all_waiting, 'event')} waited at its last merge; " if books is not None else ""
        text = f"run {run}: {known}its events cannot be counted now: {standing.old}"
        yield Cause("books", Verdict.NOTE, text, again, of.receipt_time)
    if books is None:
        return
    # Nothing is delivered while another system's record cannot be read.
    if books.due and of.handed_off is not None and not of.survey.deliveries(run).unreadable:
        text = f"{count(books.due, 'event is', 'events are')} due of run {run}"
        yield Cause("events-due", Verdict.NOTE, text, again, of.receipt_time)
    if books.lost:
        text = f"run {run} has {books.known:,} known events, and {books.parts:,} are accounted for"
        yield Cause("books", Verdict.ACTION, text, rerun(of.id, "deliver_run"), of.receipt_time)
    if books.late:
        yield _late(of, run, books.late)
    if books.closed:
        yield _closed(of, run, books.closed)


def _online(of: DownlinkFacts, run: RunId) -> Iterator[Cause]:
    """Yield a cause if it is not known whether Online has the file of a run, and no `halfpipe online` runs."""
    if of.settings.paths.online is None:
        return
    try:
        record = OnlineRecord(of.work, run, only_look=True)
    except HalfPipeError as error:
        yield Cause("damaged", Verdict.ACTION, error.text, error.remedy)
        return
    if record.state is OnlineState.OPEN:
        found = leases.look(of.work, paths.ONLINE_LEASE)
        if found is None or not found.lives:
            yield record.unknown()


def _closed(of: DownlinkFacts, run: RunId, events: int) -> Cause:
    """Return the cause for known events inside closed spans, which no downlink delivers."""
    deliveries = of.survey.deliveries(run)
    closing = [dl for dl in deliveries.latest() if deliveries.closed(dl)]
    at_level1 = all(_has_before(of.work, dl, deliveries.first_handoff(dl)) for dl in closing)
    again = max({*known_downlinks(of.work, run)}.difference(closing), default=of.id)
    text = (
        f"{count(events, 'known event')} of run {run} in sequences that downlink {', '.join(closing)} delivered before "
        "and does not deliver now: no other downlink delivers them"
    )
    remedy = Remedy(
        *(f'halfpipe force {run} --reopen {dl} --reason "..."' for dl in closing),
        f"snakemake dl={again} -R {paths.manifest(run, again)}",
        first="Level-1 still has them from an earlier hand-off: have it rolled back, then"
        if at_level1
        else "",
        hands_off=True,
    )
    return Cause("closed", Verdict.NOTE if at_level1 else Verdict.ACTION, text, remedy, of.receipt_time)


def _has_before(work: Path, downlink: DownlinkId, handoff: int | None) -> bool:
    """Tell whether Level-1 has a hand-off of a downlink before `handoff`."""
    with suppress(HalfPipeError):
        told = submissions(work, downlink, only_look=True).last_confirmed
        return told is not None and handoff is not None and told.handoff < handoff
    return False


def _late(of: DownlinkFacts, run: str, late: int) -> Cause:
    """Return the cause for late events that Level-1 lacks, perhaps because a person decided to do without them."""
    text = f"{count(late, 'late event')} of run {run} inside what other downlinks have delivered"
    if (left := reason_of(of.settings.ignore.late, of.id, run, late)) is not None:
        return Cause("late-events", Verdict.NOTE, f"{text}; not delivered: {left}", since=of.receipt_time)
    without = f'ignore: {{late: [{{dl: "{of.id}", run: "{run}", events: {late}, reason: "..."}}]}}'
    first = (
        f"if Level-1 can do without them, in the config: {without}; otherwise, reprocess the downlink that explain "
        "names"
    )
    return Cause(
        "late-events", Verdict.ACTION, text, Remedy(f"halfpipe explain {of.id}", first=first), of.receipt_time
    )
