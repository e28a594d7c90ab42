"""Deliveries that would shrink: they are refused unless a person accepts the loss."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import HalfPipeError, Remedy, StateError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.decision import LEAST_IN_A_FILE
from halfpipe.run.deliveries import CountedSpan, Delivery, EventFile
from halfpipe.run.merged_chunks import MergedChunk
from halfpipe.run.merged_index import MergedIndex
from halfpipe.run.run_state import KnownRun
from halfpipe.settings import reason_of


class ShrunkError(StateError):
    """A downlink would deliver fewer events of a run than Level-1 may have of it."""

    code = "shrunk"


def lost(before: Delivery, sequence: NDArray[np.uint64]) -> dict[EventFile | CountedSpan, int]:
    """Count the events of the delivery `before` that would not be delivered again, by recorded file.

    Counting by file prevents late events in one file from hiding a loss in another.

    Parameters
    ----------
    before
        The recorded delivery.
    sequence
        Sequences of the events that would be delivered now, in order.

    Returns
    -------
    dict
        Files, or spans without files here, that would lose events, and how many. A span whose number of events is
        unknown is not included. A lone event does not count, because Level-1 refuses it.
    """
    found = {}
    for span in before.spans:
        files = [piece for piece in before.pieces if span.first <= piece.sequences[0] <= span.last]
        if sum(file.events or 0 for file in files) < LEAST_IN_A_FILE:
            continue
        for file in files:
            first, last = (np.uint64(edge) for edge in file.sequences)
            now = int(np.searchsorted(sequence, last, "right") - np.searchsorted(sequence, first, "left"))
            if now < (file.events or 0):
                found[file] = (file.events or 0) - now
    return found


def smaller_chunks(
    work: Path, run: RunId, downlink: DownlinkId, products: Sequence[MergedChunk]
) -> list[str]:
    """Return the chunks whose products are gone, or smaller than when the downlink was last merged."""
    try:
        before = MergedIndex.read(work, run, downlink).chunks
    except HalfPipeError:
        return []
    sizes = {name: file.size for chunk in products for name, file in chunk.files.items()}
    return [
        chunk.chunk
        for chunk in before
        if any(sizes.get(name, 0) < file.size for name, file in chunk.files.items())
    ]


def refuse_loss(known: KnownRun, downlink: DownlinkId, before: Delivery, sequence: NDArray[np.uint64]) -> int:
    """Return how many events of the delivery `before` are lost; arguments as for `lost`.

    Raises
    ------
    ShrunkError
        If some are, and the config does not accept the loss.
    """
    run, settings = known.context.run, known.context.settings
    files = lost(before, sequence)
    loss = sum(files.values())
    if not loss or reason_of(settings.shrink.accept, downlink, run, loss) is not None:
        return loss
    chunks = smaller_chunks(known.context.work, run, downlink, known.indexes[downlink].chunks)
    where = (
        f"the decoder's output for chunk {', '.join(chunks)} is smaller than before or gone"
        if chunks
        else "no chunk of this downlink has become smaller"
    )
    if known.missing:
        where += f"; not in the merge: {'; '.join(known.missing)}"
    first, last = min(file.sequences[0] for file in files), max(file.sequences[1] for file in files)
    raise ShrunkError(
        f"run {run} ({run.l1}) of downlink {downlink} would lose {loss} of {before.events} delivered events between "
        f"sequences {first} and {last}, which Level-1 may have; {where}. Refused: records, stage and hand-off were not "
        "changed.",
        Remedy(
            f"snakemake dl={downlink} -R decode_chunk",
            f"snakemake dl={downlink}",
            first="Restore the input (level-0, RetDefs) and use the first command; or accept the loss in the config, "
            f'shrink: {{accept: [{{dl: "{downlink}", run: "{run}", events: {loss}, reason: "..."}}]}}, and use the '
            "second",
            hands_off=True,
        ),
    )
