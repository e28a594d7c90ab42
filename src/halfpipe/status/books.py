"""The books of runs and downlinks as they stand: the one source of every number of events on a screen."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files import leases
from halfpipe.files.json_files import read_json
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Books
from halfpipe.run.books import of_entry, state_of
from halfpipe.run.deliveries import DeliveryHistory
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.settings import Settings


def books_now(
    settings: Settings,
    run: RunId,
    recorded: DeliveryHistory,
    *,
    given_up: bool,
    entries: Iterable[Mapping[str, Any]] = (),
) -> Books:
    """Return the books of a run as it stands.

    The last merge of the run has closed them. If something has changed since, as after a job that failed between its
    merge and its delivery, they are closed again here, from the rows of all events. Of a run that is being merged right
    now, and of rows that cannot be read, the books are those of the last merge.

    Parameters
    ----------
    settings, run
        The settings and the run.
    recorded
        Its deliveries.
    given_up
        Whether it is abandoned.
    entries
        Entries of the run that were read already, from receipts or manifests.
    """
    work, state = settings.paths.work, state_of(settings, run, recorded, given_up=given_up)
    for entry in entries:
        if entry.get("state") == state:
            return of_entry(entry)
    manifests = dict(_manifests(work, run))
    for manifest in reversed(manifests.values()):
        if manifest.get("state") == state:
            return of_entry(manifest)
    last = next(reversed(manifests.values()), None)
    whole = manifests.keys() >= {*known_downlinks(work, run)}
    by_legacy = whole and all("taken_over" in manifest for manifest in manifests.values())
    if not by_legacy and not _is_merged_now(work, run):
        from halfpipe.status.known import Known  # noqa: PLC0415 - arrays, which most accounts do without

        with suppress(HalfPipeError):
            held = any(manifest["held"] for manifest in manifests.values())
            return Known(settings, run, is_given_up=given_up).books(is_refused=held)
    return of_entry(last) if last is not None else Books()


def _manifests(work: Path, run: RunId) -> Iterator[tuple[DownlinkId, Mapping[str, Any]]]:
    for downlink in known_downlinks(work, run):
        with suppress(HalfPipeError):  # a missing or damaged one is a cause of its own
            yield downlink, read_json(work / paths.manifest(run, downlink))


def _is_merged_now(work: Path, run: RunId) -> bool:
    found = leases.look(work, paths.run_lease(run))
    return found is not None and found.lives
