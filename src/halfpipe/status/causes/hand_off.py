"""Causes in a receipt: in its texts, runs and chunks; and why a downlink has no receipt."""

from collections.abc import Iterator

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.decisions import Subject, What, offer
from halfpipe.decode.shortfall import shortfall_causes
from halfpipe.deliver import unbalanced
from halfpipe.errors import Remedy, rerun
from halfpipe.ids import ChunkId
from halfpipe.plan.plan import looked_in
from halfpipe.state.deliveries import MOST_CONTRADICTIONS
from halfpipe.state.hand_offs import HandedRun, HandOff
from halfpipe.status.failed_jobs import failures
from halfpipe.status.survey import DownlinkFacts
from halfpipe.words import count, grouped


def outstanding_causes(of: DownlinkFacts, *, is_explained: bool) -> Iterator[Cause]:
    """Yield why a downlink has no receipt; `is_explained`: another cause already explains that."""
    failed = [] if of.in_progress else list(failures(of.id, of.jobs, of.lease))
    yield from failed
    is_untold = not (of.in_progress or is_explained or failed)
    if is_untold and of.plan.numbers:
        yield Cause("outstanding", Verdict.NOTE, "it is not handed off yet", Remedy(f"snakemake dl={of.id}"))
    elif is_untold and not of.plan.ignored and of.id not in of.survey.lost:
        made = Remedy(first="Have them made and copied")
        yield Cause("waits-retdef", Verdict.NOTE, f"no RetDef in {looked_in(of.plan)} yet", made)
    yield from _shortfalls(of)


def receipt_causes(of: DownlinkFacts, last: HandOff) -> Iterator[Cause]:
    """Yield the causes in a receipt."""
    attitude = paths.text("magic7", of.id)
    if any(text.name == attitude and not text.size for text in last.receipt.texts):
        yield Cause(
            "magic7",
            Verdict.NOTE if of.is_submitted else Verdict.ACTION,
            f"hand-off {last.number} has no attitude and orbit ({attitude} is empty), which Level-1 needs",
            rerun(of.id, "deliver_run", "see that magic7.command gives ATT and ORB lines"),
            of.receipt_time,
        )
    for one in last.runs:
        if missing := one.delivery.missing:
            text = f"run {one.run} was merged without {count(len(missing), 'chunk')} of other downlinks"
            remedy = rerun(of.id, paths.manifest(one.run, of.id), "Restore their level-0 files")
            yield Cause("merged-without", Verdict.ACTION, text, remedy, of.receipt_time)
        yield from _contradictions(of, one)
        is_unreadable = of.id in of.runs[one.run].deliveries.unreadable  # which another cause reports
        if one.delivery.origin and not one.delivery.spans and not is_unreadable:
            text = (
                f"run {one.run} was taken over, and {one.delivery.origin} recorded nothing of it as delivered"
            )
            yield Cause(
                "other-system", Verdict.NOTE, text, Remedy(f"halfpipe show {one.run}"), of.receipt_time
            )
    if last.receipt.origin:
        return
    yield from _without_retdef(of, last)
    yield from unbalanced.findings(of.id, last.receipt.chunks, last.runs)
    place = of.work / paths.chunks(of.id)
    if last.receipt.chunks and place.name not in of.plan.staged.names and not of.plan.staged.unread:
        text = f"{place} is gone, with all decoded products of this downlink"  # cleanup never does that
        yield Cause("damaged", Verdict.ACTION, text, rerun(of.id, "decode_chunk"))
    yield from _shortfalls(of)
    waiting = sum(now.books.waiting for now in of.books.values() if now.books)
    if waiting and not any(one.delivery.events or one.delivery.refused for one in last.runs):
        # A part of the downlink may be missing.
        text = f"no event of it is delivered yet, {count(waiting, 'event waits', 'events wait')}"
        explain = Remedy(f"halfpipe explain {of.id}")
        yield Cause("nothing-delivered", Verdict.NOTE, text, explain, of.receipt_time)


def _contradictions(of: DownlinkFacts, run: HandedRun) -> Iterator[Cause]:
    """Yield a cause for the datagrams of a run that other downlinks contain with other sequences."""
    contradicts = run.delivery.contradicts
    for other, found in grouped((one.downlink, one) for one in contradicts).items():
        named = "; ".join(
            f"datagram {one.datagram} of EPU {one.apid} has sequences {one.here.first} to {one.here.last}, "
            f"there {one.there.first} to {one.there.last}"
            for one in found[:3]
        )
        most = "at least " if len(contradicts) == MOST_CONTRADICTIONS else ""
        text = (
            f"run {run.run}: downlink {other} contains {most}{count(len(found), 'datagram')} of this downlink with "
            f"other sequences, so Level-1 may get events twice: {named}"
        )
        first = (
            "Find out which of the two downlinks is wrong, leave its chunks of this run out, and have "
            f"it rolled back if Level-1 has it. If it is {other}, process that first"
        )
        remedy = rerun(of.id, "deliver_run", first)
        yield Cause("datagrams-differ", Verdict.ACTION, text, remedy, of.receipt_time)


def _shortfalls(of: DownlinkFacts) -> Iterator[Cause]:
    found = [(chunk, of.arrived.get(chunk.chunk, ())) for chunk in of.chunks]
    yield from shortfall_causes(of.survey.decisions, of.id, found)


def _without_retdef(of: DownlinkFacts, last: HandOff) -> Iterator[Cause]:
    """Yield causes for chunks missing from a hand-off: their jobs failed, and their RetDefs have since disappeared."""
    known = {chunk.chunk.number for chunk in last.receipt.chunks} | of.plan.numbers | of.plan.ignored
    for job in of.jobs:
        if job.rule == "decode_chunk" and ChunkId.matches(job.ids) and int(job.ids) not in known:
            text = (
                f"the hand-off lacks chunk {job.ids}: its job failed, and its RetDef has since disappeared. "
            )
            accept = [offer(What.LEFT_OUT, Subject(of.id, chunk=ChunkId(job.ids)))]
            first = "Have the RetDef copied again"
            remedy = Remedy(f"snakemake dl={of.id}", first=first, hands_off=True, accept=accept)
            yield Cause("no-retdefs", Verdict.ACTION, f"{text}{job.text}", remedy, job.ended)
