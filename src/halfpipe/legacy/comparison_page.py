"""What was found of downlinks as a page of the board, which the board points to."""

import time
from collections.abc import Sequence
from pathlib import Path

from halfpipe import paths
from halfpipe.files.durable import write_bytes
from halfpipe.legacy.comparison import Compared
from halfpipe.pages.board_pages import page
from halfpipe.settings import Settings


def write_page(
    settings: Settings, found: Sequence[Compared], failed: Sequence[str], other: Path, home: Path
) -> Path:
    """Write the page into the directory of a board, and return its path.

    Parameters
    ----------
    found, failed
        What was found of each downlink, and what is to be said of those that could not be compared.
    other
        Where the other side lies.
    home
        The directory; it need not hold a board.

    Raises
    ------
    HalfPipeError
        If the page cannot be written.
    """
    path = home / paths.board_compared()
    values = {
        "found": sorted(found, key=lambda one: (-one.status, one.downlink)),
        "failed": failed,
        "other": other,
        "has_page": {one.downlink for one in found if (home / paths.board_page(one.downlink)).exists()},
        "has_board": (home / paths.board()).exists(),
        "unlike": sum(bool(one.unexplained) for one in found) + len(failed),
        "same": sum(not one.status for one in found),
    }
    content = page("compared.html", settings, time.time(), values)
    write_bytes(path, content, lasting=False)
    return path
