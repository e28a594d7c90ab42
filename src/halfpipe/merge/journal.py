"""The journal of a run: what each downlink delivered, one line a delivery, flushed before files show.

It is read and written under the run's lock. The latest line of a downlink counts.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from halfpipe.files import JsonLines, read_json
from halfpipe.ids import DownlinkId
from halfpipe.merge.deliver import Recorded
from halfpipe.merge.settle import Interval, Ranges

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EventFile:
    """One event file as Level-1 sees it; seconds are `current.timeSecs` of its first and last event."""

    name: str
    events: int
    sequences: tuple[int, int]
    seconds: tuple[int, int]
    size: int
    sha256: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read one from JSON."""
        (first, last), (begin, end) = entry["sequences"], entry["seconds"]
        return cls(
            entry["name"], entry["events"], (first, last), (begin, end), entry["size"], entry["sha256"]
        )

    def as_json(self) -> dict[str, Any]:
        """Write it as JSON."""
        return {
            "name": self.name,
            "events": self.events,
            "sequences": list(self.sequences),
            "seconds": list(self.seconds),
            "size": self.size,
            "sha256": self.sha256,
        }


@dataclass(frozen=True)
class Delivery:
    """What one downlink delivered of a run: its spans, its files, and which datagrams were known then.

    `times` are those of the first and the last event in order of sequence, `window` the earliest and
    the latest: Unix UTC seconds, None without an event.
    """

    downlink: DownlinkId
    spans: tuple[Interval, ...]
    datagrams: Ranges
    files: tuple[EventFile, ...]
    times: tuple[float, float] | None
    window: tuple[float, float] | None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read one from JSON: a line of the journal, or a manifest."""
        return cls(
            DownlinkId(entry["downlink"]),
            tuple(Interval(*span) for span in entry["spans"]),
            {int(apid): tuple((a, b) for a, b in ranges) for apid, ranges in entry["datagrams"].items()},
            tuple(EventFile.of(file) for file in entry["files"]),
            _pair(entry["times"]),
            _pair(entry["window"]),
        )

    def as_json(self) -> dict[str, Any]:
        """Write it as JSON."""
        return {
            "downlink": str(self.downlink),
            "spans": [list(span) for span in self.spans],
            "datagrams": {
                str(apid): [list(pair) for pair in r] for apid, r in sorted(self.datagrams.items())
            },
            "files": [file.as_json() for file in self.files],
            "times": list(self.times) if self.times else None,
            "window": list(self.window) if self.window else None,
        }

    @property
    def recorded(self) -> Recorded:
        """What the merge needs to know of it."""
        return Recorded(self.spans, self.datagrams)

    @property
    def events(self) -> int:
        """The number of events delivered."""
        return sum(file.events for file in self.files)


def _pair(values: Sequence[float] | None) -> tuple[float, float] | None:
    return (values[0], values[1]) if values else None


class Journal:
    """The deliveries of one run as its journal holds them.

    Parameters
    ----------
    path
        The journal; none yet means that nothing was delivered.
    manifests
        Manifests of the run, of which a lost journal is rebuilt.

    Raises
    ------
    StateError
        If a line other than a torn last one is damaged.
    """

    def __init__(self, path: Path, manifests: Iterable[Path] = ()) -> None:
        lost = not path.exists()
        self._lines = JsonLines(path)
        if self._lines.torn:
            log.warning("%s: the last line is torn (a job died while writing it) and is ignored", path)
        if lost:
            self._rebuild(manifests)
        self._deliveries: list[Delivery] = []
        for number, value in enumerate(self._lines.values, 1):
            try:
                self._deliveries.append(Delivery.of(value))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise self._lines.damaged(number, error) from error

    def _rebuild(self, manifests: Iterable[Path]) -> None:
        found = [Delivery.of(read_json(path)) for path in sorted(manifests)]
        found = [delivery for delivery in found if delivery.files]
        if found:
            log.warning("%s is lost: rebuilt from %d manifests", self._lines.path, len(found))
            self._lines.append(*(delivery.as_json() for delivery in found))

    def latest(self) -> dict[DownlinkId, Delivery]:
        """Return the latest delivery of each downlink."""
        return {delivery.downlink: delivery for delivery in self._deliveries}

    def names(self, downlink: DownlinkId) -> set[str]:
        """Return the names of all files that `downlink` ever delivered of the run."""
        return {file.name for d in self._deliveries if d.downlink == downlink for file in d.files}

    def record(self, delivery: Delivery) -> None:
        """Append `delivery` and flush it to disk, unless it equals the latest of its downlink.

        Raises
        ------
        HalfPipeError
            If it cannot be written and flushed: then nothing may be delivered.
        """
        latest = self.latest().get(delivery.downlink)
        if delivery != latest and (latest is not None or delivery.files):
            self._lines.append(delivery.as_json())
            self._deliveries.append(delivery)
