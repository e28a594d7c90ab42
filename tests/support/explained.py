"""Checks explanations of undelivered events: the reference delivers them once the missing data arrive."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from halfpipe.ids import DownlinkId
from halfpipe.merge.decision import all_known
from halfpipe.merge.undelivered import (
    Group,
    Lack,
    MissingPart,
    NotDelivered,
    books_of,
    undelivered,
)
from tests.support import model
from tests.support.bridge import Run, limits
from tests.support.model import Chunk, Datagram

NEXT = "999999999"  # a downlink that has not arrived yet
LPA = range(955, 959)
LCI = range(965, 969)
Keys = frozenset[tuple[int, int]]  # (sequence, APID)


def said_of(run: Run, first: DownlinkId | None = None) -> list[Group]:
    """Return the library's explanation of the current state of a run; the copies of `first` count first."""
    events = run.events
    latest = run.recorded.latest()
    earlier = run.recorded.earlier()
    deliveries = {dl: (*earlier.get(dl, ()), delivery) for dl, delivery in latest.items()}
    return undelivered(
        run.known.segments(),
        all_known(events, first),
        deliveries,
        limits(run.rules),
        settle_all=run.abandoned,
        copies=events,
    )


def check(run: Run, *, odd: bool = False) -> list[Group]:
    """Check with the reference model that each undelivered event has one correct reason; return the groups.

    `odd`: the history contradicts itself, so events of an EPU need not be in order, and waiting events are not checked.
    """
    groups = said_of(run)
    outcome = model.decide(NEXT, run.arrived, run.deliveries, run.rules, run.abandoned)
    of = {kind: [group for group in groups if group.kind is kind] for kind in NotDelivered}
    counted = {kind: sum(group.events for group in of[kind]) for kind in NotDelivered}
    every = [event for _, event in model.known_events(NEXT, run.arrived)]
    latest = [span for deliveries in run.deliveries.values() for span in deliveries[-1].spans]
    in_closed = [
        (model.closed(every, deliveries, latest), deliveries) for deliveries in run.deliveries.values()
    ]
    closed = sum(len(events) - model.late(events, deliveries) for events, deliveries in in_closed)
    alone = counted[NotDelivered.WITHHELD] - outcome.withheld
    assert 0 <= alone <= sum(len(events) for events, _ in in_closed)
    assert counted == {
        NotDelivered.WAITING: outcome.undelivered - outcome.withheld,
        NotDelivered.WITHHELD: outcome.withheld + alone,
        NotDelivered.LATE: outcome.late,
        NotDelivered.CLOSED: closed - alone,
        NotDelivered.DUE: len(outcome.delivered),
    }
    check_books(run, groups, len(every))
    places = [*outcome.settled, *(span for ds in run.deliveries.values() for d in ds for span in d.spans)]
    for event in every:
        if not model.inside(event.sequence, places):
            assert len(holding(of[NotDelivered.WAITING], event.sequence, event.apid)) == 1, event
    for sequence, apid in outcome.delivery.keys:
        assert holding(of[NotDelivered.DUE], sequence, apid), (sequence, apid)
    for group in of[NotDelivered.WAITING]:
        check_waiting(run, group, odd=odd)
    # A lone closed event is withheld, and no limit delivers it.
    lone = {(event.sequence, event.apid) for events, _ in in_closed for event in events}
    for group in of[NotDelivered.WITHHELD]:
        assert keys_of(run, group) <= lone | delivered(run)
    for group in of[NotDelivered.LATE]:
        assert group.inside is not None
        assert (
            len(keys_of(run, group) & delivered(run, group.inside, run.arrived[group.inside])) >= group.events
        )
    return groups


def check_books(run: Run, groups: Sequence[Group], known: int) -> None:
    """Check that the books of a run balance: no event is lost, and each known event is in one account."""
    latest = run.recorded.latest()
    in_groups = sum(delivery.events for delivery in latest.values())
    books = books_of(all_known(run.events), groups, latest, run.events)
    assert books.lost == 0
    gone = in_groups + sum(g.events for g in groups) - known
    assert gone >= 0, "every known event is in an account"
    assert books.known == books.parts == known + gone


def holding(groups: Iterable[Group], sequence: int, apid: int) -> list[Group]:
    """Return the groups that contain the place of an event."""
    return [group for group in groups if group.apid == apid and group.first <= sequence <= group.last]


def keys_of(run: Run, group: Group) -> Keys:
    """Return all known events of a group's EPU between the ends of the group."""
    events = (event for _, event in model.known_events(NEXT, run.arrived))
    return frozenset((e.sequence, e.apid) for e in events if holding([group], e.sequence, e.apid))


def delivered(run: Run, downlink: str = NEXT, chunks: Sequence[Chunk] = ()) -> Keys:
    """Return the events that a downlink with `chunks` would deliver without a least number, by the reference model."""
    rules = replace(run.rules, min_events=1)
    arrived = {**run.arrived, downlink: chunks}
    return model.decide(downlink, arrived, run.deliveries, rules, run.abandoned).delivery.keys


def check_waiting(run: Run, group: Group, *, odd: bool) -> None:
    """Check that waiting events are delivered once all missing data have arrived, but not while a part is missing."""
    wanted = keys_of(run, group)
    assert group.lacks
    assert wanted
    if odd:
        return
    # A group is one stretch, so there are no delivered events between its events.
    if all(map(can_come, group.lacks)):
        assert wanted <= delivered(run, NEXT, bringing(run, group.lacks))
    for lack in group.lacks:
        rest = [other for other in group.lacks if other != lack and can_come(other)]
        assert not wanted & delivered(run, NEXT, bringing(run, rest)), lack


def can_come(lack: Lack) -> bool:
    """Tell whether the missing data can arrive: there is nothing before datagram 0."""
    return lack.what is not MissingPart.START or lack.last is not None


def bringing(run: Run, lacks: Iterable[Lack]) -> list[Chunk]:
    """Return chunks with the missing data `lacks`, in datagrams without events."""
    seen = set(model.known_datagrams(run.arrived.values()))
    chunks = []
    for number, lack in enumerate(lacks, start=1):
        if lack.what is MissingPart.EPU:
            family = LPA if model.is_lpa(seen) else LCI
            new = [apid for apid in family if apid not in seen][: run.rules.min_epus - len(seen)]
            lines = [Datagram(apid, 0, "start", "stop", 0, 0, 0) for apid in new]
        else:
            assert lack.apid is not None
            assert lack.first is not None
            last = lack.first if lack.last is None else lack.last
            opening = "start" if lack.what is MissingPart.START and lack.first == 0 else "continue"
            closing = "stop" if lack.what is MissingPart.END else "continue"
            lines = [
                Datagram(lack.apid, n, "continue" if n else opening, closing, 0, 0, 0)
                for n in range(lack.first, last + 1)
            ]
        chunks.append(Chunk(f"0077014d-2c2e5787-0000-{number:05d}.idx", (), tuple(lines)))
    return chunks
