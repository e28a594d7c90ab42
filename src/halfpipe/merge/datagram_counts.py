"""How many events of each datagram a delivery holds, as it stands in its record; loads no arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class DatagramCounts:
    """How many events of each datagram a delivery holds.

    `of` has a text for each APID, as short as a run of 18,000 datagrams wants it: ``0: 145 143 17: 150`` are 145 and
    143 events of the datagrams 0 and 1, and 150 of datagram 17.
    """

    of: Mapping[int, str]

    @classmethod
    def of_json(cls, entry: Mapping[str, str] | None) -> Self | None:
        """Read them from JSON; None if there are none."""
        return None if entry is None else cls({int(apid): text for apid, text in entry.items()})

    def as_json(self) -> dict[str, str]:
        """Write them as JSON."""
        return {str(apid): text for apid, text in self.of.items()}

    def of_apid(self, apid: int) -> dict[int, int]:
        """Return the counts of one EPU by datagram number; of those that are not there it holds none."""
        found, number = {}, 0
        for word in self.of.get(apid, "").split():
            if word.endswith(":"):
                number = int(word[:-1])
            else:
                found[number], number = int(word), number + 1
        return found
