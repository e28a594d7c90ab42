"""The books of a run: the number of known events in each account. This module does not load numpy."""

from dataclasses import dataclass

from halfpipe.files.typed import Stored


class Books(Stored, frozen=True):
    """How many events of a run are in each account, after one merge of it.

    Attributes
    ----------
    known
        Known events, each once.
    delivered
        Events in the latest recorded deliveries of all downlinks.
    waiting
        Events that wait for missing data.
    due
        Events that the next delivery of the run contains, because something changed since the last merge.
    withheld, late, closed
        As `halfpipe.merge.undelivered.NotDelivered` defines them.
    refused
        Events of a run that Level-1 would refuse.
    """

    known: int = 0
    delivered: int = 0
    waiting: int = 0
    due: int = 0
    withheld: int = 0
    late: int = 0
    closed: int = 0
    refused: int = 0

    @property
    def all_waiting(self) -> int:
        """Number of events shown as waiting: for data, for the next delivery, or because Level-1 would refuse them."""
        return self.waiting + self.due + self.refused

    @property
    def in_texts(self) -> int:
        """Number of events that the texts for Level-1 give as waiting: all that are neither delivered nor late."""
        return self.waiting + self.due + self.withheld

    @property
    def undelivered(self) -> int:
        """Number of known events that no downlink delivers now."""
        return self.known - self.delivered

    @property
    def parts(self) -> int:
        """Sum of all accounts."""
        accounts = (
            self.delivered,
            self.waiting,
            self.due,
            self.withheld,
            self.late,
            self.closed,
            self.refused,
        )
        return sum(accounts)

    @property
    def lost(self) -> int:
        """Number of known events in no account. 0 if the books balance."""
        return self.known - self.parts


@dataclass(frozen=True)
class Standing:
    """The latest known books of a run.

    Attributes
    ----------
    books
        The books; None if unknown.
    old
        Why the books are unknown or from an earlier merge; empty if they are current.
    """

    books: Books | None
    old: str = ""
