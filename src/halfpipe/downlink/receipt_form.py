"""What stands in a receipt, key by key; it holds no clock, host or duration."""

from typing import Annotated, Any, Literal, NotRequired

from typing_extensions import TypedDict

from halfpipe.ids import Apid, ChunkId, DownlinkId, RunId
from halfpipe.settings import Bound

Count = Annotated[int, Bound(ge=0)]
Sequence = Annotated[int, Bound(ge=0, le=2**64 - 1)]
Span = Annotated[list[Sequence], Bound(min_length=2, max_length=2)]
Second = Annotated[int, Bound(ge=0, le=2**32 - 1)]
Sha256 = Annotated[str, Bound(min_length=64, max_length=64)]
Words = Annotated[str, Bound(min_length=1)]


class Text(TypedDict):
    """A text of the hand-off."""

    name: Words
    """Its name in the stage directory of the downlink."""
    size: Count
    """Bytes."""
    sha256: Sha256
    """SHA-256."""


class EventFile(TypedDict):
    """An event file that was delivered."""

    name: Words
    """Its name in the run's directory, r<run>-e<first sequence>.evt."""
    events: Annotated[int, Bound(ge=1)]
    """How many events it holds."""
    sequences: Span
    """Sequences of its first and last event."""
    seconds: Annotated[list[Second], Bound(min_length=2, max_length=2)]
    """Time-tone seconds (MET) of its first and last event."""
    size: Annotated[int, Bound(ge=176)]
    """Bytes."""
    sha256: Sha256
    """SHA-256."""


class Product(TypedDict):
    """A file that the decoder made."""

    name: Words
    """Its name, <ground id>-<run>-<apid>-<chunk>.{evt,idx}."""
    ground: Annotated[str, Bound(min_length=8, max_length=8)]
    """Ground id of the acquisition, eight hex digits."""
    run: Annotated[str, RunId]
    """The run, MET seconds of its start as eight hex digits."""
    apid: Annotated[str, Apid]
    """The APID, four digits."""
    size: Count
    """Bytes."""
    sha256: Sha256
    """SHA-256."""


class Events(Product):
    """Event records."""

    kind: Literal["evt"]
    """Which kind of product it is."""


class Index(Product):
    """An index of event records."""

    kind: Literal["idx"]
    """Which kind of product it is."""
    events: Count
    """How many events it lists."""
    datagrams: Count
    """How many datagrams it lists."""
    whole: bool
    """Whether its events fill their evt files without a hole."""
    announced: NotRequired[Count]
    """How many events its datagrams announce, or its event files hold if these are more; not known of what an earlier
    version decoded, as the next three."""
    missing_events: NotRequired[Count]
    """How many of them it does not list."""
    unannounced_events: NotRequired[Count]
    """How many events it lists that no datagram announces."""
    uncovered_bytes: NotRequired[Count]
    """Bytes of its event files that none of its lines covers."""


class DecoderLog(TypedDict):
    """What the decoder said."""

    processing: list[Annotated[str, Bound(min_length=17, max_length=17)]]
    """Ground id and run of everything that it said it was processing."""
    exceptions: dict[Literal["DFI", "PktFile", "PktRetriever"], Annotated[int, Bound(ge=1)]]
    """How many exceptions of each kind it reported: in the contents of a datagram, in a packet file, in what was
    retrieved from the archive."""
    exceptions_by_run: dict[Annotated[str, RunId], dict[str, Annotated[int, Bound(ge=1)]]]
    """The same by the run that it was processing, then by kind."""
    lines: list[str]
    """The exceptions in its words; of very many only the first, the job's log has them all."""


class Hour(TypedDict):
    """An hour of an APID of which the level-0 archive had no file."""

    hour: Words
    """Its directory, relative to the archive's root."""
    apid: Annotated[int, Bound(ge=955, le=968)]
    """The APID."""


class Level0(TypedDict):
    """What of the level-0 archive a chunk needs."""

    needed: Count
    """How many hours of an APID its spans need."""
    missing: list[Hour] | None
    """Those that the archive did not have when the chunk was decoded; null if it could not be looked at."""


class Chunk(TypedDict):
    """A chunk of the downlink."""

    chunk: Annotated[str, ChunkId]
    """The chunk, five digits."""
    retdef: Sha256
    """SHA-256 of its RetDef."""
    runs: list[Annotated[str, RunId]]
    """The runs that the decoder brought, in order; none if it wrote nothing."""
    files: list[Events | Index]
    """The decoder's products, in order of their names."""
    said: DecoderLog
    """What the decoder said."""
    level0: NotRequired[Level0]
    """The hours of level-0 that it needs, and those that were missing; not known of what an earlier version decoded."""


class Ignored(TypedDict):
    """A chunk that somebody decided to do without."""

    chunk: Annotated[str, ChunkId]
    """The chunk, five digits."""
    reason: Annotated[str, Bound(min_length=3)]
    """Why, as ignore.chunks of the config says."""


class Moot(TypedDict):
    """A MOOT configuration."""

    key: Annotated[int, Bound(ge=0, le=2**32 - 1)]
    """Its key; 4294967280 if nobody knows one."""
    alias: Words
    """Its alias; LSEWRITER_UNSET if nobody knows one."""


class Verdict(TypedDict):
    """The verdict of Level-1's test on all event files of a run from all downlinks."""

    accepts: bool
    """Whether Level-1 takes the run."""
    why: list[Words]
    """If not, why, a sentence each."""


class FromManifest(TypedDict):
    """What a receipt says of a run in the words of its manifest."""

    run: Annotated[str, RunId]
    """The run, MET seconds of its start as eight hex digits."""
    l1_run: Annotated[str, Bound(min_length=11, max_length=11)]
    """Its name towards Level-1."""
    kind: Literal["LPA", "LCI"]
    """LPA if all its APIDs are 955 to 958, else LCI."""
    epus: list[Annotated[int, Bound(ge=955, le=968)]]
    """The EPUs, by APID, of which a datagram is known from any downlink."""
    complete: bool
    """Whether enough EPUs are seen and each is known from its start to its close."""
    given_up: bool
    """Whether an operator has given the incomplete run up, by a file in force/."""
    known: Count
    """Events that are known of the run: the sum of delivered, orphans, late, held_events and elsewhere. Receipts of
    the version before have here the events that the known datagrams say they hold."""
    delivered: Count
    """Events that this downlink delivered."""
    orphans: Count
    """Events that nobody has delivered yet, the withheld included."""
    withheld: Count
    """Settled events that are too few beside each other to make a file that Level-1 takes."""
    late: Count
    """Events inside what other downlinks had delivered before these events turned up."""
    held_events: Count
    """Events that this downlink would deliver if the run were not held."""
    elsewhere: Count
    """Events that other downlinks delivered."""
    shrunk: Count
    """Events that this downlink delivered before and no longer delivers."""
    accepted: Words | None
    """The reason for which that was accepted, as shrink.accept of the config says; null: nothing was."""
    closed: list[Span]
    """What earlier deliveries of this downlink covered beyond this one: closed to other downlinks until
    `halfpipe force --reopen`."""
    why: list[Words]
    """In words, why events of the run were not delivered."""
    files: list[EventFile]
    """The event files that this downlink delivered of the run, in order of their sequences."""
    spans: list[Span]
    """First and last delivered sequence of each file series."""
    gaps: list[Span]
    """Upper edge of one settled interval and lower edge of the next."""
    times: Annotated[list[float], Bound(min_length=2, max_length=2)] | None
    """Unix UTC seconds of the first and the last event delivered, in order of sequence; null without one."""
    moot: Moot
    """The MOOT configuration that the event files carry."""
    missing: list[Words]
    """Chunks that the merge had to do without, and why."""
    handoff: Annotated[int, Bound(ge=1)]
    """The hand-off for which the run was delivered last."""
    delivery: Sha256 | None
    """The record of its latest delivery by this downlink, by its checksum; null: it never delivered any of it."""


class Run(FromManifest):
    """A run of the downlink."""

    held: bool
    """Whether Level-1 would refuse the run, so that nothing of it was staged or recorded this time; what an
    earlier hand-off delivered stands."""
    l1: Verdict
    """The verdict of Level-1's test on all event files of the run from all downlinks."""
    taken_over: NotRequired[Literal["whole", "spans", "nothing", "refused"]]
    """If the legacy delivered the run: what is known of that. Whole: its datagrams, events and spans; spans: only
    these; nothing: it recorded none; refused: its record cannot be read."""
    legacy: NotRequired[list[Annotated[list[int | None], Bound(min_length=3, max_length=3)]]]
    """First and last sequence of each span that the legacy recorded, and the events of its merged index; null if that
    is gone."""
    named: bool
    """Whether the texts of this hand-off name the run, since all its files lay in the stage."""


class Software(TypedDict):
    """What made a receipt."""

    halfpipe: Words
    """The version of the project."""


class Receipt(TypedDict):
    """What was delivered of one downlink, withheld, held and why, with checksums."""

    taken_over: NotRequired[bool]
    """True if the downlink was taken over from the legacy: nothing of it was staged here."""
    downlink: Annotated[str, DownlinkId]
    """The downlink, nine digits, YYMMDDnnn."""
    handoff: Annotated[int, Bound(ge=1)]
    """The number of this hand-off of the downlink, from 1; a receipt that is made again alone keeps its number."""
    reason: NotRequired[Words]
    """Why this hand-off was made, if somebody said so (`reason` of the config)."""
    software: Software
    """What made it."""
    config: dict[str, dict[str, Any]]
    """What of the configuration shaped the products (`Settings.provenance`); config/README.md has each key."""
    chunks: list[Chunk]
    """The chunks of the downlink in order, but those that are ignored."""
    ignored: list[Ignored]
    """Chunks that somebody decided to do without."""
    runs: list[Run]
    """The runs of the downlink in order."""
    texts: list[Text]
    """The texts of the hand-off, in order of their names."""
