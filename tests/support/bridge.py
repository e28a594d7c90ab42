"""One run, decided by the library and by the reference side by side."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from math import inf

from halfpipe.deliver.shrinking import lost
from halfpipe.formats.idx import Events
from halfpipe.ids import DownlinkId
from halfpipe.merge.decision import Decision, all_known, decide
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.settings import Merge
from halfpipe.state.deliveries import Delivery, DeliveryHistory, EventFile, Release
from tests.support import model
from tests.support.model import Chunk, Event

LOWEST = 0
HIGHEST = 2**64 - 1


def event_array(events: Sequence[Event]) -> Events:
    """Return `events` as the library reads them from an index; the copy's number becomes the offset."""
    rows = Events.zeros(len(events))
    rows.sequence[:] = [event.sequence for event in events]
    rows.apid[:] = [event.apid for event in events]
    rows.datagram[:] = [event.datagram for event in events]
    rows.offset[:] = [event.copy for event in events]
    return rows


def library_events(chunks: Sequence[Chunk], number: int) -> Events:
    """Return the merged events of `chunks`, in the evt file of this number."""
    in_names = sorted(chunks, key=lambda chunk: chunk.name)
    events = in_one([event_array([]), *(event_array(chunk.events) for chunk in in_names)])
    events.file[:] = number
    return events


def figures(decision: Decision | model.ModelDecision) -> dict[str, object]:
    """Return the fields that decisions of the library and of the model have in common."""
    return {"kind": str(decision.kind), "epus": list(decision.epus), "complete": decision.complete}


def library_view(decision: Decision, downlinks: Sequence[str]) -> dict[str, object]:
    """Return a decision as plain values; each of `downlinks` has one evt file."""
    entries = [
        (int(e["sequence"]), int(e["apid"]), int(e["datagram"]), downlinks[e["file"]], int(e["offset"]))
        for e in decision.events
    ]
    return figures(decision) | {
        "settled": [tuple(interval) for interval in decision.settled],
        "gaps": [tuple(gap) for gap in decision.gaps],
        "files": [entries[begin:end] for begin, end in decision.files],
        "spans": [tuple(span) for span in decision.spans],
        "datagrams": {apid: tuple(map(tuple, ranges)) for apid, ranges in decision.datagrams.items()},
    }


def model_view(outcome: model.ModelDecision) -> dict[str, object]:
    """Return a decision of the reference model in the same form."""

    def plain(downlink: str, event: Event) -> tuple[int, int, int, str, int]:
        return event.sequence, event.apid, event.datagram, downlink, event.copy

    return figures(outcome) | {
        "settled": [
            (LOWEST if first == -inf else first, HIGHEST if last == inf else last)
            for first, last in outcome.settled
        ],
        "gaps": outcome.gaps,
        "files": [[plain(*entry) for entry in file] for file in outcome.files],
        "spans": outcome.spans,
        "datagrams": ranges(outcome.listed),
    }


def ranges(listed: Iterable[tuple[int, int]]) -> dict[int, tuple[tuple[int, int], ...]]:
    """Return (APID, number) pairs as inclusive ranges of numbers by APID."""
    by_apid: dict[int, list[tuple[int, int]]] = {}
    for apid, number in sorted(listed):
        found = by_apid.setdefault(apid, [])
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return {apid: tuple(found) for apid, found in by_apid.items()}


class RefusedError(Exception):
    """A downlink would deliver less than before."""


@dataclass
class Run:
    """A run whose downlinks are processed one after the other; each step is decided twice and compared."""

    rules: model.Rules = field(default_factory=model.Rules)
    arrived: dict[str, Sequence[Chunk]] = field(default_factory=dict)
    deliveries: dict[str, list[model.Delivery]] = field(default_factory=dict)
    lines: list[Delivery | Release] = field(default_factory=list)
    abandoned: bool = False
    outcome: model.ModelDecision = field(init=False)  # of the reference, for the latest step

    def process(self, downlink: str, chunks: Sequence[Chunk], *, accept: bool = True) -> Decision:
        """Process `downlink` with `chunks`, record its delivery, and return the library's decision.

        Raises
        ------
        RefusedError
            If its delivery shrinks and the loss is not accepted. Then nothing is changed.
        """
        before = self.arrived.get(downlink)
        self.arrived[downlink] = chunks
        outcome = self.outcome = model.decide(
            downlink, self.arrived, self.deliveries, self.rules, self.abandoned
        )
        decision = self._decide(DownlinkId(downlink))
        assert library_view(decision, list(self.arrived)) == model_view(outcome)
        assert len(decision.events) == len(outcome.delivered)
        latest = self.recorded.latest().get(DownlinkId(downlink))
        loss = lost(latest, decision.events, self.events.values()) if latest else {}
        assert bool(loss) == model.shrinks(outcome, self.deliveries.get(downlink, []), self.arrived)
        if loss and not accept:
            assert before is not None
            self.arrived[downlink] = before
            raise RefusedError
        self.deliveries.setdefault(downlink, []).append(outcome.delivery)
        self.lines.append(_line(DownlinkId(downlink), decision))
        return decision

    def release(self, downlink: str) -> None:
        """Reopen what `downlink` delivered earlier and no longer delivers."""
        self.deliveries[downlink] = model.release(self.deliveries[downlink])
        self.lines.append(Release(DownlinkId(downlink), "rolled back", "", ""))

    @property
    def recorded(self) -> DeliveryHistory:
        return DeliveryHistory((line, "") for line in self.lines)

    def again(self, downlink: str) -> Decision:
        """Process `downlink` again with the same chunks."""
        return self.process(downlink, self.arrived[downlink])

    def vanish(self, downlink: str) -> None:
        """Process `downlink` without a chunk that contains the run, and accept the loss."""
        self.arrived[downlink] = []
        self.deliveries[downlink].append(model.Delivery())
        self.lines.append(_line(DownlinkId(downlink), self._decide(DownlinkId(downlink), vanished=True)))

    @property
    def known(self) -> KnownDatagrams:
        """The datagrams that have arrived."""
        return KnownDatagrams.together(
            KnownDatagrams.of([datagram.line for chunk in chunks for datagram in chunk.datagrams])
            for chunks in self.arrived.values()
        )

    @property
    def events(self) -> dict[DownlinkId, Events]:
        """The events that have arrived, by downlink."""
        numbered = enumerate(self.arrived.items())
        return {DownlinkId(dl): library_events(chunks, number) for number, (dl, chunks) in numbered}

    def _decide(self, downlink: DownlinkId, *, vanished: bool = False) -> Decision:
        return decide(
            downlink,
            self.known,
            all_known(self.events, downlink),
            self.recorded.latest(),
            limits(self.rules),
            earlier=self.recorded.earlier(),
            settle_all=self.abandoned,
            vanished=vanished,
        )


def _line(downlink: DownlinkId, decision: Decision) -> Delivery:
    """Return the library's record of a decision, with the fields used here."""
    sequences = decision.events.sequence
    edges = [(int(sequences[a]), int(sequences[b - 1]), b - a) for a, b in decision.files]
    files = tuple(
        EventFile(str(first), events, (first, last), (0, 0), 0, "") for first, last, events in edges
    )
    return Delivery(downlink, 1, decision.spans, decision.datagrams, files, counts=dict(decision.counts))


def limits(rules: model.Rules) -> Merge:
    """Return the library's form of `rules`."""
    return Merge(**asdict(rules))
