"""Which runs that an operator has abandoned are Incomplete: those of which nothing is left to be delivered."""

from pathlib import Path

from halfpipe import paths
from halfpipe.files.json_files import read_json
from halfpipe.ids import RunId
from halfpipe.merge.decision import listed
from halfpipe.run import force_list
from halfpipe.run.datagrams import known_datagrams
from halfpipe.run.deliveries import Delivery
from halfpipe.run.downlinks_of_run import known_downlinks


def is_given_up(work: Path, run: RunId) -> bool:
    """Tell whether the ledger may call a run Incomplete, by the operator's list as it is now.

    Level-1 retires a run that is. So a delivery must have been made under the file in the list, and it must
    have known every datagram that any downlink has brought by now: where the file was removed, a downlink
    came, and the file is put back, the orphans of that downlink still wait for the next delivery. The list is
    read each time: a file that is removed during a rebuild, or while the database is down, counts.

    Raises
    ------
    HalfPipeError
        If the list, a manifest or a datagram part cannot be read.
    """
    forced = force_list.read(work)
    if run not in forced.runs:
        return False
    rows = known_datagrams(work, run).rows
    knew_all = [
        dl
        for dl in known_downlinks(work, run)
        if (manifest := work / paths.manifest(run, dl)).exists()
        and listed(rows, Delivery.of(read_json(manifest)).datagrams).all()
    ]
    return force_list.in_effect(work, run, knew_all, forced)
