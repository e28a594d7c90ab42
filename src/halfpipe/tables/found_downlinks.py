"""Which downlink has this time, or this run: from receipts, and from the RetDefs of what is outstanding."""

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
TAKEN_OVER = "taken over: times and files are not known here"
COLUMNS = ["downlink", "run", "begin", "end", "events", "what"]


def find(
    settings: Settings,
    when: float | None,
    runs: Collection[RunId],
    failed: Callable[[HalfPipeError], object],
) -> pd.DataFrame:
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

    Returns
    -------
    DataFrame
        A row for each event file, or chunk that is ``outstanding``: then ``what`` names it, and nobody knows its
        ``events``. ``begin`` and ``end`` are its times, MET. Of a run that a downlink delivers nothing of there is one
        row without times; one that was taken over by its spans only is found by a time if no other run began between
        its start and that.

    Notes
    -----
    Only the receipts of downlinks that brought something of these runs are read; for a time, of runs that began in
    the week before it: a run of the LAT lasts an orbit or a few.
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
    receipts = frames.receipts(work, there, failed)
    taken_over = [receipt["downlink"] for receipt in receipts if receipt.get("taken_over")]
    done = frames.runs(receipts)[["downlink", "run"]].merge(frames.files(receipts), "left")
    done = done.rename(columns={"name": "what"})[COLUMNS].assign(outstanding=False)
    none, legacy = done["what"].isna(), done["downlink"].isin(taken_over)
    done.loc[none, "what"] = legacy[none].map({True: TAKEN_OVER, False: "nothing delivered"})
    done.loc[none & ~legacy, "events"] = 0
    announced = pd.DataFrame(_announced(settings), columns=COLUMNS).assign(outstanding=True)
    if when is not None:
        # The seconds of an event are whole: it is at any time until the next.
        has_it = (done["begin"] <= when) & (when < done["end"] + 1)
        done = done[has_it | (none & legacy & (done["run"] == last))]
        announced = announced[(announced["begin"] <= when) & (when <= announced["end"])]
    spans = announced.groupby(["downlink", "run", "what", "outstanding"], as_index=False)
    announced = spans.agg({"begin": "min", "end": "max"})
    found = pd.concat([part for part in (done, announced) if len(part)] or [done])
    found = found[found["run"].isin(runs)] if runs else found
    found = found.sort_values(["begin", "downlink", "what"], na_position="first", ignore_index=True)
    return found.reindex(columns=[*COLUMNS, "outstanding"]).astype({"events": "Int64"})


def _announced(settings: Settings) -> Iterator[tuple[str, str, float, float, None, str]]:
    """Yield the spans that RetDefs of outstanding chunks announce."""
    for each in outstanding_chunks(Plan(settings)):
        for span in each.retdef.spans:
            begin, end = met_of.unix_to_met(span.begin), met_of.unix_to_met(span.end)
            yield each.downlink, each.retdef.run, begin, end, None, f"chunk {each.chunk}"
