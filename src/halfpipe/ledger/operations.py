"""What is done with one downlink in the ledger: under its lock, with what vouches for it and the news to MOOT."""

from typing import IO

from halfpipe import paths
from halfpipe.files import leases
from halfpipe.files.durable import remove_file
from halfpipe.files.json_files import write_json
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger import load, moot_update
from halfpipe.ledger.database import Ledger
from halfpipe.settings import Settings


def load_downlink(settings: Settings, downlink: DownlinkId, output: IO[str]) -> None:
    """Load a downlink, tell the MOOT database of its runs, and write last that it is in the ledger.

    Parameters
    ----------
    settings, downlink
        The settings, and a downlink that was handed off.
    output
        Takes what the command `moot.update` prints.

    Raises
    ------
    LockedError
        If somebody else is at work on the downlink.
    ConfigError, MissingInputError, StateError, LedgerError
        As `Ledger.of` and `halfpipe.ledger.load.load`.
    """
    ledger, marker = Ledger.of(settings), settings.paths.work / paths.loaded(downlink)
    with leases.downlink_job(settings.paths.work, downlink):
        remove_file(marker)
        entry = load.load(ledger, settings, downlink)
        if settings.moot.update is not None:
            moot_update.send(ledger, settings.moot.update, output, sorted(entry.parts))
        write_json(marker, entry.as_json())


def remove_downlink(ledger: Ledger, settings: Settings, downlink: DownlinkId) -> list[RunId]:
    """Take a downlink out of the ledger; its files stay, and loading it again is outstanding.

    Returns
    -------
    list
        The runs that it had.

    Raises
    ------
    HalfPipeError
        As `load_downlink`.
    """
    with leases.downlink_job(settings.paths.work, downlink):
        remove_file(settings.paths.work / paths.loaded(downlink))
        return load.remove(ledger, settings, [downlink])
