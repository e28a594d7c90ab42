"""Runs that are not complete, and their missing data; an operator may have to abandon them."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from halfpipe import paths
from halfpipe.files.json_files import read_json
from halfpipe.formats import met
from halfpipe.ids import RunId, RunKind
from halfpipe.merge.undelivered import missing_of_run
from halfpipe.run import force_list
from halfpipe.run.downlinks_of_run import known_downlinks, refuse_unknown
from halfpipe.run.merged_index import known_datagrams
from halfpipe.settings import Settings

DAY = 86400
NOTHING = "nothing: its next delivery completes it"
COLUMNS = ["run", "l1_run", "kind", "started", "met", "days", "state", "downlinks", "last", "missing"]


def waiting(
    settings: Settings,
    runs: Iterable[RunId],
    days: float,
    now: float,
    has_waiting: Callable[[RunId], bool] = lambda _: False,
) -> pd.DataFrame:
    """Return the runs among `runs` that are not complete and started more than `days` days before `now`, Unix seconds.

    `has_waiting` tells whether events of a run wait. It is called for runs that lack no data.

    Returns
    -------
    DataFrame
        One row per run: when it ``started`` (UTC, MET, and days ago), its ``state`` (``open`` or ``abandoned``), the
        number of ``downlinks`` that contain it and the ``last`` of them, and the ``missing`` data in words.

    Raises
    ------
    MissingInputError
        If a run is unknown.
    FormatError
        If a merged index of a run is damaged.
    """
    work, min_epus = settings.paths.work, settings.merge.min_epus
    given_up = force_list.read(work).runs
    rows = []
    for run in runs:
        started = met.met_to_unix(run.met)
        age = (now - started) / DAY
        if age <= days:
            continue
        refuse_unknown(work, run)
        downlinks = known_downlinks(work, run)
        if not downlinks:
            continue
        # Most runs of a mission are complete, as small files show, unless a chunk was ignored later.
        is_ignored = any(settings.ignored(dl) for dl in downlinks)
        if not is_ignored and _recorded_complete([work / paths.manifest(run, dl) for dl in downlinks]):
            continue
        segments = known_datagrams(settings, run).segments()
        missing = "; ".join(missing_of_run(segments, min_epus)) or (NOTHING if has_waiting(run) else "")
        if not missing:
            continue
        state = "abandoned" if run in given_up else "open"
        when = (met.utc_datetime(started), run.met, round(age, 1))
        rows.append((run, run.l1, RunKind.of(segments), *when, state, len(downlinks), downlinks[-1], missing))
    return pd.DataFrame(rows, columns=COLUMNS)


def _recorded_complete(manifests: Sequence[Path]) -> bool:
    """Tell whether a manifest shows the run as complete, and no other one has more datagrams."""
    if not all(path.exists() for path in manifests):
        return False
    read = [read_json(path) for path in manifests]
    if any(one["held"] for one in read):
        return False  # a refused run: the manifest has the datagrams of the delivery before
    listed = {
        (apid, first, last)
        for one in read
        for apid, ranges in one["datagrams"].items()
        for first, last in ranges
    }
    return any(
        one["complete"]
        and all(
            any(a <= first and last <= b for a, b in one["datagrams"].get(apid, ()))
            for apid, first, last in listed
        )
        for one in read
    )
