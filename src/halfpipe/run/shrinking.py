"""Deliveries that would shrink: they are refused unless a person accepts the loss."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import HalfPipeError, Remedy, StateError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.decision import LEAST_IN_A_FILE
from halfpipe.run.deliveries import Delivery, EventFile, LegacySpan
from halfpipe.run.merged_index import ChunkProducts, MergedIndex

Lost = Mapping[EventFile | LegacySpan, int]  # events by recorded file


class ShrunkError(StateError):
    """A downlink would deliver fewer events of a run than Level-1 may have of it."""

    code = "shrunk"


def lost(before: Delivery, sequence: NDArray[np.uint64]) -> dict[EventFile | LegacySpan, int]:
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
        Files, or spans of the legacy, that would lose events, and how many. A span whose merged index is gone is not
        included. A lone event does not count, because Level-1 refuses it.
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
    work: Path, run: RunId, downlink: DownlinkId, products: Sequence[ChunkProducts]
) -> list[str]:
    """Return the chunks whose products are gone, or smaller than when the downlink was last merged."""
    try:
        before = MergedIndex.read(work, run, downlink).chunks
    except HalfPipeError:
        return []
    sizes = {name: size for chunk in products for name, size in chunk.files.items()}
    return [
        chunk.chunk
        for chunk in before
        if any(sizes.get(name, 0) < size for name, size in chunk.files.items())
    ]


def refusal(
    run: RunId,
    downlink: DownlinkId,
    before: Delivery,
    files: Lost,
    chunks: Sequence[str],
    missing: Sequence[str],
) -> str:
    """Return a message on the events of a run that would be lost, and where."""
    where = (
        f"the decoder's output for chunk {', '.join(chunks)} is smaller than before or gone"
        if chunks
        else "no chunk of this downlink has become smaller"
    )
    if missing:
        where += f"; not in the merge: {'; '.join(missing)}"
    first, last = min(file.sequences[0] for file in files), max(file.sequences[1] for file in files)
    return (
        f"run {run} ({run.l1}) of downlink {downlink} would lose {sum(files.values())} of {before.events} delivered "
        f"events between sequences {first} and {last}, which Level-1 may have; {where}. Refused: records, stage and "
        "hand-off were not changed."
    )


def how_to_go_on(run: str, downlink: DownlinkId, again: str) -> Remedy:
    """Return what to do after a refusal; the option `again` makes Snakemake process the downlink again."""
    return Remedy(
        f"snakemake dl={downlink} {again}",
        f"snakemake dl={downlink}",
        first="Restore the input (level-0, RetDefs) and use the first command; or accept the loss in the config, "
        f'shrink: {{accept: [{{dl: "{downlink}", run: "{run}", reason: "..."}}]}}, and use the second',
        hands_off=True,
    )
