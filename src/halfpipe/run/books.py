"""The books of a run as the last merge closed them, and whether they still stand.

They are in the manifests. Manifests say of which state of the run their books are, so books of another state are never
taken for the present ones. No arrays are read here.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Books
from halfpipe.run.deliveries import DeliveryHistory
from halfpipe.run.downlinks_of_run import begun_downlinks
from halfpipe.settings import Settings

LONGEST = 200  # bytes of the first line of a merged index


def state_of(settings: Settings, run: RunId, recorded: DeliveryHistory, *, given_up: bool) -> str:
    """Return the checksum of everything by which the books of a run are made, as short as a person compares it.

    That are the merged index of each downlink without ignored chunks, the deliveries, whether the run is abandoned, and
    the settings of merges.
    """
    work = settings.paths.work
    indexes = [
        (dl, _head(work / paths.datagrams(run, dl)), sorted(settings.ignored(dl)))
        for dl in begun_downlinks(work, run)
    ]
    delivered = [(dl, recorded.seal(dl), recorded.closed(dl)) for dl, _ in sorted(recorded.latest().items())]
    limits = (settings.merge.min_epus, settings.merge.min_events, settings.retire.deliver_orphans)
    state = [[each for each in indexes if each[1]], delivered, bool(given_up), limits]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]


def _head(index: Path) -> str:
    """Return the checksum in the first line of a merged index; empty if there is none."""
    try:
        with index.open("rb") as file:
            return file.readline(LONGEST).decode("ascii", "replace")
    except OSError:
        return ""


def of_entry(entry: Mapping[str, Any]) -> Books:
    """Return the books in the entry of a run, of a manifest or a receipt."""
    return Books(
        known=entry["known"],
        delivered=entry["delivered"] + entry["elsewhere"],
        waiting=entry["orphans"] - entry["withheld"],
        withheld=entry["withheld"],
        late=entry["late"],
        closed=entry.get("closed_events", 0),
        refused=entry["held_events"],
    )


def as_entry(books: Books, delivered: int) -> dict[str, int]:
    """Return the books of a run as they are in its entry, for a downlink that `delivered` so many of the events."""
    return {
        "known": books.known,
        "delivered": delivered,
        "elsewhere": books.delivered - delivered,
        "orphans": books.waiting + books.withheld,
        "withheld": books.withheld,
        "late": books.late,
        "closed_events": books.closed,
        "held_events": books.refused,
    }


def counted_at(work: Path, run: RunId) -> DownlinkId | None:
    """Return the downlink at which the waiting events of a run are counted, the last that contains it.

    So a sum over downlinks counts each event once.
    """
    there = [dl for dl in begun_downlinks(work, run) if (work / paths.datagrams(run, dl)).exists()]
    return max(there, default=None)
