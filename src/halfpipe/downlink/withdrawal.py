"""The receipt goes before anything that it vouches for changes."""

from contextlib import suppress
from pathlib import Path

from halfpipe import paths
from halfpipe.files.advice import in_the_way
from halfpipe.files.durable import remove_file
from halfpipe.ids import DownlinkId


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


def forget(work: Path, product: str) -> None:
    """Remove what Snakemake has noted of a product, if that can be done."""
    with suppress(OSError):
        (work / paths.record_of_snakemake(product)).unlink()
