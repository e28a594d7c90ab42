"""Find downlinks by time or run, in receipts and in the RetDefs of outstanding chunks."""

from collections.abc import Collection, Iterator
from math import nan
from typing import Any

import pandas as pd

from halfpipe import paths
from halfpipe.downlink.plan import Plan, outstanding_chunks
from halfpipe.errors import HalfPipeError
from halfpipe.formats.met import unix_to_met
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import begun_downlinks, every_run
from halfpipe.settings import Settings
from halfpipe.tables.columns import FILES
from halfpipe.tables.site_frames import SiteFrames

LONGEST = 7 * 86400  # seconds that a run may last
EARLIER = 3600  # seconds that an event may have before the start of its run
TAKEN_OVER = "taken over from the legacy: times and files unknown"
NOTHING = "nothing delivered"


def find(
    settings: Settings,
    when: float | None,
    runs: Collection[RunId],
) -> tuple[pd.DataFrame, list[HalfPipeError]]:
    """Return the event files and outstanding chunks with a time, a run, or both, in order of runs.

    Parameters
    ----------
    settings
        The settings.
    when
        MET seconds; None: any time.
    runs
        Any of these runs; empty: any run.

    Returns
    -------
    DataFrame
        The columns of `halfpipe.tables.columns.FILES`: a row for each event file, and for each chunk that is
        ``outstanding`` (``name`` is the chunk, most other columns are missing). A run without delivered files has one
        row without times. If only the spans of a run were taken over from the legacy, the run is found by a time if
        no other run began between its start and this time.
    list
        The errors of damaged records; the other records are still used.

    Notes
    -----
    This reads only receipts of downlinks that contain one of the runs; for a time, of runs that began in the week
    before it, because a run of the LAT lasts one or a few orbits.
    """
    work = settings.paths.work
    among, last = runs, None
    if when is not None:
        every = every_run(work)
        last = max((run for run in every if run.met <= when), default=None)
        among = runs or [run for run in every if -EARLIER <= when - run.met <= LONGEST]
    candidates, failed = set[DownlinkId](), list[HalfPipeError]()
    for run in among:
        candidates.update(begun_downlinks(work, run))
        try:  # of what was taken over, there may be nothing but a delivery
            candidates.update(Deliveries(work, run, only_look=True).latest())
        except HalfPipeError as error:
            failed.append(error)
    frames = SiteFrames(settings, [dl for dl in sorted(candidates) if (work / paths.receipt(dl)).exists()])
    files = frames.files if when is None else frames.files.query("begin_met <= @when < end_met")
    legacy = set(frames.downlinks.query("taken_over").index)
    rows = [
        _row(run, dl, *((TAKEN_OVER, None) if dl in legacy else (NOTHING, 0)))
        for run, dl in frames.runs.index.difference(frames.files.index.droplevel("name"))
        if when is None or (dl in legacy and run == last)
    ]
    done = pd.concat([files, FILES.frame(rows, times="met")]).assign(outstanding=False)
    announced = FILES.frame(_announced(settings, when), times="met").assign(outstanding=True)
    found = pd.concat([done, announced]).sort_index()
    return found[found.index.isin(runs, "run")] if runs else found, [*failed, *frames.problems.values()]


def _announced(settings: Settings, when: float | None) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of outstanding chunks; with `when`, of spans that contain this time."""
    for each in outstanding_chunks(Plan(settings)):
        spans = [(unix_to_met(span.begin), unix_to_met(span.end)) for span in each.retdef.spans]
        spans = [(begin, end) for begin, end in spans if when is None or begin <= when <= end]
        if spans:
            times = min(begin for begin, _ in spans), max(end for _, end in spans)
            yield _row(each.retdef.run, each.downlink, f"chunk {each.chunk}", None, *times)


def _row(
    run: str, downlink: str, name: str, events: int | None, begin: float = nan, end: float = nan
) -> tuple[Any, ...]:
    return run, downlink, name, events, None, None, None, begin, end, begin, end, None
