"""Causes in the books of the runs whose waiting events are counted at a downlink."""

from collections.abc import Iterator

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.decisions import Subject, What, offer
from halfpipe.errors import Remedy, rerun
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Standing
from halfpipe.notify.handoff_causes import HOUR
from halfpipe.status.survey import DownlinkFacts
from halfpipe.words import count


def books_causes(of: DownlinkFacts, run: RunId, standing: Standing) -> Iterator[Cause]:
    """Yield the causes in the books of a run."""
    books = standing.books
    if standing.old and (books is None or books.undelivered):
        known = f"{count(books.all_waiting, 'event')} waited at its last merge; " if books is not None else ""
        text = f"run {run}: {known}its events cannot be counted now: {standing.old}"
        yield Cause("books", Verdict.NOTE, text, _again(of.id, run), of.receipt_time)
    if books is None:
        return
    # Nothing is delivered while another system's record cannot be read.
    if books.due and of.handed_off is not None and not of.runs[run].deliveries.unreadable:
        is_late = of.survey.now - (of.receipt_time or 0.0) > of.settings.alarm.late_hours * HOUR
        text = f"{count(books.due, 'event is', 'events are')} due of run {run}"
        yield Cause(
            "events-due",
            Verdict.ACTION if is_late else Verdict.NOTE,
            text,
            _again(of.id, run),
            of.receipt_time,
        )
    if books.lost:
        text = f"run {run} has {books.known:,} known events, and {books.parts:,} are accounted for"
        yield Cause("books", Verdict.ACTION, text, rerun(of.id, "deliver_run"), of.receipt_time)
    if books.late:
        yield _late(of, run, books.late)
    if books.closed:
        yield _closed(of, run, books.closed)


def _again(downlink: DownlinkId, run: RunId) -> Remedy:
    return rerun(downlink, paths.manifest(run, downlink))


def _closed(of: DownlinkFacts, run: RunId, events: int) -> Cause:
    """Return the cause for known events inside closed spans, which no downlink delivers."""
    facts = of.runs[run]
    closing = facts.deliveries.closing
    at_level1 = all(_has_before(of, run, dl) for dl in closing)
    again = max({*facts.downlinks}.difference(closing), default=of.id)
    text = (
        f"{count(events, 'known event')} of run {run} in sequences that downlink {', '.join(closing)} delivered before "
        "and does not deliver now: no other downlink delivers them"
    )
    reopen = (f'halfpipe accept {dl}/{run} reopened --reason "..."' for dl in closing)
    first = "Level-1 still has them from an earlier hand-off: have it rolled back, then" if at_level1 else ""
    remedy = Remedy(*reopen, *_again(again, run).do, first=first, hands_off=True)
    return Cause("closed", Verdict.NOTE if at_level1 else Verdict.ACTION, text, remedy, of.receipt_time)


def _has_before(of: DownlinkFacts, run: RunId, downlink: DownlinkId) -> bool:
    """Tell whether Level-1 has a hand-off of a downlink from before its latest spans of a run."""
    facts = of.runs[run]
    record = facts.submissions[downlink]
    handoff = facts.deliveries.first_handoff(downlink)
    told = record.last_confirmed if record else None
    return told is not None and handoff is not None and told.handoff < handoff


def _late(of: DownlinkFacts, run: RunId, late: int) -> Cause:
    """Return the cause for late events that Level-1 lacks, perhaps because a person decided to do without them."""
    text = f"{count(late, 'late event')} of run {run} inside what other downlinks have delivered"
    subject = Subject(of.id, run=run)
    if (left := of.survey.decisions.why(What.LATE, subject, late)) is not None:
        return Cause("late-events", Verdict.NOTE, f"{text}; not delivered: {left}", since=of.receipt_time)
    first = "Reprocess the downlink that explain names"
    remedy = Remedy(f"halfpipe explain {of.id}", first=first, accept=[offer(What.LATE, subject, late)])
    return Cause("late-events", Verdict.ACTION, text, remedy, of.receipt_time)
