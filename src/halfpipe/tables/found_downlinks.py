"""Find downlinks by time or run, in receipts and in the RetDefs of outstanding chunks."""

from collections.abc import Callable, Collection, Iterator

import pandas as pd

from halfpipe import paths
from halfpipe.downlink.plan import Plan, outstanding_chunks
from halfpipe.errors import HalfPipeError
from halfpipe.formats import met as met_of
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import begun_downlinks, every_run
from halfpipe.settings import Settings
from halfpipe.tables import frames

LONGEST = 7 * 86400  # seconds that a run may last
EARLIER = 3600  # seconds that an event may have before the start of its run
TAKEN_OVER = "taken over from the legacy: times and files unknown"
COLUMNS = ["downlink", "run", "begin", "end", "events", "what"]


def find(
    settings: Settings,
    when: float | None,
    runs: Collection[RunId],
    failed: Callable[[HalfPipeError], object],
) -> pd.DataFrame:
    """Return the event files and outstanding chunks with a time, a run, or both, in order of time.

    Parameters
    ----------
    settings
        The settings.
    when
        MET seconds; None: any time.
    runs
        Any of these runs; empty: any run.
    failed
        Called with the error of a damaged receipt; the other receipts are still used.

    Returns
    -------
    DataFrame
        One row for each event file, and for each chunk that is ``outstanding``. ``what`` is the name of the file or
        chunk; the ``events`` of a chunk are unknown. ``begin`` and ``end`` are times, MET. A run without delivered
        files has one row without times. If only the spans of a run were taken over from the legacy, the run is found
        by a time if no other run began between its start and this time.

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
    candidates = set[DownlinkId]()
    for run in among:
        candidates.update(begun_downlinks(work, run))
        try:
            candidates.update(Deliveries(work, run).latest())
        except HalfPipeError as error:
            failed(error)
    there = [dl for dl in sorted(candidates) if (work / paths.receipt(dl)).exists()]
    receipts = list(frames.read_receipts(work, there, lambda _, error: failed(error), named=True))
    taken_over = [receipt["downlink"] for receipt in receipts if receipt.get("taken_over")]
    done = frames.runs(receipts).reset_index()[["downlink", "run"]]
    files = frames.event_files(receipts).reset_index()[
        ["downlink", "run", "name", "events", "begin_met", "end_met"]
    ]
    done = done.merge(files, "left")
    done = done.rename(columns={"name": "what", "begin_met": "begin", "end_met": "end"})[COLUMNS].assign(
        outstanding=False
    )
    none, legacy = done["what"].isna(), done["downlink"].isin(taken_over)
    done.loc[none, "what"] = legacy[none].map({True: TAKEN_OVER, False: "nothing delivered"})
    done.loc[none & ~legacy, "events"] = 0
    announced = pd.DataFrame(_announced(settings), columns=COLUMNS).assign(outstanding=True)
    if when is not None:
        has_it = (done["begin"] <= when) & (when < done["end"])
        done = done[has_it | (none & legacy & (done["run"] == last))]
        announced = announced[(announced["begin"] <= when) & (when <= announced["end"])]
    spans = announced.groupby(["downlink", "run", "what", "outstanding"], as_index=False)
    announced = spans.agg({"begin": "min", "end": "max"})
    found = pd.concat([part for part in (done, announced) if len(part)] or [done])
    found = found[found["run"].isin(runs)] if runs else found
    found = found.sort_values(["begin", "downlink", "what"], na_position="first", ignore_index=True)
    return found.reindex(columns=[*COLUMNS, "outstanding"]).astype({"events": "Int64"})


def _announced(settings: Settings) -> Iterator[tuple[str, str, float, float, None, str]]:
    """Yield the spans in RetDefs of outstanding chunks."""
    for each in outstanding_chunks(Plan(settings)):
        for span in each.retdef.spans:
            begin, end = met_of.unix_to_met(span.begin), met_of.unix_to_met(span.end)
            yield each.downlink, each.retdef.run, begin, end, None, f"chunk {each.chunk}"
