"""What a downlink would deliver no more of what it had delivered: that is refused, unless a person accepts it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.errors import HalfPipeError, Remedy
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.decision import LEAST_IN_A_FILE
from halfpipe.run.chunk_files import load_chunks
from halfpipe.run.deliveries import Delivery, EventFile, LegacySpan
from halfpipe.run.event_table import load_events
from halfpipe.run.merged_index import MergedIndex


@dataclass(frozen=True)
class Loss:
    """What is lost of a recorded delivery: events by recorded file, and by chunk as far as that is known."""

    files: Mapping[EventFile | LegacySpan, int]
    chunks: Mapping[str, int | None]

    @property
    def events(self) -> int:
        """How many events in all."""
        return sum(self.files.values())

    @property
    def first(self) -> int:
        """The first sequence of the first file that has lost some."""
        return min(file.sequences[0] for file in self.files)

    @property
    def last(self) -> int:
        """The last sequence of the last file that has lost some."""
        return max(file.sequences[1] for file in self.files)

    def as_json(self) -> dict[str, Any]:
        """Write it as JSON."""
        return {"events": self.events, "sequences": [self.first, self.last], "chunks": dict(self.chunks)}


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
            if file.events is None:
                continue
            first, last = (np.uint64(edge) for edge in file.sequences)
            now = int(np.searchsorted(sequence, last, "right") - np.searchsorted(sequence, first, "left"))
            if now < file.events:
                found[file] = file.events - now
    return found


def chunks_that_lost(
    work: Path,
    run: RunId,
    downlink: DownlinkId,
    files: Mapping[EventFile | LegacySpan, int],
    brought: MergedIndex,
) -> dict[str, int | None]:
    """Return how many events each chunk lost of what lay in `files`, None where that is not known any more.

    The index that the downlink brought before is compared with what it brings now: by
    its events, or where these were cleaned up by the sizes of the products.
    """
    try:
        before = load_chunks(work, run, downlink)
    except HalfPipeError:
        return {}
    if (work / paths.events(run, downlink)).exists():
        old = load_events(work, run, downlink)
        chunk_of = {name: str(chunk.chunk) for chunk in before for name in chunk.files}
        events = old.events
        gone = ~np.isin(_together(events), _together(brought.table.events))
        inside = np.zeros(len(events), dtype=bool)
        for file in files:
            inside |= (events["sequence"] >= file.sequences[0]) & (events["sequence"] <= file.sequences[1])
        numbers, counts = np.unique(events["file"][gone & inside], return_counts=True)
        found: Counter[str] = Counter()
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            found[chunk_of[old.files[number]]] += count
        return dict(sorted(found.items()))
    sizes = {name: size for chunk in brought.chunks for name, size in chunk.files.items()}
    return {
        str(chunk.chunk): None
        for chunk in before
        if any(sizes.get(name, 0) < size for name, size in chunk.files.items())
    }


def _together(events: NDArray[np.void]) -> NDArray[np.void]:
    """Return what tells events apart, as values that can be looked up."""
    pairs = np.empty(len(events), np.dtype([("sequence", ">u8"), ("apid", ">u2")]))
    pairs["sequence"], pairs["apid"] = events["sequence"], events["apid"]
    return pairs.view("V10")


def refusal(run: RunId, downlink: DownlinkId, before: Delivery, loss: Loss, missing: list[str]) -> str:
    """Say what would be lost of a run, and where."""
    each = [f"{chunk} ({count} of them)" if count else chunk for chunk, count in loss.chunks.items()]
    where = (
        f"lost in chunk {', '.join(each)} of the downlink"
        if each
        else "no chunk of the downlink itself lost them"
    )
    if missing:
        where += f"; merged without: {'; '.join(missing)}"
    return (
        f"run {run} ({run.l1}) of downlink {downlink} would lose {loss.events} of {before.events} delivered events, "
        f"which Level-1 may have, between sequences {loss.first} and {loss.last}; {where}. Refused: nothing that is "
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
