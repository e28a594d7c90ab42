"""The receipt goes before anything that it vouches for changes."""

from pathlib import Path

from halfpipe.ids import DownlinkId
from halfpipe.storage import paths
from halfpipe.storage.advice import in_the_way
from halfpipe.storage.durable import remove_file


def withdraw(work: Path, downlink: DownlinkId) -> None:
    """Remove the receipt of `downlink` before anything that it vouches for changes; its copy stays.

    Flushed, for after a crash of the machine it must not be back over products that are gone. What says how it
    was submitted goes with it: of a hand-off without files that is that nothing was, and the next may have some.

    Raises
    ------
    HalfPipeError
        If it cannot be removed; says whose it is.
    """
    for path in (work / paths.submitted(downlink), work / paths.receipt(downlink)):
        try:
            remove_file(path)
        except OSError as error:
            raise in_the_way(path, error) from error
