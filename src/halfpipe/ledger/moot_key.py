"""The one source of a run's MOOT key and alias: `moot.file`, or else what the ledger's tables map."""

import numpy as np
from numpy.typing import NDArray

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
        If `moot.mapping` is true and the ledger cannot be asked: the key must not depend on that.
    StateError
        If the first datagram has no time that can be one.
    """
    moot = moot_of(run, settings.moot.file)
    if moot != UNSET or not settings.moot.mapping or settings.ledger.url is None or not len(datagrams):
        return moot
    # Only here: the database's library takes as long to load as all else that a job does at its start.
    from halfpipe.ledger.database import Ledger  # noqa: PLC0415
    from halfpipe.ledger.mapping import mapped  # noqa: PLC0415

    first = first_datagram(datagrams)
    kind = RunKind.of(np.unique(datagrams["apid"]).tolist())
    found = mapped(Ledger.of(settings), run, kind, float(first["utc"]), int(first["groundid"]))
    return found or UNSET
