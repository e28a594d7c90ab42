"""The balance of a run: every known event is in exactly one account. Events are counted in two ways.

One count uses the rows of the events and the reasons why events are not delivered. The other uses the records of the
deliveries, datagram by datagram.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from halfpipe.ids import DownlinkId
from halfpipe.merge.books import Books
from halfpipe.merge.late_events import Events, RecordedDelivery, by_datagram, counts_of
from halfpipe.merge.undelivered import Group, NotDelivered


def closed_books(
    groups: Iterable[Group], delivered: int, *, is_refused: bool = False, lost: int = 0
) -> Books:
    """Return the books of a run.

    Parameters
    ----------
    groups
        The events that are not delivered, from `halfpipe.merge.undelivered.undelivered`.
    delivered
        The number of events in the latest deliveries of all downlinks.
    is_refused
        Whether Level-1 would refuse the run. Then its due events count as refused.
    lost
        What `lost_events` returns.
    """
    accounts = Counter[str]()
    for group in groups:
        refused = is_refused and group.kind is NotDelivered.DUE
        accounts["refused" if refused else str(group.kind)] += group.events
    return Books(known=delivered + accounts.total() + lost, delivered=delivered, **accounts)


def lost_events(
    known: Events,
    groups: Iterable[Group],
    latest: Mapping[DownlinkId, RecordedDelivery],
) -> int:
    """Count the known events that are neither in a delivery nor in a group, EPU by EPU.

    The records have the number of delivered events of each datagram. After a chunk was ignored, a delivery may contain
    more events than are known now, so only a positive difference is a loss. The result is 0 if a delivery of the legacy
    has no counts.

    Parameters
    ----------
    known
        All known events of some datagrams.
    groups
        The groups of those among them that are not delivered.
    latest
        The latest delivery of each downlink.
    """
    undelivered, lost = Counter[int](), 0
    for group in groups:
        undelivered[group.apid] += group.events
    if any(delivery.counts is None for delivery in latest.values()):
        return 0
    for apid, counts in counts_of(known).items():
        there = by_datagram(counts)
        delivered = sum(
            events
            for delivery in latest.values()
            for number, events in by_datagram((delivery.counts or {}).get(apid, "")).items()
            if number in there
        )
        lost += max(0, sum(there.values()) - undelivered[apid] - delivered)
    return lost
