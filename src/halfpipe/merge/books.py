"""The books of a run: how many of its known events are in which account. Without arrays, for every program."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Books:
    """How many events of a run are in each account, after one merge of it.

    Attributes
    ----------
    known
        Known events, each once.
    delivered
        Events in the latest deliveries of all downlinks, by the records.
    waiting
        Events that wait for missing data, or for the next delivery of the run.
    withheld, late, closed
        As `halfpipe.merge.undelivered.Kind` defines them.
    refused
        Events of a run that Level-1 would refuse.
    """

    known: int = 0
    delivered: int = 0
    waiting: int = 0
    withheld: int = 0
    late: int = 0
    closed: int = 0
    refused: int = 0

    def as_json(self) -> dict[str, int]:
        """Write them as JSON."""
        return asdict(self)

    @property
    def parts(self) -> int:
        """Sum of all accounts."""
        return sum(self.as_json().values()) - self.known

    @property
    def lost(self) -> int:
        """Number of known events in no account. 0 if the books balance."""
        return self.known - self.parts
