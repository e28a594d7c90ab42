"""Which downlink has this time, or this run: from receipts, and from the RetDefs of what is outstanding."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from halfpipe import paths
from halfpipe.downlink.announcements import Announced, outstanding_chunks
from halfpipe.downlink.plan import Plan
from halfpipe.errors import HalfPipeError
from halfpipe.formats import met as met_of
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import begun_downlinks
from halfpipe.run.receipt_file import read_receipt
from halfpipe.settings import Settings
from halfpipe.tables import names

LONGEST = 7 * 86400  # seconds that a run may last
EARLIER = 3600  # seconds that an event may have before the start of its run
TAKEN_OVER = "taken over: times and files are not known here"


@dataclass(frozen=True)
class Found:
    """A file of a downlink, or a chunk that is outstanding, that has what was asked for.

    Attributes
    ----------
    downlink, run
        The downlink and the run.
    outstanding
        Whether it is announced and not processed yet: then `what` names its chunk.
    what
        The event file, or ``chunk 00003``; of a run that the downlink delivers nothing of, empty; of one that was
        taken over by its spans only, that its times are not known. Such a run is found by a time if no other run began
        between its start and that.
    events
        In the file; None if nobody knows yet.
    begin, end
        The times that it has, MET seconds; None without one.
    """

    downlink: DownlinkId
    run: RunId
    outstanding: bool
    what: str
    events: int | None
    begin: float | None
    end: float | None


def find(
    settings: Settings,
    when: float | None,
    runs: Collection[RunId],
    failed: Callable[[HalfPipeError], object],
) -> list[Found]:
    """Return what has a time, a run, or both, in the order of time.

    Parameters
    ----------
    settings
        The settings.
    when
        MET seconds; None: any time.
    runs
        Any of these; none: any run.
    failed
        Takes the error of a receipt that cannot be believed; the others go on.

    Notes
    -----
    Only the receipts of downlinks that brought something of these runs are read; for a time, of runs that began in
    the week before it: a run of the LAT lasts an orbit or a few.
    """
    found: list[Found] = []
    work = settings.paths.work
    among, last = runs, None
    if when is not None:
        every = names.runs(work)
        last = max((run for run in every if run.met <= when), default=None)
        among = runs or [run for run in every if -EARLIER <= when - run.met <= LONGEST]
    candidates = set[DownlinkId]()
    for run in among:
        candidates.update(begun_downlinks(work, run))
        try:
            candidates.update(Deliveries(work, run).latest())
        except HalfPipeError as error:
            failed(error)
    for downlink in sorted(candidates):
        if not (work / paths.receipt(downlink)).exists():
            continue
        try:
            found += _delivered(downlink, read_receipt(work, downlink), when, runs, last)
        except HalfPipeError as error:
            failed(error)
    for each in outstanding_chunks(Plan(settings)):
        found += _announced(each, when, runs)
    return sorted(found, key=lambda one: (one.begin or 0, one.downlink, one.what))


def _delivered(
    downlink: DownlinkId,
    receipt: Mapping[str, Any],
    when: float | None,
    runs: Collection[RunId],
    last: RunId | None,
) -> Iterator[Found]:
    """Yield what a receipt names; of a run that was taken over by its spans the times are not known."""
    for run in receipt["runs"]:
        if runs and run["run"] not in runs:
            continue
        for file in run["files"]:
            begin, end = file["seconds"]
            # The seconds of an event are whole: it is at any time until the next.
            if when is None or begin <= when < end + 1:
                yield Found(downlink, RunId(run["run"]), False, file["name"], file["events"], begin, end)
        taken_over = bool(receipt.get("taken_over"))
        if not run["files"] and (when is None or (taken_over and run["run"] == last)):
            what, events = (TAKEN_OVER, None) if taken_over else ("", 0)
            yield Found(downlink, RunId(run["run"]), False, what, events, None, None)


def _announced(each: Announced, when: float | None, runs: Collection[RunId]) -> Iterator[Found]:
    run = each.retdef.run
    if runs and run not in runs:
        return
    spans = [(met_of.unix_to_met(one.begin), met_of.unix_to_met(one.end)) for one in each.retdef.spans]
    having = [(begin, end) for begin, end in spans if when is None or begin <= when <= end]
    if having:
        begin, end = min(having)[0], max(end for _, end in having)
        yield Found(each.downlink, run, True, f"chunk {each.chunk}", None, begin, end)
