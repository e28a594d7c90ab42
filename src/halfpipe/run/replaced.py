"""Products of chunks that were decoded anew, kept until their downlink is handed off.

A merge that shrinks is refused, and what the downlink brought before stays known to others. They may still need the
records of that.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from halfpipe import paths
from halfpipe.decode.chunk_products import PRODUCT
from halfpipe.files import leases
from halfpipe.ids import ChunkId, DownlinkId, RunId


@contextmanager
def nobody_reads(work: Path, downlink: DownlinkId, chunk: ChunkId, say: leases.Say) -> Iterator[None]:
    """Hold the leases of the runs whose merges may read what lies there of `chunk`, while it is replaced.

    Where nothing lies, or nobody knows what the downlink brings of its run, nobody is waited for.
    """
    products = map(PRODUCT.fullmatch, os.listdir(work / paths.chunks(downlink)))  # noqa: PTH208
    runs = {RunId(match["run"]) for match in products if match and match["chunk"] == chunk}
    with ExitStack() as held:
        # In one order everywhere, so that two of these never wait for each other.
        for run in sorted(runs):
            if (work / paths.datagrams(run, downlink)).exists():
                held.enter_context(leases.run_lease(work, run, say))
        yield


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
