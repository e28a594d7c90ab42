"""Runs that are not complete, and their missing data; an operator may have to abandon them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files.json_files import read_json
from halfpipe.formats import met
from halfpipe.ids import RunId, RunKind
from halfpipe.merge.undelivered import missing_of_run
from halfpipe.run.downlinks_of_run import known_downlinks, refuse_unknown
from halfpipe.run.merged_index import known_datagrams
from halfpipe.status.survey import Survey

DAY = 86400
NOTHING = "nothing: its next delivery completes it"


def waiting_runs(
    survey: Survey,
    runs: Iterable[RunId],
    problems: dict[Any, HalfPipeError],
) -> Iterator[tuple[Any, ...]]:
    """Yield the runs among `runs` that are not complete.

    Parameters
    ----------
    survey
        The survey, which has the present time.
    runs
        The runs.
    problems
        Gets the errors of runs that are left out, because they are unknown or damaged.

    Yields
    ------
    tuple
        The values of `halfpipe.tables.columns.WAITING`, with times in MET.
    """
    for run in runs:
        try:
            yield from _row(survey, run)
        except HalfPipeError as error:
            problems[run] = error


def _row(survey: Survey, run: RunId) -> Iterator[tuple[Any, ...]]:
    """Yield the row of a run, unless the run is complete."""
    settings, work = survey.settings, survey.work
    age = (survey.now - met.met_to_unix(run.met)) / DAY
    refuse_unknown(work, run)
    downlinks = known_downlinks(work, run)
    # Most runs of a mission are complete, which small files show. These may have a chunk that is ignored since.
    manifests = [work / paths.manifest(run, dl) for dl in downlinks]
    if not any(settings.ignored(dl) for dl in downlinks) and (not downlinks or _recorded_complete(manifests)):
        return
    segments, now = known_datagrams(settings, run).segments(), survey.books(run)
    missing = "; ".join(missing_of_run(segments, settings.merge.min_epus))
    if missing or survey.has_waiting(run):
        yield (
            *(run, run.l1, str(RunKind.of(segments)), run.met, run.met, round(age, 1)),
            "abandoned" if run in survey.abandoned else "open",
            *(now.books.all_waiting if now.books else None, now.old or None),
            *(len(downlinks), downlinks[-1], missing or NOTHING),
        )


def _recorded_complete(manifests: Sequence[Path]) -> bool:
    """Tell whether a manifest shows the run as complete, and no other one has more datagrams."""
    if not all(path.exists() for path in manifests):
        return False
    read = [read_json(path) for path in manifests]
    if any(one["refused"] for one in read):
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
