"""What is announced and not processed yet: the RetDefs of outstanding chunks."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from halfpipe import paths
from halfpipe.downlink.plan import Plan
from halfpipe.errors import HalfPipeError
from halfpipe.files.reading import changed, modified
from halfpipe.formats.retdef import RetDef, read_retdef
from halfpipe.ids import ChunkId, DownlinkId

CLOCKS_APART = 60.0  # seconds that the clocks of two file systems may differ by


@dataclass(frozen=True)
class Announced:
    """A chunk that is outstanding, and what its RetDef says that it will bring."""

    downlink: DownlinkId
    chunk: ChunkId
    retdef: RetDef


def outstanding_chunks(plan: Plan) -> Iterator[Announced]:
    """Yield the chunks that are outstanding and have a good RetDef, in order.

    They are those of downlinks without a receipt, and those that came after it: then the directory that they lie in
    has changed since. A RetDef that cannot be read announces nothing: `halfpipe status` names it.
    """
    with os.scandir(plan.work) as entries:
        begun = {DownlinkId(entry.name) for entry in entries if DownlinkId.matches(entry.name)}
    for downlink in sorted(begun | plan.on_search_path()[0]):
        handed_off = modified(f"{plan.work}/{paths.receipt(downlink)}")
        if handed_off is not None and not _came_since(plan, downlink, handed_off - CLOCKS_APART):
            continue
        of = plan.of(downlink)
        for chunk in of.chunks if handed_off is None else of.new:
            if chunk in of.retdefs:
                with suppress(HalfPipeError):
                    yield Announced(downlink, chunk, read_retdef(of.retdefs[chunk]))


def _came_since(plan: Plan, downlink: DownlinkId, when: float) -> bool:
    """Tell whether something came into one of a downlink's directories on the search path since Unix time `when`."""
    times = (changed(f"{home}/{downlink}") for home in plan.search)
    return any(each is not None and each >= when for each in times)
