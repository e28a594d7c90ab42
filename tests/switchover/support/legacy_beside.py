"""Compares the legacy's rule (`replay`) with the model of the legacy on random delivery histories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from halfpipe.formats.idx import Events
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import KnownDatagrams
from halfpipe_switchover.legacy_replay import Merged, Part, replay
from tests.support.model import Chunk
from tests.switchover.support.legacy_merge import Dgm, Evt, Merge, merge, of_datagram, unique

RUN = RunId("2c2e5787")
Rows = list[tuple[int, int]]


def table(rows: Sequence[tuple[int, int]]) -> Events:
    """Return events in order, each once."""
    events = Events.zeros(len(rows))
    events.sequence[:] = [sequence for sequence, _ in rows]
    events.apid[:] = [apid for _, apid in rows]
    return in_one([events])


def rows_of(chunks: Sequence[Chunk]) -> Rows:
    """Return sequence and APID of the events of a downlink."""
    return [(event.sequence, event.apid) for chunk in chunks for event in chunk.events]


def lines_of(chunks: Sequence[Chunk]) -> list[bytes]:
    """Return the lines of the datagrams of a downlink, in order."""
    return sorted(datagram.line for chunk in chunks for datagram in chunk.datagrams)


@dataclass
class Beside:
    """What the legacy delivered of a run, by the rule and by the model."""

    replayed: list[tuple[DownlinkId, Merged]] = field(default_factory=list)
    merges: dict[str, Merge] = field(default_factory=dict)

    def process(self, downlink: str, arrived: Mapping[str, Sequence[Chunk]]) -> list[tuple[object, object]]:
        """Process a downlink by both; return the values that differ, each by the rule and by the model."""
        own = DownlinkId(downlink)
        parts = {
            DownlinkId(dl): Part(KnownDatagrams.of(lines_of(chunks)), table(rows_of(chunks)))
            for dl, chunks in arrived.items()
        }
        self.replayed = replay(RUN, parts, [own], self.replayed)
        rule, model = self.replayed[-1][1], self.model(downlink, arrived)
        self.merges[downlink] = model
        text = rule.lines(RUN)
        last = sum(map(len, model.indexes[-1:]))
        counts = [] if model.refused else [f"{RUN.l1} {last} {model.orphans} {model.kind}"]
        pairs = (
            (
                rule.events[rule.delivered][["sequence", "apid"]].tolist(),
                [(e.sequence, e.apid) for index in model.indexes for e in index],
            ),
            (rule.recorded, model.recorded),
            (text["delivered_events"], counts),
            (text["event_gaps"], sorted(f"{RUN.l1} {first} {last}" for first, last in model.gaps)),
            ((rule.refused, rule.complete), (model.refused, model.complete)),
        )
        return [(one, other) for one, other in pairs if one != other]

    def model(self, downlink: str, arrived: Mapping[str, Sequence[Chunk]]) -> Merge:
        """Return the merge of a downlink by the model of the legacy."""
        others = [chunk for dl, chunks in arrived.items() if dl != downlink for chunk in chunks]
        lines = [line.decode() for chunks in (arrived[downlink], others) for line in lines_of(chunks)]
        events = sorted({row for chunks in arrived.values() for row in rows_of(chunks)})
        done = [span for dl, one in self.merges.items() if dl != downlink for span in one.recorded]
        return merge(
            [Dgm.of(line) for line in unique(lines, of_datagram)],
            [Evt(sequence, apid, 0.0, 0, "", "") for sequence, apid in events],
            done,
        )
