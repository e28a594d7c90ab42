"""The one source of a run's MOOT key and alias: `moot.file`, or else the mapping tables in the ledger's database."""

import numpy as np

from halfpipe.errors import LedgerError, StateError
from halfpipe.formats.idx import Datagrams
from halfpipe.ids import RunId, RunKind
from halfpipe.ledger.moot_file import UNSET, first_datagram, moot_of
from halfpipe.settings import Settings
from halfpipe.state.deliveries import MootKey


def of_run(settings: Settings, run: RunId, datagrams: Datagrams) -> MootKey:
    """Return key and alias for the event files and texts of a run; `UNSET` if they are unknown.

    Parameters
    ----------
    settings, run
        The settings and the run.
    datagrams
        All known datagrams of the run. The mapping depends on the run's kind,
        and on the time and ground id of its first datagram. Without datagrams the key is not looked up.

    Raises
    ------
    ConfigError, FormatError
        If `moot.file` cannot be read, or has two keys for the run.
    LedgerError
        If `moot.mapping` is true and the tables cannot be read or have a bad key, or the first datagram has a bad
        time. The key must not depend on whether the database is up.
    """
    moot = moot_of(run, settings.moot.file)
    if moot != UNSET or not settings.moot.mapping or not len(datagrams):
        return moot
    # Imported here, because SQLAlchemy takes as long to load as everything else at a job's start.
    from halfpipe.ledger.database import Ledger  # noqa: PLC0415
    from halfpipe.ledger.mapping import UNKNOWN, look_up  # noqa: PLC0415
    from halfpipe.ledger.tables import time_of  # noqa: PLC0415

    ledger = Ledger.of(settings)
    first = first_datagram(datagrams)
    kind = RunKind.of(np.unique(datagrams.apid).tolist())
    try:
        start = time_of(datagrams.utc[first])
        ground_id = int(datagrams.groundid[first])
        found = ledger.read(lambda connection: look_up(connection, run, kind, ground_id, start))
    except (LedgerError, StateError, OverflowError, ValueError, OSError) as error:
        raise LedgerError(
            f"run {run} ({run.l1}): cannot look up its MOOT key: {error} The run was not delivered, because a "
            "file could get the wrong key. To continue without the database, set moot.mapping to false, or name the "
            "run in moot.file."
        ) from error
    return UNSET if found == UNKNOWN else found
