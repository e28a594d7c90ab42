"""What stands in a receipt, key by key; it holds no clock, host or duration."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict


class Text(TypedDict):
    """A text of the hand-off."""

    # Its name in the stage directory of the downlink.
    name: str
    # Bytes.
    size: int
    # SHA-256.
    sha256: str


class EventFile(TypedDict):
    """An event file that was delivered."""

    # Its name in the run's directory, r<run>-e<first sequence>.evt.
    name: str
    # How many events it holds.
    events: int
    # Sequences of its first and last event.
    sequences: list[int]
    # Time-tone seconds (MET) of its first and last event.
    seconds: list[int]
    # Bytes.
    size: int
    # SHA-256.
    sha256: str


class Product(TypedDict):
    """A file that the decoder made."""

    # Its name, <ground id>-<run>-<apid>-<chunk>.{evt,idx}.
    name: str
    # Ground id of the acquisition, eight hex digits.
    ground: str
    # The run, MET seconds of its start as eight hex digits.
    run: str
    # The APID, four digits.
    apid: str
    # Bytes.
    size: int
    # SHA-256.
    sha256: str


class Events(Product):
    """Event records."""

    # Which kind of product it is.
    kind: Literal["evt"]


class Index(Product):
    """An index of event records."""

    # Which kind of product it is.
    kind: Literal["idx"]
    # How many events it lists.
    events: int
    # How many datagrams it lists.
    datagrams: int
    # How many events its datagrams announce, or its event files hold if these are more; not known of what an
    # earlier version decoded, as the next three.
    announced: NotRequired[int]
    # How many of them it does not list.
    missing_events: NotRequired[int]
    # How many events it lists that no datagram announces.
    unannounced_events: NotRequired[int]
    # Bytes of its event files that none of its lines covers.
    uncovered_bytes: NotRequired[int]


class DecoderLog(TypedDict):
    """What the decoder said."""

    # Ground id and run of everything that it said it was processing.
    processing: list[str]
    # How many exceptions of each kind it reported: in the contents of a datagram, in a packet file, in what was
    # retrieved from the archive.
    exceptions: dict[Literal["DFI", "PktFile", "PktRetriever"], int]
    # The same by the run that it was processing, then by kind.
    exceptions_by_run: dict[str, dict[str, int]]
    # The exceptions in its words; of very many only the first, the job's log has them all.
    lines: list[str]


class Hour(TypedDict):
    """An hour of an APID of which the level-0 archive had no file."""

    # Its directory, relative to the archive's root.
    hour: str
    # The APID.
    apid: int


class Level0(TypedDict):
    """What of the level-0 archive a chunk needs."""

    # How many hours of an APID its spans need.
    needed: int
    # Those that the archive did not have when the chunk was decoded; null if it could not be looked at.
    missing: list[Hour] | None


class Chunk(TypedDict):
    """A chunk of the downlink."""

    # The chunk, five digits.
    chunk: str
    # SHA-256 of its RetDef.
    retdef: str
    # The runs that the decoder brought, in order; none where its products were gone when it was taken over.
    runs: list[str]
    # The decoder's products, in order of their names.
    files: list[Events | Index]
    # What the decoder said.
    said: DecoderLog
    # The hours of level-0 that it needs, and those that were missing; not known of what an earlier version decoded.
    level0: NotRequired[Level0]


class Ignored(TypedDict):
    """A chunk that somebody decided to do without."""

    # The chunk, five digits.
    chunk: str
    # Why, as ignore.chunks of the config says.
    reason: str


class Moot(TypedDict):
    """A MOOT configuration."""

    # Its key; 4294967280 if nobody knows one.
    key: int
    # Its alias; LSEWRITER_UNSET if nobody knows one.
    alias: str


class Verdict(TypedDict):
    """The verdict of Level-1's test on all event files of a run from all downlinks."""

    # Whether Level-1 takes the run.
    accepts: bool
    # If not, why, a sentence each.
    why: list[str]


class FromManifest(TypedDict):
    """What a receipt says of a run in the words of its manifest."""

    # The run, MET seconds of its start as eight hex digits.
    run: str
    # Its name towards Level-1.
    l1_run: str
    # LPA if all its APIDs are 955 to 958, else LCI.
    kind: Literal["LPA", "LCI"]
    # The EPUs, by APID, of which a datagram is known from any downlink.
    epus: list[int]
    # Whether enough EPUs are seen and each is known from its start to its close.
    complete: bool
    # Whether an operator has given the incomplete run up, by a file in force/.
    given_up: bool
    # Events that are known of the run, each once; of what was cleaned up what others recorded. The sum of delivered,
    # orphans, late, held_events and elsewhere should give the same.
    known: int
    # Events that this downlink delivered.
    delivered: int
    # Events that nobody has delivered yet, the withheld included.
    orphans: int
    # Settled events that are too few beside each other to make a file that Level-1 takes.
    withheld: int
    # Events inside what other downlinks had delivered before these events turned up, also those of a datagram of
    # which the other downlink had a part.
    late: int
    # Events that this downlink would deliver if the run were not held.
    held_events: int
    # Events that other downlinks delivered.
    elsewhere: int
    # Events that this downlink delivered before and no longer delivers.
    shrunk: int
    # The reason for which that was accepted, as shrink.accept of the config says; null: nothing was.
    accepted: str | None
    # What earlier deliveries of this downlink covered beyond this one: closed to other downlinks until `halfpipe
    # force --reopen`.
    closed: list[list[int]]
    # The event files that this downlink delivered of the run, in order of their sequences.
    files: list[EventFile]
    # First and last delivered sequence of each file series.
    spans: list[list[int]]
    # Upper edge of one settled interval and lower edge of the next.
    gaps: list[list[int]]
    # Unix UTC seconds of the first and the last event delivered, in order of sequence; null without one.
    times: list[float] | None
    # The MOOT configuration that the event files carry.
    moot: Moot
    # Chunks that the merge had to do without, and why.
    missing: list[str]
    # The hand-off for which the run was delivered last.
    handoff: int
    # The record of its latest delivery by this downlink, by its checksum; null: it never delivered any of it.
    delivery: str | None


class Run(FromManifest):
    """A run of the downlink."""

    # Whether Level-1 would refuse the run, so that nothing of it was staged or recorded this time; what an earlier
    # hand-off delivered stands.
    held: bool
    # The verdict of Level-1's test on all event files of the run from all downlinks.
    l1: Verdict
    # If the legacy delivered the run: what is known of that. Whole: its datagrams, events and spans; spans: only
    # these; nothing: it recorded none; refused: its record cannot be read.
    taken_over: NotRequired[Literal["whole", "spans", "nothing", "refused"]]
    # First and last sequence of each span that the legacy recorded, and the events of its merged index; null if
    # that is gone.
    legacy: NotRequired[list[list[int | None]]]
    # How many known events are in none of the counts; there only if some are, and HalfPipe has a defect.
    unaccounted: NotRequired[int]
    # Whether the texts of this hand-off name the run, since all its files lay in the stage.
    named: bool


class Software(TypedDict):
    """What made a receipt."""

    # The version of the project.
    halfpipe: str


class Receipt(TypedDict):
    """What was delivered of one downlink, withheld, held and why, with checksums."""

    # True if the downlink was taken over from the legacy: nothing of it was staged here.
    taken_over: NotRequired[bool]
    # The downlink, nine digits, YYMMDDnnn.
    downlink: str
    # The number of this hand-off of the downlink, from 1; a receipt that is made again alone keeps its number.
    handoff: int
    # Why this hand-off was made, if somebody said so (`reason` of the config).
    reason: NotRequired[str]
    # True if the data are SIMULATED; flight data say nothing.
    simulated: NotRequired[bool]
    # What made it.
    software: Software
    # What of the configuration shaped the products (`Settings.provenance`); config/README.md has each key.
    config: dict[str, dict[str, Any]]
    # The chunks of the downlink in order, but those that are ignored.
    chunks: list[Chunk]
    # Chunks that somebody decided to do without.
    ignored: list[Ignored]
    # The runs of the downlink in order.
    runs: list[Run]
    # The texts of the hand-off, in order of their names.
    texts: list[Text]
