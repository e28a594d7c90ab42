"""Why some events of a run are not delivered, and what to do."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from math import inf
from statistics import median

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.decode.chunk import Chunk, read_chunk
from halfpipe.decode.shortfall import arrived_since, shortfall_causes
from halfpipe.errors import HalfPipeError
from halfpipe.formats import met
from halfpipe.formats.retdef import read_retdef
from halfpipe.formats.structured import joined
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.undelivered import (
    Group,
    Lack,
    MissingPart,
    NotDelivered,
    in_words,
)
from halfpipe.notify.handoff_causes import how_to_roll_back
from halfpipe.notify.submissions import submissions
from halfpipe.settings import Settings
from halfpipe.state.downlinks_of_run import (
    every_run,
    handoff_times,
)
from halfpipe.status.known import Known
from halfpipe.status.survey import Survey
from halfpipe.words import count, grouped, lasted, utc

DAY = 86400.0
REFUSED = "refused"  # kind of due events, if Level-1 would refuse the run
KINDS = (*NotDelivered, REFUSED)


@dataclass(frozen=True)
class WaitsFor:
    """Missing data that events wait for, and the chunk that may contain them.

    `datagrams` are the first and the last number (None at the end of a stream), or None if no number is known.
    `downlink` and `chunk` are an outstanding chunk with this EPU of the run, or one that lacks hours of it; or None.
    """

    apid: int | None
    what: str
    datagrams: tuple[int, int | None] | None
    downlink: DownlinkId | None = None
    chunk: ChunkId | None = None


@dataclass(frozen=True)
class Explained:
    """Events of one EPU that are not delivered, why, and what to do.

    `kind` is one of `KINDS`. `first` and `last` are sequences, `why` are sentences, `do` is the next command, or empty.
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


class State(Known):
    """What is known of one run, why some of its events are not delivered, and what to do; `survey` has all runs."""

    def __init__(self, survey: Survey, run: RunId) -> None:
        deliveries = survey.deliveries(run)
        super().__init__(survey.settings, survey.decisions, run, deliveries)
        self.survey = survey

    @cached_property
    def groups(self) -> tuple[Explained, ...]:
        """The events that are not delivered, by reason."""
        return tuple(_explained(self, group) for group in self.undelivered)

    def count(self, *kinds: str) -> int:
        """Count the events of some kinds that are not delivered."""
        return sum(group.events for group in self.groups if group.kind in kinds)

    @cached_property
    def refused(self) -> Mapping[DownlinkId, Sequence[str]]:
        """Why Level-1 would refuse the run, by the downlinks that staged none of it for that reason."""
        latest = self.deliveries.latest().items()
        return {downlink: delivery.refused for downlink, delivery in latest if delivery.refused}

    @cached_property
    def chunks(self) -> Sequence[Chunk]:
        """The decoded chunks that contain the run, or would contain it if no level-0 were missing."""
        found = []
        for downlink in self.downlinks:
            for path in sorted((self.work / paths.chunks(downlink)).glob("*.json")):
                with suppress(HalfPipeError):
                    found.append(read_chunk(self.work, downlink, path.stem))
        return [chunk for chunk in found if self.run in chunk.runs or self._is_announced_in(chunk)]

    def _is_announced_in(self, chunk: Chunk) -> bool:
        """Tell whether the RetDef of a chunk that lacks level-0 is for the run."""
        with suppress(HalfPipeError):
            file = self.work / paths.retdef(chunk.downlink, chunk.chunk)
            return bool(chunk.missing_hours or chunk.gaps) and read_retdef(file).run == self.run
        return False

    @cached_property
    def short(self) -> Sequence[Chunk]:
        """Those of its chunks that lack level-0 for which a person must act."""
        return [chunk for chunk in self.chunks if [*without_level0(self.survey, [chunk])]]

    def sources(self, lack: Lack) -> Iterator[tuple[DownlinkId, ChunkId]]:
        """Yield the outstanding chunks that may contain the missing data."""
        for each in self.survey.announced.get(self.run, ()) if can_come(lack) else ():
            apids = {span.apid for span in each.retdef.spans}
            if (lack.apid in apids) if lack.apid else apids - self.segments.keys():
                yield each.downlink, each.chunk

    def lies_in(self, lack: Lack, chunk: Chunk) -> bool:
        """Tell whether missing datagrams belong into a gap of a decoded chunk, by their times."""
        gaps = [gap for gap in chunk.gaps if gap.apid == lack.apid]
        if not gaps:
            return False
        rows = joined([each.rows for each in self.datagrams.values()])
        rows = rows[rows.apid == lack.apid]
        begin = rows.utc[rows.datagram < (lack.first or 0)].max(initial=0.0)
        end = rows.utc[rows.datagram > (inf if lack.last is None else lack.last)].min(initial=inf)
        return any(gap.begin < end and begin < gap.end for gap in gaps)

    def again(self, downlink: DownlinkId) -> str:
        """Return the command by which a downlink delivers its due events of the run."""
        forced = f" -R {paths.manifest(self.run, downlink)}" if self.deliveries.seal(downlink) else ""
        return f"snakemake dl={downlink}{forced}"


def without_level0(survey: Survey, chunks: Iterable[Chunk]) -> Iterator[tuple[DownlinkId, Cause]]:
    """Yield the causes for level-0 that is missing in chunks, or arrived later, and for which a person must act."""
    for downlink, of in grouped((chunk.downlink, chunk) for chunk in chunks).items():
        for cause in shortfall_causes(
            survey.decisions, downlink, [(chunk, arrived_since(survey.settings, chunk)) for chunk in of]
        ):
            if cause.code.startswith("level0") and cause.verdict is Verdict.ACTION:
                yield downlink, cause


def can_come(lack: Lack) -> bool:
    """Tell whether the missing data may still arrive."""
    return lack.what is MissingPart.EPU or lack.first is not None


def runs_of(settings: Settings, downlink: DownlinkId) -> list[RunId]:
    """Return the runs that a downlink contains; none before they are merged."""
    work = settings.paths.work
    return [run for run in every_run(work) if (work / paths.run(run) / downlink).exists()]


def _explained(state: State, group: Group) -> Explained:
    kind = str(group.kind)
    waits = list[WaitsFor]()
    do = ""
    refused = state.refused
    match group.kind:
        case NotDelivered.WAITING:
            waits, why, do = _waiting(state, group.lacks)
        case NotDelivered.WITHHELD:
            least = state.settings.merge.min_events
            why = [
                f"They are settled, but fewer than {least} in a row (merge.min_events), and Level-1 refuses a run with "
                "so small a file."
            ]
        case NotDelivered.LATE:
            assert group.inside is not None
            why = _late(state, group.inside)
            do = state.again(group.inside)
        case NotDelivered.CLOSED:
            assert group.inside is not None
            why = [
                f"Downlink {group.inside} delivered these sequences before and does not deliver them now. They stay "
                "closed to other downlinks, because Level-1 may have these events. Have Level-1 roll the downlink "
                "back, then reopen the sequences and deliver the run again."
            ]
            do = f'halfpipe accept {group.inside}/{state.run} reopened --reason "..."'
        case NotDelivered.DUE if refused:
            downlink, reasons = [*refused.items()][-1]
            kind = REFUSED
            do = state.again(downlink)
            why = [
                f"Level-1 would refuse the whole run, so downlink {downlink} staged none of it: "
                f"{'; '.join(reasons)}. Fix this, then deliver the run again."
            ]
        case _:
            why = ["Nothing holds them back now: the next delivery of the run includes them."]
            do = state.again(state.downlinks[-1])
    numbers = (group.apid, group.first, group.last, group.events)
    return Explained(state.run, kind, *numbers, tuple(waits), tuple(dict.fromkeys(why)), do)


def _waiting(state: State, lacks: Sequence[Lack]) -> tuple[list[WaitsFor], list[str], str]:
    waits = list[WaitsFor]()
    pending = set[DownlinkId]()
    short = set[DownlinkId]()
    least = state.settings.merge.min_epus
    texts = [in_words(lack, state.segments, least) for lack in lacks]
    why = [f"{text[0].upper()}{text[1:]}." for text in texts]
    for lack in lacks:
        epu = f"EPU {lack.apid}" if lack.apid else "another EPU"
        found = list(state.sources(lack))
        for dl, chunk in found:
            pending.add(dl)
            why.append(
                f"Chunk {chunk} of downlink {dl} contains data of {epu} and has not been processed yet."
            )
        lacking_it = [] if found else [each for each in state.short if state.lies_in(lack, each)]
        for dl, cause in without_level0(state.survey, lacking_it):
            short.add(dl)
            why.append(f"Downlink {dl}: {cause.text}.")
        found += [(each.downlink, each.chunk) for each in lacking_it]
        if not found and can_come(lack):
            why += _nowhere(state, epu)
        numbers = None if lack.first is None else (lack.first, lack.last)
        lacking = (lack.apid, lack.what, numbers)
        waits += [WaitsFor(*lacking, *source) for source in found] or [WaitsFor(*lacking)]
    if state.is_abandoned:
        return waits, ["The run is abandoned, and retire.deliver_waiting keeps back what is not settled."], ""
    if pending:
        return waits, why, "snakemake " + " ".join(f"dl={downlink}" for downlink in sorted(pending))
    if short:
        return waits, why, f"snakemake dl={min(short)} -R decode_chunk"
    if state.survey.unread:
        return waits, why, "halfpipe status"
    why.append("The missing data normally come with the next downlink.")
    if times := handoff_times(state.work, state.run):
        said = f"No more data of the run have arrived since {utc(times[-1])}"
        if past := state.survey.past_waits:
            said += (
                f"; here the next downlink of a run usually comes after {lasted(median(past))}, at most after "
                f"{lasted(past[-1])} ({count(len(past), 'wait')})"
            )
        why.append(f"{said}.")
    started = met.met_to_unix(state.run.met)
    if state.survey.now - started <= state.settings.retire.report_days * DAY:
        return waits, why, ""
    return (
        waits,
        [*why, "Abandon the run only if the data will never arrive."],
        f'halfpipe accept {state.run} abandoned --reason "..."',
    )


def _nowhere(state: State, epu: str) -> list[str]:
    """Return why missing data of an EPU are in no pending downlink, as far as this is known."""
    if unread := state.survey.unread:
        return [
            f"{unread[0]} is missing or cannot be read, so it is not known whether a pending downlink contains data of "
            f"{epu} for this run."
        ]
    left_out = [
        f"Chunk {chunk} of downlink {dl}, which may have them, is left out: {reason}."
        for dl in state.downlinks
        for chunk, reason in state.survey.decisions.left_out(dl).items()
    ]
    return [f"No pending downlink contains data of {epu} for this run.", *left_out]


def _late(state: State, inside: DownlinkId) -> list[str]:
    why = [
        f"They arrived after downlink {inside} had delivered the events around them. No other file may overlap the "
        "files of this downlink. If it is processed again, its files will include these events."
    ]
    with suppress(HalfPipeError):
        if told := submissions(state.work, inside).last_confirmed:
            why.append(
                f"Level-1 has hand-off {told.handoff} of it, and takes the next one only after a rollback: "
                f"{how_to_roll_back(state.settings, inside)}."
            )
    return why


def together(groups: Iterable[Explained]) -> list[list[Explained]]:
    """Put together the groups with the same kind, reasons and command, in order of first appearance."""
    return list(grouped(((group.kind, group.why, group.do), group) for group in groups).values())
