"""Find downlinks by time or run, in receipts and in the RetDefs of outstanding chunks."""

from collections.abc import Collection
from math import nan

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
        The columns of `halfpipe.tables.columns.FILES`: a row for each event file, and for each span of a chunk that is
        ``outstanding`` (``name`` is the chunk, most other columns are missing). A run of a downlink without files, for
        example of one that was taken over from the legacy, has one row without times; it is found by a time if no other
        run began between its start and this time.
    list
        The errors of damaged records; the other records are still used.

    Notes
    -----
    This reads only receipts of downlinks that contain one of the runs; for a time, of runs that began in the week
    before it, because a run of the LAT lasts one or a few orbits.
    """
    work = settings.paths.work
    near = [run for run in every_run(work) if when is None or -EARLIER <= when - run.met <= LONGEST]
    candidates, failed = set[DownlinkId](), list[HalfPipeError]()
    for run in runs or near:
        candidates.update(begun_downlinks(work, run))
        try:  # of what was taken over, there may be nothing but a delivery
            candidates.update(Deliveries(work, run, only_look=True).latest())
        except HalfPipeError as error:
            failed.append(error)
    frames = SiteFrames(settings, [dl for dl in sorted(candidates) if (work / paths.receipt(dl)).exists()])
    announced = (
        (each.retdef.run, each.downlink, f"chunk {each.chunk}", *[None] * 4, *times, *times, None)
        for each in outstanding_chunks(Plan(settings))
        for span in each.retdef.spans
        for times in [(unix_to_met(span.begin), unix_to_met(span.end))]
    )
    outstanding = FILES.frame(announced, times="met").assign(outstanding=True)
    found = pd.concat([frames.files.assign(outstanding=False), outstanding])
    empty = frames.runs["events"][frames.runs["files"] == 0]
    if when is not None:
        found = found.query("begin_met <= @when < end_met")
        begun = max((run for run in near if run.met <= when), default="")
        empty = empty[empty.index.get_level_values("run") == begun]
    without = ((*of, "no files", events, *[None] * 3, *[nan] * 4, None) for of, events in empty.items())
    found = pd.concat([found, FILES.frame(without, times="met").assign(outstanding=False)]).sort_index()
    return found[found.index.isin(runs, "run")] if runs else found, [*failed, *frames.problems.values()]
