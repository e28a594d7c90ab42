"""Whether the books in the latest deliveries of a run are current. No arrays are read here.

A delivery contains a checksum of everything that its books depend on, so old books are never mistaken for current ones.
"""

import hashlib
from contextlib import suppress
from pathlib import Path

from halfpipe import paths
from halfpipe.decisions import Decisions
from halfpipe.files.reading import read_whole
from halfpipe.ids import DownlinkId, RunId
from halfpipe.settings import Settings
from halfpipe.state.deliveries import DeliveryHistory
from halfpipe.state.downlinks_of_run import begun_downlinks, known_downlinks

LONGEST = 200  # bytes of the first line of a merged index


def state_of(settings: Settings, decisions: Decisions, run: RunId, recorded: DeliveryHistory) -> str:
    """Return a short checksum of everything that determines the books of a run.

    These are the merged index and the left-out chunks of each downlink, the deliveries, whether the run is abandoned,
    and the merge settings.
    """
    work = settings.paths.work
    earlier = recorded.earlier()
    indexes = [
        (str(dl), head, tuple(sorted(decisions.left_out(dl))))
        for dl in begun_downlinks(work, run)
        if (head := _head(work, run, dl))
    ]
    delivered = [
        (
            str(dl),
            delivery.spans,
            sorted((delivery.counts or {}).items()),
            bool(delivery.refused),
            recorded.closed(dl) if dl in earlier else (),
        )
        for dl, delivery in sorted(recorded.latest().items())
    ]
    limits = (settings.merge.min_epus, settings.merge.min_events, settings.retire.deliver_waiting)
    # Called for all runs of a week. JSON would take five times as long.
    return hashlib.sha256(
        repr((indexes, delivered, decisions.is_abandoned(run), limits)).encode()
    ).hexdigest()[:16]


def _head(work: Path, run: RunId, downlink: DownlinkId) -> bytes:
    """Return the checksum in the first line of a merged index; empty if there is none."""
    with suppress(OSError):
        return read_whole(f"{work}/{paths.datagrams(run, downlink)}", LONGEST).partition(b"\n")[0]
    return b""


def counted_at(work: Path, run: RunId) -> DownlinkId | None:
    """Return the last downlink that contains a run.

    The waiting events of the run are counted there, so that a sum over downlinks counts each event once.
    """
    return max(known_downlinks(work, run), default=None)
