"""A random delivery history beside the legacy: is its rule right, and does each difference have a reason?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from halfpipe.ids import DownlinkId, RunId
from halfpipe.legacy.difference_reasons import Decided, Reason, present, unexplained, why
from halfpipe.legacy.legacy_replay import EPUS, History, Part
from halfpipe.merge.decision import Decision
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import KnownDatagrams, settled
from tests.support.legacy_merge import Dgm, Evt, Merge, merge, of_datagram, unique
from tests.support.model import Chunk

KEY = np.dtype([("sequence", "u8"), ("apid", "u2")])
RUN = RunId("2c2e5787")
Rows = list[tuple[int, int]]


def table(rows: Sequence[tuple[int, int]]) -> NDArray[np.void]:
    """Return events in order, each once."""
    return in_one([np.array(rows, KEY)])


def rows_of(chunks: Sequence[Chunk]) -> Rows:
    """Return sequence and APID of the events of a downlink."""
    return [(event.sequence, event.apid) for chunk in chunks for event in chunk.events]


def lines_of(chunks: Sequence[Chunk]) -> list[bytes]:
    """Return the lines of the datagrams of a downlink, in order."""
    return sorted(datagram.line for chunk in chunks for datagram in chunk.datagrams)


@dataclass
class Beside:
    """What the legacy delivered of the run, by its rule and by the model of it, and what is delivered here."""

    history: History = field(default_factory=lambda: History(RUN, {}))
    merges: dict[str, Merge] = field(default_factory=dict)
    here: dict[str, Decision] = field(default_factory=dict)

    def step(
        self, downlink: str, arrived: Mapping[str, Sequence[Chunk]], decision: Decision
    ) -> Iterator[tuple[bool, int, Reason]]:
        """Let the legacy process a downlink; yield what only one side delivers: whether here, sequence and reason.

        Where the rule does not give what the model does, the reason is unknown.
        """
        own = DownlinkId(downlink)
        parts = {
            DownlinkId(dl): Part(KnownDatagrams.of(lines_of(chunks)), table(rows_of(chunks)))
            for dl, chunks in arrived.items()
        }
        self.history = History(RUN, parts, self.history.merges).after(own)
        merged, one = self.history.latest[own], self.model(downlink, arrived)
        theirs, text = merged.events[merged.delivered], merged.lines(RUN)
        last = sum(map(len, one.indexes[-1:]))
        counts = [] if one.refused else [f"{RUN.l1} {last} {one.orphans} {one.kind}"]
        for what, of_rule, of_model in (
            ("events", theirs.tolist(), [(e.sequence, e.apid) for index in one.indexes for e in index]),
            ("spans", merged.recorded, one.recorded),
            ("counts", text["delivered_events"], counts),
            ("gaps", text["event_gaps"], sorted(f"{RUN.l1} {first} {last}" for first, last in one.gaps)),
            ("state", (merged.refused, merged.complete), (one.refused, one.complete)),
        ):
            if of_rule != of_model:
                yield False, 0, unexplained(f"{what}: {of_rule}, by the model {of_model}")
        self.merges[downlink], self.here[downlink] = one, decision
        latest = self.history.latest.items()
        elsewhere = [row for dl, m in latest if dl != own for row in m.events[m.delivered].tolist()]
        decided = Decided(
            merged,
            table(elsewhere),
            {"spans": decision.spans, "settled": decision.settled},
            [span for dl, one in self.here.items() if dl != downlink for span in one.spans],
            settled(KnownDatagrams.together(part.datagrams for part in parts.values()).segments(), EPUS),
        )
        ours = table(decision.events[["sequence", "apid"]].tolist())
        for rows, here in ((ours[~present(ours, theirs)], True), (theirs[~present(theirs, ours)], False)):
            codes, reasons = why(rows, decided, here=here)
            yield from (
                (here, int(row["sequence"]), reasons[code]) for row, code in zip(rows, codes, strict=True)
            )

    def model(self, downlink: str, arrived: Mapping[str, Sequence[Chunk]]) -> Merge:
        """Return what the model of the legacy makes of a downlink."""
        others = [chunk for dl, chunks in arrived.items() if dl != downlink for chunk in chunks]
        lines = [line.decode() for chunks in (arrived[downlink], others) for line in lines_of(chunks)]
        events = sorted({row for chunks in arrived.values() for row in rows_of(chunks)})
        done = [span for dl, one in self.merges.items() if dl != downlink for span in one.recorded]
        return merge(
            [Dgm.of(line) for line in unique(lines, of_datagram)],
            [Evt(sequence, apid, 0.0, 0, "", "") for sequence, apid in events],
            done,
        )
