"""What a downlink would deliver no more of what it had delivered: that is refused, unless a person accepts it."""

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

    code = "shrunk-refused"


def lost(before: Delivery, sequence: NDArray[np.uint64]) -> dict[EventFile | LegacySpan, int]:
    """Count by recorded file the events of the delivery `before` that are not delivered again.

    File by file, so that what is lost in one is not made up for by what came late in another.

    Parameters
    ----------
    before
        The delivery as it is recorded.
    sequence
        Sequences of the events that would be delivered now, in order.

    Returns
    -------
    dict
        Only files, or spans of the legacy, that lost some. A span whose merged index is gone is not judged. A lone
        event, which Level-1 refuses, is not missed.
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
    work: Path, run: RunId, downlink: DownlinkId, brought: Sequence[ChunkProducts]
) -> list[str]:
    """Return the chunks whose products are gone or smaller than when the downlink was merged before."""
    try:
        before = MergedIndex.read(work, run, downlink).chunks
    except HalfPipeError:
        return []
    sizes = {name: size for chunk in brought for name, size in chunk.files.items()}
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
    """Say what would be lost of a run, and where."""
    where = (
        f"the decoder's products of chunk {', '.join(chunks)} are smaller than before or gone"
        if chunks
        else "no chunk of the downlink itself has become smaller"
    )
    if missing:
        where += f"; merged without: {'; '.join(missing)}"
    first, last = min(file.sequences[0] for file in files), max(file.sequences[1] for file in files)
    return (
        f"run {run} ({run.l1}) of downlink {downlink} would lose {sum(files.values())} of {before.events} delivered "
        f"events, which Level-1 may have, between sequences {first} and {last}; {where}. Refused: nothing that is "
        "recorded, staged or handed off was changed."
    )


def how_to_go_on(run: str, downlink: DownlinkId, again: str) -> Remedy:
    """Say what to do about it; the option `again` makes Snakemake process it again."""
    return Remedy(
        f"snakemake dl={downlink} {again}",
        f"snakemake dl={downlink}",
        first="Bring the input back (level-0, RetDefs) and process it again; or, for the second command, accept the "
        f'loss in the config, shrink: {{accept: [{{dl: "{downlink}", run: "{run}", reason: "..."}}]}}',
        hands_off=True,
    )
