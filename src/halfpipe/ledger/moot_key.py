"""The one source of a run's MOOT key and alias: `moot.file`, or else what the ledger's tables map."""

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import LedgerError, StateError
from halfpipe.ids import RunId, RunKind
from halfpipe.run.moot_keys import UNSET, Moot, first_datagram, moot_of
from halfpipe.settings import Settings


def of_run(settings: Settings, run: RunId, datagrams: NDArray[np.void]) -> Moot:
    """Return the key and alias that the event files and texts of a run have; `UNSET` if nobody knows.

    Parameters
    ----------
    settings, run
        The settings and the run.
    datagrams
        All that are known of the run (dtype `halfpipe.formats.idx.DATAGRAM`). The ledger is asked by the run's
        kind, and the time and ground id of its first datagram; without any it is not asked.

    Raises
    ------
    ConfigError, FormatError
        If `moot.file` cannot be read, or gives the run two keys.
    LedgerError
        If `moot.mapping` is true and the ledger cannot be asked, has no tables or a key that is none, or the first
        datagram no time: the key must not depend on that.
    """
    moot = moot_of(run, settings.moot.file)
    if moot != UNSET or not settings.moot.mapping or not len(datagrams):
        return moot
    # Only here: the database's library takes as long to load as all else that a job does at its start.
    from halfpipe.ledger.database import Ledger  # noqa: PLC0415
    from halfpipe.ledger.mapping import UNKNOWN, look_up  # noqa: PLC0415
    from halfpipe.ledger.tables import time_of  # noqa: PLC0415

    ledger, first = Ledger.of(settings), first_datagram(datagrams)
    kind = RunKind.of(np.unique(datagrams["apid"]).tolist())
    try:
        start, ground_id = time_of(first["utc"]), int(first["groundid"])
        found = ledger.read(lambda connection: look_up(connection, run, kind, ground_id, start))
    except (LedgerError, StateError, OverflowError, ValueError, OSError) as error:
        raise LedgerError(
            f"run {run} ({run.l1}): its MOOT key cannot be looked up: {error} Nothing of it was delivered, so "
            "that no event file gets another key. To go on without the database, set moot.mapping to false, or put "
            "a line of the run into moot.file."
        ) from error
    return UNSET if found == UNKNOWN else found
