"""The balance of a run: every known event in exactly one account, counted twice.

One side is counted from the rows of the events and the merge rule read backwards. The other is counted from the records
of the deliveries, datagram by datagram.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from halfpipe.ids import DownlinkId
from halfpipe.merge.books import Books
from halfpipe.merge.late import Events, Recorded, by_datagram
from halfpipe.merge.ordering import numbers_in
from halfpipe.merge.undelivered import Group, Kind

ACCOUNTS = {
    Kind.ORPHAN: "waiting",
    Kind.DUE: "due",
    Kind.WITHHELD: "withheld",
    Kind.LATE: "late",
    Kind.CLOSED: "closed",
}


class Delivered(Recorded, Protocol):
    """A recorded delivery that knows the number of its events."""

    @property
    def events(self) -> int:
        """Number of events in the delivery, as far as it is known."""


def closed_books(
    groups: Iterable[Group],
    latest: Mapping[DownlinkId, Delivered],
    *,
    is_refused: bool = False,
    lost: int = 0,
) -> Books:
    """Return the books of a run.

    Parameters
    ----------
    groups
        The events that are not delivered, from `halfpipe.merge.undelivered.undelivered`.
    latest
        The latest delivery of each downlink.
    is_refused
        Whether Level-1 would refuse the run: due events are refused.
    lost
        What `lost_events` returns.
    """
    accounts = Counter[str]()
    for group in groups:
        refused = is_refused and group.kind is Kind.DUE
        accounts["refused" if refused else ACCOUNTS[group.kind]] += group.events
    delivered = sum(delivery.events for delivery in latest.values())
    return Books(known=delivered + accounts.total() + lost, delivered=delivered, **accounts)


def lost_events(
    known: Events,
    groups: Iterable[Group],
    latest: Mapping[DownlinkId, Recorded],
) -> int:
    """Count the known events that are neither delivered by the records nor in a group, EPU by EPU.

    Of each datagram that is there, the records say how many of its events were delivered. A delivery may have more
    than is there now, after a chunk was ignored. So only a positive difference is a loss. 0 if a delivery of the
    legacy says no counts.

    Parameters
    ----------
    known
        All known events of some datagrams.
    groups
        Those of them that are not delivered.
    latest
        The latest delivery of each downlink.
    """
    undelivered, lost = Counter[int](), 0
    for group in groups:
        undelivered[group.apid] += group.events
    if any(delivery.counts is None for delivery in latest.values()):
        return 0
    for apid in numbers_in(known["apid"]) if len(known) else ():
        of_apid = known["datagram"][known["apid"] == apid]
        if (of_apid[1:] < of_apid[:-1]).any():
            of_apid.sort()
        there = set(of_apid[np.r_[True, of_apid[1:] != of_apid[:-1]]].tolist())
        delivered = sum(
            events
            for delivery in latest.values()
            for number, events in by_datagram((delivery.counts or {}).get(apid, "")).items()
            if number in there
        )
        lost += max(0, len(of_apid) - undelivered[apid] - delivered)
    return lost
