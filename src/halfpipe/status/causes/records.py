"""Causes in the records of a downlink and its runs.

Nothing takes a lease for this, so records of a downlink in progress may look contradictory, and are left out.
"""

from collections.abc import Iterator

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import HalfPipeError, Remedy, rebuild, rerun
from halfpipe.ids import DownlinkId, RunId
from halfpipe.notify.handoff_causes import overlaps
from halfpipe.state.hand_offs import HandedRun
from halfpipe.state.online_record import OnlineState
from halfpipe.status.survey import DownlinkFacts, RunFacts
from halfpipe.words import count


def receipt_causes(of: DownlinkFacts) -> Iterator[Cause]:
    """Yield that the records of the hand-offs cannot be read, or that the receipt does not point to the last one."""
    if of.damage is not None:
        yield Cause.of(of.damage)
    elif of.receipt_time is not None and not of.in_progress and not of.resolves:
        path = of.work / paths.receipt(of.id)
        text = (
            f"{path}: does not point to the record of the last hand-off; it was edited, damaged or restored"
        )
        yield Cause("damaged", Verdict.ACTION, text, rerun(of.id, "receipt"), of.receipt_time)


def run_causes(of: DownlinkFacts) -> Iterator[Cause]:
    """Yield contradictions between the records of a downlink, and runs that were refused, shrunk or closed."""
    handed = {run.run: run for run in of.last.runs} if of.last and of.damage is None else {}
    for run in sorted({*of.survey.lost.get(of.id, ()), *handed}):
        facts = of.runs[run]
        if facts.damage is not None:
            yield Cause.of(facts.damage)
            continue
        if unreadable := facts.deliveries.unreadable.get(of.id):
            yield Cause("other-system", Verdict.ACTION, unreadable.text, unreadable.remedy)
        yield from overlaps(run, of.id, facts.deliveries, facts.submissions)
        if run not in handed:
            yield from _lost(of, run, facts)
            continue
        if of.handed_off is not None:
            yield from _not_as_delivered(of, handed[run], facts)
        yield from _noted(of.id, handed[run])


def online_causes(of: DownlinkFacts, run: RunId) -> Iterator[Cause]:
    """Yield a cause if it is not known whether Online has the file of a run."""
    online = of.runs[run].online
    if isinstance(online, HalfPipeError):
        yield Cause.of(online)
    elif online is not None and online.state is OnlineState.OPEN:
        yield online.unknown()


def _lost(of: DownlinkFacts, run: RunId, facts: RunFacts) -> Iterator[Cause]:
    """Yield a cause if a downlink whose own files are all gone brought or delivered events of a run."""
    delivered = facts.deliveries.latest().get(of.id)
    events = delivered.events if delivered is not None else 0
    if events or of.id in facts.downlinks:
        text = (
            f"this downlink contains a part of run {run} and delivered {count(events, 'event')} of it, which Level-1 "
            "may have, but its receipt and all its other files are gone"
        )
        yield Cause("damaged", Verdict.ACTION, text, Remedy(f"snakemake dl={of.id}"))


def _not_as_delivered(of: DownlinkFacts, one: HandedRun, facts: RunFacts) -> Iterator[Cause]:
    """Yield why a run is not as it was handed off: a newer delivery, or a lost merged index."""
    if not one.is_latest:
        text = f"the latest delivery of this downlink in the records of run {one.run} is not the one in the receipt"
        yield Cause("damaged", Verdict.ACTION, text, rerun(of.id, paths.manifest(one.run, of.id)))
    if one.delivery.index and of.id not in facts.downlinks:
        text = (
            f"{of.work / paths.datagrams(one.run, of.id)}, the merged index of run {one.run}, is gone: other downlinks "
            "deliver fewer events of the run without it"
        )
        yield Cause("damaged", Verdict.ACTION, text, rebuild(of.id))


def _noted(downlink: DownlinkId, one: HandedRun) -> Iterator[Cause]:
    """Yield that a delivery was refused, or that its loss was accepted."""
    run = one.run
    made = one.delivery
    if made.refused:
        yield Cause(
            "level1-refuses",
            Verdict.ACTION,
            f"{count(made.books.refused, 'event')} of run {run} are not staged, because Level-1 would refuse the "
            f"run: {'; '.join(made.refused)}",
            rerun(downlink, paths.manifest(run, downlink), "Fix this in the config or the data"),
        )
    if made.accepted:
        yield Cause(
            "shrunk",
            Verdict.NOTE,
            f"run {run} was delivered with fewer events than before. This was accepted: {made.accepted}",
        )
