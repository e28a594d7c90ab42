"""What is announced and not processed yet: the RetDefs of outstanding chunks."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from halfpipe.errors import HalfPipeError
from halfpipe.formats.retdef import RetDef, read_retdef
from halfpipe.ids import ChunkId, DownlinkId
from halfpipe.planning.plan import Plan
from halfpipe.storage import paths


@dataclass(frozen=True)
class Announced:
    """A chunk that is outstanding, and what its RetDef says that it will bring."""

    downlink: DownlinkId
    chunk: ChunkId
    retdef: RetDef


def outstanding_chunks(plan: Plan) -> Iterator[Announced]:
    """Yield the chunks that are outstanding and have a good RetDef, in order.

    They are those of downlinks without a receipt, and those that came after it. A RetDef that cannot be read
    announces nothing: `halfpipe status` names it.
    """
    with os.scandir(plan.work) as entries:
        begun = {DownlinkId(entry.name) for entry in entries if DownlinkId.matches(entry.name)}
    for downlink in sorted(begun | plan.on_search_path()[0]):
        of = plan.of(downlink)
        handed_off = (plan.work / paths.receipt(downlink)).exists()
        for chunk in of.new if handed_off else of.chunks:
            if chunk in of.retdefs:
                with suppress(HalfPipeError):
                    yield Announced(downlink, chunk, read_retdef(of.retdefs[chunk]))
