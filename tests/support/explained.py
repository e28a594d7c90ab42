"""Checks explanations of undelivered events: the reference delivers them once the missing data arrive."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from halfpipe.ids import DownlinkId
from halfpipe.merge.decision import all_known
from halfpipe.merge.late_events import Events
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.merge.undelivered import (
    Group,
    Lack,
    MissingPart,
    NotDelivered,
    closed_books,
    lost_events,
    undelivered,
)
from tests.support import model
from tests.support.bridge import Run, library_datagrams, library_events, limits
from tests.support.model import Chunk, Datagram

NEXT = "999999999"  # a downlink that has not arrived yet
LPA, LCI = range(955, 959), range(965, 969)


def said_of(run: Run) -> list[Group]:
    """Return the library's explanation of the current state of a run."""
    events = {DownlinkId(dl): library_events(chunks) for dl, chunks in run.arrived.items()}
    latest, earlier = run.recorded.latest(), run.recorded.earlier()
    return undelivered(
        KnownDatagrams.together(library_datagrams(chunks) for chunks in run.arrived.values()).segments(),
        all_known(events),
        {dl: (*earlier.get(dl, ()), delivery) for dl, delivery in latest.items()},
        limits(run.rules),
        settle_all=run.abandoned,
        own=events.get,
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
    for kind, keys in waiting_keys(run, outcome).items():
        for sequence, apid in keys:
            holding = [g for g in of[kind] if g.apid == apid and g.first <= sequence <= g.last]
            assert len(holding) == 1 if kind is NotDelivered.WAITING else holding, (kind, sequence, apid)
    for group in of[NotDelivered.WAITING]:
        check_waiting(run, group, odd=odd)
    # A lone closed event is withheld, and no limit delivers it.
    lone = {(event.sequence, event.apid) for events, _ in in_closed for event in events}
    for group in of[NotDelivered.WITHHELD]:
        assert keys_of(run, group) <= lone | delivered(run, replace(run.rules, min_events=1))
    for group in of[NotDelivered.LATE]:
        assert group.inside is not None
        again = model.decide(group.inside, run.arrived, run.deliveries, replace(run.rules, min_events=1))
        gone = {(event.sequence, event.apid) for _, event in again.delivered}
        late = [key for key in keys_of(run, group) if key in gone]
        assert len(late) >= group.events
    return groups


def check_books(run: Run, groups: Sequence[Group], known: int) -> None:
    """Check that the books of a run balance: no event is lost, and each known event is in one account."""
    latest = run.recorded.latest()
    events = all_known(_library_events(run))
    delivered = sum(delivery.events for delivery in latest.values())
    books = closed_books(groups, delivered, lost=lost_events(events, groups, latest))
    assert books.lost == 0
    gone = delivered + sum(g.events for g in groups) - known
    assert gone >= 0, "every known event is in an account"
    assert books.known == books.parts == known + gone


def _library_events(run: Run) -> dict[DownlinkId, Events]:
    return {DownlinkId(dl): library_events(chunks) for dl, chunks in run.arrived.items()}


def waiting_keys(run: Run, outcome: model.ModelDecision) -> dict[NotDelivered, set[tuple[int, int]]]:
    """Return (sequence, APID) of the waiting events and of those that are due, by the reference model."""
    taken = [span for ds in run.deliveries.values() for d in ds for span in d.spans]
    waiting = {
        (event.sequence, event.apid)
        for _, event in model.known_events(NEXT, run.arrived)
        if not model.inside(event.sequence, [*taken, *outcome.settled])
    }
    return {
        NotDelivered.WAITING: waiting,
        NotDelivered.DUE: {(e.sequence, e.apid) for _, e in outcome.delivered},
    }


def keys_of(run: Run, group: Group) -> set[tuple[int, int]]:
    """Return (sequence, APID) of all known events of a group's EPU between the ends of the group."""
    events = (event for _, event in model.known_events(NEXT, run.arrived))
    return {
        (e.sequence, e.apid)
        for e in events
        if e.apid == group.apid and group.first <= e.sequence <= group.last
    }


def delivered(run: Run, rules: model.Rules, new: Sequence[Chunk] = ()) -> set[tuple[int, int]]:
    """Return (sequence, APID) of the events that a downlink with `new` would deliver, by the reference model."""
    outcome = model.decide(NEXT, {**run.arrived, NEXT: new}, run.deliveries, rules, run.abandoned)
    return {(event.sequence, event.apid) for _, event in outcome.delivered}


def check_waiting(run: Run, group: Group, *, odd: bool) -> None:
    """Check that waiting events are delivered once all missing data have arrived, but not while a part is missing."""
    rules = replace(run.rules, min_events=1)
    wanted = keys_of(run, group)
    assert group.lacks
    assert wanted
    # A group is one stretch, so there are no delivered events between its events.
    if not odd and all(map(can_come, group.lacks)):
        assert wanted <= delivered(run, rules, bringing(run, group.lacks))
    for lack in group.lacks:
        rest = [other for other in group.lacks if other != lack and can_come(other)]
        if not odd:
            assert not wanted & delivered(run, rules, bringing(run, rest)), lack


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
            lines = [
                Datagram(
                    lack.apid,
                    n,
                    "start" if lack.what is MissingPart.START and n == 0 else "continue",
                    "stop" if lack.what is MissingPart.END else "continue",
                    0,
                    0,
                    0,
                )
                for n in range(lack.first, last + 1)
            ]
        chunks.append(Chunk(f"0077014d-2c2e5787-0000-{number:05d}.idx", (), tuple(lines)))
    return chunks
