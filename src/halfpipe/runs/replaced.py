"""Products of chunks that were decoded anew, kept until their downlink is handed off.

A merge that shrinks is refused, and what the downlink brought before stays known to others. They may still need the
records of that.
"""

import os
from contextlib import suppress
from pathlib import Path

from halfpipe.ids import ChunkId, DownlinkId
from halfpipe.storage import paths


def keep_replaced(work: Path, downlink: DownlinkId, chunk: ChunkId) -> None:
    """Keep the products of `chunk` by a second name before others take their place.

    Those that are kept already stay: they are the ones that others know of. What cannot be kept is no fault; it is
    decoded again where it is needed.
    """
    home, kept = work / paths.chunks(downlink), work / paths.replaced(downlink)
    for path in home.glob(f"*-{chunk}.*"):
        if path.suffix in {".evt", ".idx"}:
            with suppress(OSError):
                kept.mkdir(exist_ok=True)
                os.link(path, kept / path.name, follow_symlinks=False)  # what was taken over is a link
