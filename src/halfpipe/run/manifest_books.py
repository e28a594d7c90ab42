"""The books of a run in its manifests, and whether they are current.

A manifest contains the checksum of the run's state at that time, so old books are never mistaken for current ones. No
arrays are read here.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.files.reading import read_whole
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Books
from halfpipe.run.deliveries import DeliveryHistory
from halfpipe.run.downlinks_of_run import begun_downlinks, known_downlinks
from halfpipe.settings import Settings

LONGEST = 200  # bytes of the first line of a merged index


def state_of(settings: Settings, run: RunId, recorded: DeliveryHistory, *, abandoned: bool) -> str:
    """Return a short checksum of everything that determines the books of a run.

    These are the merged index and the ignored chunks of each downlink, the deliveries, whether the run is abandoned,
    and the merge settings.
    """
    work, earlier = settings.paths.work, recorded.earlier()
    indexes = [
        (str(dl), head, tuple(sorted(settings.ignored(dl))))
        for dl in begun_downlinks(work, run)
        if (head := _head(work, run, dl))
    ]
    delivered = [
        (str(dl), recorded.seal(dl), recorded.closed(dl) if dl in earlier else ())
        for dl in sorted(recorded.latest())
    ]
    limits = (settings.merge.min_epus, settings.merge.min_events, settings.retire.deliver_waiting)
    # Called for all runs of a week. JSON would take five times as long.
    return hashlib.sha256(repr((indexes, delivered, abandoned, limits)).encode()).hexdigest()[:16]


def _head(work: Path, run: RunId, downlink: DownlinkId) -> bytes:
    """Return the checksum in the first line of a merged index; empty if there is none."""
    with suppress(OSError):
        return read_whole(f"{work}/{paths.datagrams(run, downlink)}", LONGEST).partition(b"\n")[0]
    return b""


def of_entry(entry: Mapping[str, Any]) -> Books:
    """Return the books in the entry of a run in a manifest or a receipt."""
    return Books(
        known=entry["known"],
        delivered=entry["delivered"] + entry["elsewhere"],
        waiting=entry["waiting"] - entry["withheld"],
        withheld=entry["withheld"],
        late=entry["late"],
        closed=entry["closed_events"],
        refused=entry["refused_events"],
    )


def as_entry(books: Books, delivered: int) -> dict[str, int]:
    """Return the keys of the books in the entry of a run, for a downlink that `delivered` this number of events."""
    return {
        "known": books.known,
        "delivered": delivered,
        "elsewhere": books.delivered - delivered,
        "waiting": books.waiting + books.due + books.withheld,
        "withheld": books.withheld,
        "late": books.late,
        "closed_events": books.closed,
        "refused_events": books.refused,
    }


def counted_at(work: Path, run: RunId) -> DownlinkId | None:
    """Return the last downlink that contains a run.

    The waiting events of the run are counted there, so that a sum over downlinks counts each event once.
    """
    return max(known_downlinks(work, run), default=None)
