"""``{chunk}.json``: what the decoder made of one chunk, and what it read.

Accounts read these files, so this module does not import numpy.
"""

from collections.abc import Iterator
from pathlib import Path

from msgspec import field
from msgspec.structs import replace

from halfpipe import paths
from halfpipe.files.typed import Stored, read_stored
from halfpipe.ids import ChunkId, DownlinkId, RunId

# The kinds of products, as suffixes of their names.
EVT = ".evt"
INDEX = ".idx"
ROWS = ".rows"


class Product(Stored, frozen=True, omit_defaults=True):
    """One product of a decoder, with its size in bytes.

    Attributes
    ----------
    events, datagrams
        For an index, how many of them it lists.
    announced, missing_events, stray_events, uncovered_bytes
        For an index, the counts of `halfpipe.decode.announced.compare_with_events`.
    """

    name: str
    ground: str
    run: RunId
    apid: int
    size: int
    sha256: str
    events: int = 0
    datagrams: int = 0
    announced: int = 0
    missing_events: int = 0
    stray_events: int = 0
    uncovered_bytes: int = 0

    @property
    def suffix(self) -> str:
        """Its kind: `EVT`, `INDEX` or `ROWS`."""
        return Path(self.name).suffix


class DecoderLog(Stored, frozen=True):
    """What a decoder reported: the runs that it processed, its exceptions by run and kind, and their first lines."""

    processing: tuple[str, ...] = ()
    exceptions: dict[RunId, dict[str, int]] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    @property
    def by_kind(self) -> dict[str, int]:
        """The number of exceptions of each kind."""
        found: dict[str, int] = {}
        for kinds in self.exceptions.values():
            for kind, number in kinds.items():
                found[kind] = found.get(kind, 0) + number
        return dict(sorted(found.items()))


class Hour(Stored, frozen=True, order=True):
    """An hour of level-0 of one APID: its directory, relative to the archive's root."""

    hour: str
    apid: int


class HourFiles(Stored, frozen=True):
    """The level-0 files of an hour and APID: size in bytes and mtime in whole Unix seconds, by name."""

    hour: str
    apid: int
    files: dict[str, tuple[int, int]] = field(default_factory=dict)


class Gap(Stored, frozen=True):
    """A time without datagrams inside a span of the RetDef, Unix seconds.

    `datagrams` is the count of numbers that are missing there, or None at an edge of a span, where it is unknown.
    """

    apid: int
    begin: float
    end: float
    datagrams: int | None = None


class Level0(Stored, frozen=True):
    """The level-0 of a chunk.

    Attributes
    ----------
    needed
        The number of hours that the spans of the RetDef touch, counted for each APID.
    missing
        Those without a file; None if the archive was not visible from the job.
    gaps
        Times without datagrams.
    """

    needed: int
    missing: tuple[Hour, ...] | None = None
    gaps: tuple[Gap, ...] = ()


class Chunk(Stored, frozen=True):
    """What the decoder made of one chunk.

    Attributes
    ----------
    downlink, chunk, retdef
        The chunk, and the SHA-256 of its RetDef.
    runs, files
        The runs that it contains, and its products.
    log, level0
        What the decoder reported, and which level-0 was there; `level0` is None for a chunk that was not decoded here.
    read
        The level-0 files that the decoder read.
    """

    downlink: DownlinkId
    chunk: ChunkId
    retdef: str
    runs: tuple[RunId, ...]
    files: tuple[Product, ...]
    log: DecoderLog = DecoderLog()
    level0: Level0 | None = None
    read: tuple[HourFiles, ...] = ()

    def indexes(self, run: RunId | None = None) -> Iterator[Product]:
        """Yield the indexes of one run, or of all."""
        return (file for file in self.files if file.suffix == INDEX and run in {None, file.run})

    def events(self, run: RunId) -> int:
        """Return the number of events of a run in its indexes."""
        return sum(file.events for file in self.indexes(run))

    @property
    def outcome(self) -> "Chunk":
        """The chunk without `read`, which depends on the times of files, and on where level-0 was read."""
        return replace(self, read=())

    @property
    def missing_hours(self) -> tuple[Hour, ...]:
        """The level-0 hours that were missing when it was decoded; none if that is unknown."""
        return (self.level0 and self.level0.missing) or ()

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The times without datagrams."""
        return self.level0.gaps if self.level0 else ()

    @property
    def missing_events(self) -> int:
        """The number of events that cannot be delivered.

        They are announced or in its event files and not in its indexes, or belong to a datagram without a line.
        """
        return sum(file.missing_events + file.stray_events for file in self.files)

    @property
    def is_short(self) -> bool:
        """Whether something is missing in it."""
        return bool(self.missing_hours or self.gaps or self.log.exceptions or self.missing_events)


def read_chunk(work: Path, downlink: str, chunk: str) -> Chunk:
    """Read the ``{chunk}.json`` of a chunk.

    Raises
    ------
    MissingInputError
        If the file does not exist.
    FormatError
        If the file cannot be read or is damaged.
    """
    return read_stored(work / paths.chunk(downlink, chunk), Chunk)
