"""Which runs that an operator has given up are Incomplete: those of which nothing is left to be delivered."""

import logging
from collections.abc import Callable
from pathlib import Path

from halfpipe import forced, paths
from halfpipe.files import read_json
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge import index
from halfpipe.merge.deliver import listed
from halfpipe.merge.journal import Delivery
from halfpipe.merge.settle import KnownDatagrams

log = logging.getLogger(__name__)


def given_up(work: Path) -> Callable[[RunId], bool]:
    """Return what tells whether the ledger may call a run Incomplete, by the operator's list as it is then.

    Level-1 retires a run that is. So a delivery must have been made under the file in the list, and it must
    have known every datagram that any downlink has brought by now: where the file was removed, a downlink
    came, and the file is put back, the orphans of that downlink still wait for the next delivery.

    Raises
    ------
    HalfPipeError
        If the list cannot be read; what is returned, if that, a manifest or a datagram part cannot be.
    """
    for complaint in forced.read(work).refused:
        log.warning("%s", complaint)

    def tell(run: RunId) -> bool:
        # Read each time: a file that is removed during a rebuild, or while the database is down, counts.
        list_ = forced.read(work)
        if run not in list_.runs:
            return False
        downlinks = [
            DownlinkId(place.name)
            for place in sorted((work / paths.run(run)).iterdir())
            if DownlinkId.matches(place.name) and (work / paths.datagrams(run, place.name)).exists()
        ]
        rows = KnownDatagrams.together(index.load_datagrams(work, run, dl) for dl in downlinks).rows
        knew_all = [
            dl
            for dl in downlinks
            if (manifest := work / paths.manifest(run, dl)).exists()
            and listed(rows, Delivery.of(read_json(manifest)).datagrams).all()
        ]
        return forced.in_effect(work, run, knew_all, list_)

    return tell
