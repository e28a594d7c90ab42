"""The current books of a run: the only source of the numbers of events on a screen."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files import leases
from halfpipe.files.json_files import read_json
from halfpipe.files.reading import modified
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Standing
from halfpipe.run import manifest_books
from halfpipe.run.deliveries import DeliveryHistory
from halfpipe.run.downlinks_of_run import begun_downlinks, known_downlinks
from halfpipe.run.receipt_file import last_hand_off
from halfpipe.settings import Settings


def books_now(
    settings: Settings,
    run: RunId,
    recorded: DeliveryHistory,
    *,
    abandoned: bool,
    entries: Iterable[Mapping[str, Any]] = (),
) -> Standing:
    """Return the current books of a run.

    Usually the run's last merge closed them. If the run changed later, for example because a job failed between merge
    and delivery, they are closed again here, from the rows of all events. If the rows cannot be read, or the run is
    being merged now, the books are those of the last merge, marked as old.

    Parameters
    ----------
    settings, run
        The settings and the run.
    recorded
        The deliveries of the run.
    abandoned
        Whether the run is abandoned.
    entries
        Entries of the run that were read already, from receipts or manifests.
    """
    work, state = settings.paths.work, manifest_books.state_of(settings, run, recorded, abandoned=abandoned)
    for entry in entries:
        if entry.get("state") == state:
            return Standing(manifest_books.of_entry(entry))
    manifests = dict(_manifests(work, run))
    for manifest in reversed(manifests.values()):
        if manifest.get("state") == state:
            return Standing(manifest_books.of_entry(manifest))
    whole = manifests.keys() >= {*known_downlinks(work, run)}
    if manifests and whole and all("taken_over" in manifest for manifest in manifests.values()):
        return Standing(manifest_books.of_entry(next(reversed(manifests.values()))))
    old = "it is being merged now"
    merging = leases.look(work, paths.run_lease(run))
    if merging is None or not merging.lives:
        from halfpipe.status.known import Known  # noqa: PLC0415 - arrays, which most accounts do without

        try:
            known = Known(settings, run, is_abandoned=abandoned)
            if not known.unread:
                refused = any(manifest["refused"] for manifest in manifests.values())
                return Standing(known.books(is_refused=refused))
            old = "; ".join(known.unread.values())
        except HalfPipeError as error:
            old = error.text.rstrip(".")
    last = _closed_last(work, run)
    return Standing(None if last is None else manifest_books.of_entry(last), old)


def _manifests(work: Path, run: RunId) -> Iterator[tuple[DownlinkId, Mapping[str, Any]]]:
    for downlink in known_downlinks(work, run):
        with suppress(HalfPipeError):  # a missing or damaged manifest is reported elsewhere
            yield downlink, read_json(work / paths.manifest(run, downlink))


def _closed_last(work: Path, run: RunId) -> Mapping[str, Any] | None:
    """Return the latest entry of a run. Snakemake deletes manifests, so hand-offs are searched, too."""
    found = [
        (modified(f"{work}/{paths.manifest(run, downlink)}") or 0.0, manifest)
        for downlink, manifest in _manifests(work, run)
    ]
    for downlink in begun_downlinks(work, run):
        with suppress(HalfPipeError):
            if last := last_hand_off(work, downlink, only_look=True):
                entries = (entry for entry in last.receipt["runs"] if entry["run"] == run)
                found += [(last.made or 0.0, entry) for entry in entries]
    return max(found, key=itemgetter(0))[1] if found else None
