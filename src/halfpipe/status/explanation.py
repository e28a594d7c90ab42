"""Why events of a run are not delivered, in words, and what brings them: of the run as it stands now."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.decode.shortfall import missing_hours
from halfpipe.downlink.submissions import Record
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files.json_files import read_json
from halfpipe.formats import met
from halfpipe.ids import ChunkId, DownlinkId, RunId, RunKind
from halfpipe.merge.decision import all_known, holding
from halfpipe.merge.intervals import join
from halfpipe.merge.late import late_rows
from halfpipe.merge.settle import KnownDatagrams, Segment
from halfpipe.merge.undelivered import Group, Kind, Lack, What, in_words, missing_at, undelivered
from halfpipe.run.datagrams import load_datagrams
from halfpipe.run.deliveries import Deliveries, Delivery
from halfpipe.run.downlinks_of_run import begun_downlinks, came, known_downlinks
from halfpipe.run.event_table import load_events
from halfpipe.settings import Settings
from halfpipe.status.account import Site
from halfpipe.words import count, lasted, utc

DAY = 86400.0
HELD = "held"  # of events that are due, where Level-1 would refuse the run


@dataclass(frozen=True)
class WaitsFor:
    """One thing that is waited for, and where it may be.

    `datagrams` are the first and the last number, no last one at the end of a stream, and None where no number is
    known. `downlink` and `chunk` announce this EPU of the run, or lack hours of it; None: nobody does.
    """

    apid: int | None
    what: str
    datagrams: tuple[int, int | None] | None
    downlink: DownlinkId | None = None
    chunk: ChunkId | None = None


@dataclass(frozen=True)
class Explained:
    """Events of one EPU that are not delivered, why, and what to do.

    `kind` is one of `halfpipe.merge.undelivered.Kind`, or `HELD`. `first` and `last` are sequences, `why` are
    sentences, `do` is the next command, empty if there is none.
    """

    run: RunId
    kind: str
    apid: int
    first: int
    last: int
    events: int
    waits_for: tuple[WaitsFor, ...]
    why: tuple[str, ...]
    do: str


@dataclass(frozen=True)
class OfRun:
    """A run as it stands.

    `delivered` counts the events that downlinks delivered, `repeated` the copies of events that came more than once.
    `unread` are downlinks whose events were cleaned up.
    """

    run: RunId
    l1_run: str
    kind: RunKind
    delivered: int
    repeated: int
    groups: tuple[Explained, ...]
    unread: tuple[DownlinkId, ...]

    def events(self, *kinds: str) -> int:
        """Count the events of some kinds."""
        return sum(group.events for group in self.groups if group.kind in kinds)


@dataclass
class State:
    """What is known of one run; each part is read when it is asked for."""

    site: Site
    run: RunId
    downlinks: list[DownlinkId] = field(init=False)

    def __post_init__(self) -> None:
        self.downlinks = known_downlinks(self.work, self.run)
        if not self.downlinks:
            raise MissingInputError(
                f"nothing is known of run {self.run} ({self.run.l1}): no downlink in {self.work / paths.run(self.run)} "
                "has brought any of it. Process the downlinks that announce it: snakemake"
            )

    @property
    def work(self) -> Path:
        """`paths.work`."""
        return self.site.work

    @cached_property
    def segments(self) -> Mapping[int, Sequence[Segment]]:
        """The segments of each EPU that was seen."""
        parts = (load_datagrams(self.work, self.run, dl) for dl in self.downlinks)
        return KnownDatagrams.together(parts).segments()

    @cached_property
    def unread(self) -> tuple[DownlinkId, ...]:
        """The downlinks whose events were cleaned up."""
        return tuple(dl for dl in self.downlinks if not (self.work / paths.events(self.run, dl)).exists())

    @cached_property
    def known(self) -> NDArray[np.void]:
        """All events that are known, in order and each once."""
        there = [dl for dl in self.downlinks if dl not in self.unread]
        events = {dl: load_events(self.work, self.run, dl).events for dl in there}
        return all_known(there, events)

    @cached_property
    def recorded(self) -> Mapping[DownlinkId, Sequence[Delivery]]:
        """The deliveries of each downlink that Level-1 may have, the oldest first."""
        deliveries = Deliveries(self.work, self.run)
        earlier = deliveries.earlier()
        return {dl: (*earlier.get(dl, ()), delivery) for dl, delivery in deliveries.latest().items()}

    @cached_property
    def groups(self) -> list[Group]:
        """The events that are not delivered, by reason."""
        settings = self.site.settings
        given_up = self.is_given_up and settings.retire.deliver_orphans
        return undelivered(
            self.segments, self.known, self.recorded, settings.merge, given_up=given_up, own=self.own
        )

    def own(self, downlink: DownlinkId) -> NDArray[np.void] | None:
        """Return the events that a downlink itself has brought; None if they were cleaned up."""
        if downlink not in self.downlinks or downlink in self.unread:
            return None
        return load_events(self.work, self.run, downlink).events

    @cached_property
    def late(self) -> list[NDArray[np.void]]:
        """The events that are late."""
        taken = join(s for records in self.recorded.values() for record in records for s in record.spans)
        is_taken = holding(self.known["sequence"], taken)
        return [rows for _, rows in late_rows(self.known, is_taken, self.recorded, self.own)]

    @property
    def is_given_up(self) -> bool:
        """Whether an operator has given the run up."""
        return self.run in self.site.given_up

    @cached_property
    def manifests(self) -> Mapping[DownlinkId, Mapping[str, Any]]:
        """The manifests of its downlinks."""
        found = {}
        for downlink in begun_downlinks(self.work, self.run):
            with suppress(MissingInputError):
                found[downlink] = read_json(self.work / paths.manifest(self.run, downlink))
        return found

    @cached_property
    def chunks(self) -> Sequence[tuple[DownlinkId, Mapping[str, Any]]]:
        """What vouches for the chunks that brought something of it, with their downlinks."""
        found = []
        for downlink in self.downlinks:
            for path in sorted((self.work / paths.chunks(downlink)).glob("*.json")):
                with suppress(HalfPipeError):
                    content = read_json(path)
                    if self.run in content["runs"]:
                        found.append((downlink, content))
        return found

    @property
    def lines(self) -> int:
        """How many events the chunks brought, each copy of one counted."""
        return sum(
            file["events"]
            for downlink, chunk in self.chunks
            if downlink not in self.unread
            for file in chunk["files"]
            if file["kind"] == "idx" and file["run"] == self.run
        )

    def sources(self, lack: Lack) -> Iterator[tuple[DownlinkId, ChunkId]]:
        """Yield the outstanding chunks that may contain what is lacking."""
        if lack.what is not What.EPU and lack.first is None:
            return  # nothing can come
        for each in self.site.announced.get(self.run, ()):
            apids = {span.apid for span in each.retdef.spans}
            if (lack.apid in apids) if lack.apid else apids - self.segments.keys():
                yield each.downlink, each.chunk

    def short_chunks(self, lack: Lack) -> Iterator[tuple[DownlinkId, ChunkId, list[str]]]:
        """Yield the chunks that were decoded without hours of level-0 of the EPU, with these hours."""
        for downlink, chunk in self.chunks:
            hours = [each["hour"] for each in missing_hours(chunk) if each["apid"] == lack.apid]
            if hours:
                yield downlink, ChunkId(chunk["chunk"]), hours

    def missing(self, lack: Lack) -> str:
        """Say what is missing."""
        return in_words(lack, self.segments, self.site.settings.merge.min_epus)

    @property
    def is_old(self) -> bool:
        """Whether it started so long ago that an open run is reported."""
        started = float(met.met_to_unix(self.run.met))
        return self.site.now - started > self.site.settings.retire.report_days * DAY

    @property
    def again(self) -> str:
        """The command that delivers of the run what is due."""
        last = self.downlinks[-1]
        forced = f" -R {paths.manifest(self.run, last)}" if last in self.manifests else ""
        return f"snakemake dl={last}{forced}"


def explain(site: Site, run: RunId) -> OfRun:
    """Explain what of a run is not delivered.

    Raises
    ------
    MissingInputError
        If nothing is known of it.
    HalfPipeError
        If what is known of it is damaged.
    """
    state = State(site, run)
    groups = tuple(_explained(state, group) for group in state.groups)
    delivered = sum(records[-1].events for records in state.recorded.values())
    return OfRun(
        run,
        run.l1,
        RunKind.of(state.segments),
        delivered,
        max(0, state.lines - len(state.known)),
        groups,
        state.unread,
    )


def runs_of(settings: Settings, downlink: DownlinkId) -> list[RunId]:
    """Return the runs that a downlink has brought something of.

    Raises
    ------
    MissingInputError
        If there is none.
    """
    home = settings.paths.work / paths.runs()
    found = sorted(
        RunId(path.parent.name) for path in home.glob(f"*/{downlink}") if RunId.matches(path.parent.name)
    )
    if not found:
        raise MissingInputError(
            f"downlink {downlink} has brought nothing yet that could be explained: halfpipe status {downlink}"
        )
    return found


def _explained(state: State, group: Group) -> Explained:
    held = [dl for dl, manifest in state.manifests.items() if manifest["held"]]
    waits: tuple[WaitsFor, ...] = ()
    kind: str = group.kind
    match group.kind:
        case Kind.ORPHAN:
            waits, why, do = _orphans(state, group.lacks)
        case Kind.WITHHELD:
            least = state.site.settings.merge.min_events
            why = (
                f"Their place is settled, but they are fewer than {least} beside each other (merge.min_events), and "
                "Level-1 refuses a run for so small a file.",
            )
            do = ""
        case Kind.LATE:
            assert group.inside is not None
            why, do = _late(state, group.inside)
        case Kind.DUE if held:
            kind = HELD
            why = (
                f"Level-1 would refuse the whole run, so downlink {held[-1]} staged nothing of it: "
                + "; ".join(state.manifests[held[-1]]["held"])
                + ". Fix this, then deliver the run again.",
            )
            do = f"snakemake dl={held[-1]} -R {paths.manifest(state.run, held[-1])}"
        case _:
            why, do = ("Nothing holds them now: the next delivery of the run takes them.",), state.again
    return Explained(state.run, kind, group.apid, group.first, group.last, group.events, waits, why, do)


def _orphans(state: State, lacks: Sequence[Lack]) -> tuple[tuple[WaitsFor, ...], tuple[str, ...], str]:
    if state.is_given_up:
        kept = "The run is abandoned, and retire.deliver_orphans keeps back what is not settled."
        return tuple(map(_waits_for, lacks)), (kept,), ""
    waits: list[WaitsFor] = []
    why = [f"{text[0].upper()}{text[1:]}." for text in map(state.missing, lacks)]
    pending: set[DownlinkId] = set()
    short: set[DownlinkId] = set()
    unknown = False
    for lack in lacks:
        epu = f"EPU {lack.apid}" if lack.apid else "another EPU"
        if found := list(state.sources(lack)):
            waits += [_waits_for(lack, *source) for source in found]
            pending.update(downlink for downlink, _ in found)
            why += [
                f"Chunk {chunk} of downlink {dl} contains data of {epu}, and is not processed yet."
                for dl, chunk in found
            ]
        elif decoded := list(state.short_chunks(lack)):
            waits += [_waits_for(lack, dl, chunk) for dl, chunk, _ in decoded]
            short.update(downlink for downlink, _, _ in decoded)
            why += [
                f"Chunk {chunk} of downlink {dl} was decoded without {count(len(hours), 'level-0 hour')} of {epu}: "
                f"{', '.join(hours)}. Have the archive completed."
                for dl, chunk, hours in decoded
            ]
        else:
            waits.append(_waits_for(lack))
            unknown = True
            if lack.what is What.EPU or lack.first is not None:
                why.append(f"No pending downlink contains data of {epu} for this run.")
    do = ""
    if pending:
        do = "snakemake " + " ".join(f"dl={downlink}" for downlink in sorted(pending))
    elif short:
        do = f"snakemake dl={min(short)} -R decode_chunk"
    elif unknown:
        why += ["The next downlink normally brings it.", *_how_long(state)]
        if state.is_old:
            why.append("Only if it never will, abandon the run.")
            do = f'halfpipe force {state.run} --reason "..."'
    return tuple(waits), tuple(dict.fromkeys(why)), do


def _how_long(state: State) -> Iterator[str]:
    """Say since when nothing of a run has come, and how long such waits took before."""
    if not (times := came(state.work, state.run)):
        return  # none of its downlinks is handed off
    said = f"Nothing of the run has come since {utc(times[-1])}"
    if past := state.site.past_waits:
        said += (
            f"; here the next downlink of a run came after {lasted(median(past))}, at most after {lasted(past[-1])} "
            f"({count(len(past), 'wait')})"
        )
    yield f"{said}."


def _waits_for(lack: Lack, downlink: DownlinkId | None = None, chunk: ChunkId | None = None) -> WaitsFor:
    numbers = None if lack.first is None else (lack.first, lack.last)
    return WaitsFor(lack.apid, lack.what, numbers, downlink, chunk)


def _late(state: State, inside: DownlinkId) -> tuple[tuple[str, ...], str]:
    why = [
        f"They came after downlink {inside} had delivered the events around them. No other file may overlap its files. "
        "Processed again, it takes them in."
    ]
    with suppress(HalfPipeError):
        if told := Record(state.work, inside).last_confirmed:
            why.append(
                f"Level-1 has hand-off {told.handoff} of it: have it rolled back, then halfpipe submit {inside} "
                "--record-rollback."
            )
    return tuple(why), f"snakemake dl={inside} -R {paths.manifest(state.run, inside)}"


@dataclass(frozen=True)
class Place:
    """One sequence of a run: what is known there, in words, and the groups that hold what is not delivered."""

    run: RunId
    sequence: int
    known: tuple[str, ...]
    groups: tuple[Explained, ...]


def explain_sequence(site: Site, run: RunId, sequence: int) -> Place:
    """Explain one sequence of a run: who delivered its events, or why nobody has.

    Raises
    ------
    MissingInputError, HalfPipeError
        As `explain`.
    """
    state = State(site, run)
    events = state.known[np.flatnonzero(state.known["sequence"] == sequence)]
    known: list[str] = []
    groups: list[Group] = []
    for event in events:
        apid = int(event["apid"])
        spans = [
            delivery
            for records in state.recorded.values()
            for delivery in records
            if any(span.first <= sequence <= span.last for span in delivery.spans)
        ]
        is_late = any(((rows["sequence"] == sequence) & (rows["apid"] == apid)).any() for rows in state.late)
        if spans and not is_late:
            files = [f.name for f in spans[-1].files if f.sequences[0] <= sequence <= f.sequences[1]]
            known.append(
                f"EPU {apid}: delivered by downlink {spans[-1].downlink} in {', '.join(files) or 'a file'}"
            )
            continue
        groups += [
            group
            for group in state.groups
            if group.apid == apid
            and group.first <= sequence <= group.last
            and (group.kind is Kind.LATE) == bool(spans)
        ]
    if not len(events):
        lacks = missing_at(state.segments, site.settings.merge.min_epus, sequence)
        known.append("no event of this sequence is known" + ("" if lacks else ", and no more can come"))
        known += [f"one may come: {state.missing(lack)}" for lack in lacks]
    return Place(run, sequence, tuple(known), tuple(_explained(state, group) for group in groups))


def together(groups: Iterable[Explained]) -> list[list[Explained]]:
    """Put groups together that have the same words, in the order of their first."""
    found: dict[tuple[object, ...], list[Explained]] = {}
    for group in groups:
        found.setdefault((group.kind, group.why, group.do), []).append(group)
    return list(found.values())
