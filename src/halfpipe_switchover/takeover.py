"""Takeover: record the legacy's downlinks as if HalfPipe had processed them.

Nothing is staged. For each run, the deliveries are recorded before the contents of the downlink. So nothing goes to
Level-1 twice if the takeover dies in between. A report shows what became of each downlink.
"""

import logging
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path

from msgspec.structs import replace

from halfpipe import paths
from halfpipe.decisions import Decisions, Subject, What, decide
from halfpipe.decode.chunk import Chunk, Product, read_chunk
from halfpipe.decode.chunk_products import check_products, no_merges, publish_products
from halfpipe.errors import ConfigError, FormatError, HalfPipeError
from halfpipe.files import leases, working_directory
from halfpipe.files.advice import advice
from halfpipe.files.durable import flushed_together, make_directory, remove_tree, write_bytes
from halfpipe.files.leases import Lease
from halfpipe.files.pointers import point
from halfpipe.files.reading import sha256
from halfpipe.files.typed import Stored, read_stored, values, write_stored
from halfpipe.ids import ChunkId, DownlinkId, RunId, RunKind
from halfpipe.ledger.moot_file import UNSET, moot_of
from halfpipe.merge.books import Books
from halfpipe.merge.intervals import Interval, intersect, join
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.notify.submissions import submissions
from halfpipe.settings import Settings
from halfpipe.state.attempts import Action, By, Outcome
from halfpipe.state.deliveries import Deliveries, Delivery, MootKey, Unreadable
from halfpipe.state.halts import OF_A_DOWNLINK
from halfpipe.state.hand_offs import NamedRun, Receipt, series
from halfpipe.state.merged_chunks import merged
from halfpipe.state.merged_index import MergedIndex, merge_chunks
from halfpipe.version import __version__
from halfpipe_switchover import legacy_force, legacy_tree
from halfpipe_switchover.legacy_tree import Known, LegacyDownlink, LegacyRun, handed_off

HANDOFF = 1  # number of the legacy's hand-off; HalfPipe's later ones have the numbers after it
ORIGIN = "legacy"  # of deliveries and hand-offs that were taken over
BATCH = 1000  # downlinks that are flushed to disk together
LEASE = f"{paths.LEASES}/takeover"  # one takeover at a time
MARK = paths.Place("{dl}/taken-over.json")

log = logging.getLogger(__name__)


DESCRIPTIONS = {
    Known.WHOLE: "contents and deliveries are known",
    Known.SPANS: "only the delivered sequences are known, because the chunk products are gone",
    Known.NOTHING: "no deliveries are recorded",
    Known.REFUSED: "the record of deliveries cannot be read, so nothing more of the run is delivered until it can",
}


class Mark(Stored, frozen=True):
    """A downlink that was taken over: its origin, time of its hand-off, and whether some of it could not be read."""

    home: str
    handed_off: str
    refused: bool = False


@dataclass
class Report:
    """What a takeover did, or would do if `done` is false.

    Attributes
    ----------
    root, done
        The legacy's tree, and whether something was written.
    taken, unchanged
        Number of downlinks that were taken over now, and before.
    left
        Downlinks that were not taken over, by reason.
    runs
        The runs of downlinks that were taken over now, by what is known of them in a downlink.
    refused
        Messages by downlink: records and chunk products that cannot be read, and failures.
    both
        Messages by downlink: sequences that the legacy and HalfPipe have both delivered.
    abandoned
        Runs that an operator abandoned in the legacy, but not here.
    switches
        Names of halt switches that were copied, by downlink.
    odd
        Other names in the tree.
    """

    root: Path
    done: bool
    taken: int = 0
    unchanged: int = 0
    left: dict[str, list[DownlinkId]] = field(default_factory=lambda: defaultdict(list))
    runs: dict[Known, set[RunId]] = field(default_factory=lambda: {known: set() for known in Known})
    refused: dict[DownlinkId, list[str]] = field(default_factory=lambda: defaultdict(list))
    both: dict[DownlinkId, list[str]] = field(default_factory=lambda: defaultdict(list))
    abandoned: list[RunId] = field(default_factory=list)
    switches: dict[DownlinkId, list[str]] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)


def _take(settings: Settings, home: Path, report: Report) -> Mark | None:
    """Take over a downlink of the legacy, or only report what would become of it if `report.done` is false.

    Nothing changes if HalfPipe processed the downlink, or if it was taken over completely and the legacy has not handed
    it off again. Returns the mark of a downlink that was taken over, which must be written after everything else is on
    disk.

    Raises
    ------
    LockedError
        If another process works on the downlink.
    HalfPipeError, OSError
        If something cannot be read or written. Re-running the command continues the takeover.
    """
    work = settings.paths.work
    do = report.done
    mark = Mark(str(home), handed_off(home))
    with suppress(HalfPipeError):
        if read_stored(work / MARK(home.name), Mark) == mark:
            report.unchanged += 1
            return None
    legacy = LegacyDownlink.at(home)
    if switches := [name for name in OF_A_DOWNLINK if name in legacy.names]:
        report.switches[legacy.id] = switches
    here = _processed_here(work, legacy.id)
    left = here or legacy.unfinished()
    begun = () if left and not here else sorted(legacy.begun)
    runs = [LegacyRun.at(home / str(run.met), run) for run in begun]
    _note_both(work, legacy, runs, report)
    if do and not here:
        for switch in switches:
            write_bytes(work / paths.halt(switch, legacy.id), (home / switch).read_bytes())
    if left:
        report.left[left.partition(":")[0]].append(legacy.id)
        return None
    with leases.downlink_job(settings, legacy.id) if do else nullcontext():
        chunks = list(_chunks(settings, legacy, report)) if do else []
        # Without `do`, the chunk products are not read.
        with_products = {run for chunk in chunks for run in chunk.runs} if do else legacy.with_products
        for run in runs:
            if run.refused:
                report.refused[legacy.id].append(f"run {run.run}: {run.refused}")
            elif run.run in with_products or (work / paths.datagrams(run.run, legacy.id)).exists():
                run.known = Known.WHOLE
            report.runs[run.known].add(run.run)
        if do:
            _write(settings, legacy, runs, chunks)
    report.taken += 1
    if do and settings.ledger.url is not None and any(run.known is Known.WHOLE for run in runs):
        from halfpipe.ledger.load import load_downlink  # noqa: PLC0415 - the library of the database

        # Level-1 uses the ledger to decide whether a run is complete.
        load_downlink(settings, legacy.id, sys.stderr)
    return replace(mark, refused=legacy.id in report.refused)


def _processed_here(work: Path, downlink: DownlinkId) -> str:
    """Return a text if a downlink was processed here, or has a receipt without records; empty if not."""
    made = series(work, downlink)
    ours = any(not made.typed(record, Receipt).origin for record in made.records)
    is_lost = (work / paths.receipt(downlink)).exists() and not made.records
    return "it was processed here" if ours or is_lost else ""


def _note_both(work: Path, legacy: LegacyDownlink, runs: list[LegacyRun], report: Report) -> None:
    """Report sequences that the legacy and HalfPipe both delivered, because the legacy continued after a takeover."""
    for run in runs:
        spans = join(span.sequences for span in run.spans)
        for downlink, delivery in sorted(Deliveries(work, run.run).latest().items()):
            if not delivery.origin and (common := intersect(spans, join(delivery.spans))):
                report.both[legacy.id].append(
                    f"sequences {common[0].first} to {common[-1].last} of run {run.run} were delivered by the "
                    f"legacy, and here by downlink {downlink}"
                )


def _chunks(settings: Settings, legacy: LegacyDownlink, report: Report) -> Iterator[Chunk]:
    """Check the chunk products, publish them as links, and yield each chunk."""
    work = settings.paths.work
    for chunk, products in sorted(legacy.products.items()):
        out = work / paths.chunk_scratch(legacy.id, chunk)
        remove_tree(out)
        out.mkdir(parents=True)
        try:
            if chunk not in legacy.retdefs:
                raise FormatError(f"{legacy.home}: chunk {chunk} has no RetDef")
            for name in products:
                (out / name).symlink_to((legacy.home / name).absolute())
            files = check_products(out, chunk, links=True)
        except (HalfPipeError, OSError) as error:
            why = str(error).replace(f"{out}/", f"{legacy.home}/")
            report.refused[legacy.id].append(f"chunk {chunk}: {why}")
        else:
            made = _chunk(legacy, chunk, files)
            make_directory(work, paths.chunks(legacy.id))
            write_bytes(work / paths.retdef(legacy.id, chunk), legacy.retdef(chunk).read_bytes())
            with no_merges(settings, legacy.id, chunk, log.warning):
                publish_products(out, work / paths.chunks(legacy.id), chunk)
            write_stored(work / paths.chunk(legacy.id, chunk), made)
            yield made
        remove_tree(out)


def _write(
    settings: Settings, legacy: LegacyDownlink, runs: list[LegacyRun], chunks: Sequence[Chunk]
) -> None:
    """Record what is known of a downlink: its runs first, then the receipt and the submission."""
    work = settings.paths.work
    downlink = legacy.id
    named = []
    for run in runs:
        with leases.run_lease(settings, run.run, log.warning):
            named.append(_write_run(work, legacy, run, chunks, _moot(legacy, run.run)))
    content = Receipt(
        downlink=downlink,
        handoff=HANDOFF,
        software=__version__,
        config=settings.provenance,
        chunks=tuple(_chunk_now(work, legacy, chunk) for chunk in legacy.retdefs),
        ignored=(),
        runs=tuple(named),
        texts=(),
        origin=ORIGIN,
    )
    recorded = series(work, downlink)
    last = recorded.records[-1] if recorded.records else None
    if last is None or recorded.typed(last, Receipt) != content:
        last = recorded.publish(values(content))
    # Level-1 has the legacy's hand-off, so a later one of HalfPipe needs a rollback.
    known = submissions(work, downlink)
    if not known.every:
        known.intend(
            (),
            action=Action.SUBMIT,
            handoff=HANDOFF,
            receipt=last.seal,
            outcome=Outcome.SUBMITTED,
            by=By.OTHER_SYSTEM,
            signed=(datetime.fromisoformat(handed_off(legacy.home)), "the legacy"),
        )
    point(work / paths.receipt(downlink), last)
    point(work / paths.submitted(downlink), known.series.records[-1])


def _chunk_now(work: Path, legacy: LegacyDownlink, chunk: ChunkId) -> Chunk:
    """Return a chunk that was taken over now or before; without files if its products are gone."""
    if (work / paths.chunk(legacy.id, chunk)).exists():
        return read_chunk(work, legacy.id, chunk)
    return _chunk(legacy, chunk, ())


def _chunk(legacy: LegacyDownlink, chunk: ChunkId, files: Sequence[Product]) -> Chunk:
    runs = tuple(sorted({file.run for file in files}))
    return Chunk(legacy.id, chunk, sha256(legacy.retdef(chunk)), runs, tuple(files))


def _moot(legacy: LegacyDownlink, run: RunId) -> MootKey:
    text = legacy.text("moot_keys")
    try:
        return moot_of(run, text if text.exists() else None)
    except HalfPipeError as error:
        log.warning("%s", error)
        return UNSET


def _write_run(
    work: Path, legacy: LegacyDownlink, run: LegacyRun, chunks: Sequence[Chunk], moot: MootKey
) -> NamedRun:
    """Record the deliveries of a run, then the contents of the downlink; return its entry in the receipt."""
    downlink = legacy.id
    index = _index(work, downlink, run, chunks)
    datagrams = index.datagrams if index else KnownDatagrams.of(())
    if run.datagrams is not None:  # the list of datagrams that were known when the legacy merged the run
        try:
            datagrams = KnownDatagrams.of(run.datagrams.read_bytes().split(b"\n")[:-1], str(run.datagrams))
        except HalfPipeError as error:  # the deliveries must be recorded in any case
            log.warning("%s", error)
    recorded = Deliveries(work, run.run)
    before = recorded.latest().get(downlink)
    if run.known is not Known.REFUSED or before is None:
        delivery = _delivery(downlink, run, datagrams, before)
        if index is not None:
            delivery = replace(delivery, chunks=index.chunks, index=index.seal)
        record = recorded.publish(replace(delivery, moot=moot))
        if run.known is Known.WHOLE:
            point(work / paths.manifest(run.run, downlink), record)
    if run.known is Known.REFUSED:
        text = f"the legacy's record of run {run.run} in downlink {downlink} cannot be read: {run.refused}"
        do = f"halfpipe takeover {legacy.home.parent} --do"
        recorded.publish(Unreadable(downlink, text, "restore it from a backup", do))
    if index is not None:
        index.save(work, run.run, downlink)
    seal = recorded.seal(downlink)
    assert seal is not None
    return NamedRun(run.run, seal, named=False)


def _index(work: Path, downlink: DownlinkId, run: LegacyRun, chunks: Sequence[Chunk]) -> MergedIndex | None:
    """Return the merged index of a run: of the chunk products, or of an earlier takeover if they are gone."""
    products = [made for chunk in chunks if (made := merged(chunk, run.run)).files]
    if products:
        return merge_chunks([(made, work / paths.chunks(downlink)) for made in products], {})[0]
    with suppress(HalfPipeError):  # the deliveries must be recorded in any case
        return MergedIndex.read(work, run.run, downlink)
    return None


def _delivery(
    downlink: DownlinkId, run: LegacyRun, datagrams: KnownDatagrams, before: Delivery | None
) -> Delivery:
    """Return the legacy's delivery. If a merged index is gone now, its number of events comes from `before`."""
    known = {span.sequences: span.events for span in before.counted} if before else {}
    segments = datagrams.segments()
    return Delivery(
        downlink=downlink,
        handoff=HANDOFF,
        spans=tuple(Interval(*span.sequences) for span in run.spans),
        datagrams=datagrams.ranges(),
        kind=str(RunKind.of(segments) if segments else run.kind),
        epus=tuple(sorted(segments)),
        complete=run.retired,
        books=Books(known=run.delivered + run.orphans, delivered=run.delivered, waiting=run.orphans),
        origin=ORIGIN,
        counted=tuple(
            span if span.events is not None else replace(span, events=known.get(span.sequences))
            for span in run.spans
        ),
    )


def takeover(
    settings: Settings,
    root: Path,
    *,
    do: bool,
    shown: Callable[[list[DownlinkId]], Iterable[DownlinkId]] = iter,
) -> Report:
    """Take over everything that the legacy has delivered, or only report it if `do` is false.

    Downlinks that were taken over before stay as they are. So a takeover that died can be run again, and a later one
    adds what the legacy has delivered since.

    Parameters
    ----------
    settings
        The settings.
    root
        The legacy's outputBase. Nothing is written there.
    do
        Whether to write.
    shown
        Wraps the downlinks, to show progress.

    Raises
    ------
    ConfigError
        If `root` cannot be read, or overlaps with a directory in which HalfPipe writes.
    LockedError
        If another takeover is running.
    """
    work = settings.paths.work
    root = root.absolute()
    for place in (work, settings.paths.stage):
        one = root.resolve()
        other = place.resolve()
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise ConfigError(
                f"{root}: HalfPipe writes in {place}, and never where the legacy's tree is. Name the legacy's "
                "outputBase, or set paths.work and paths.stage to places outside of it."
            )
    try:
        downlinks, odd = legacy_tree.downlinks(root)
    except OSError as error:
        raise ConfigError(f"{root}: {error.strerror}. {advice(error)}") from error
    report = Report(root, do, odd=odd)
    if do:
        working_directory.begin(work)
    lease = Lease.of(settings, LEASE)
    with lease.take("the takeover", log.warning, refuse=True) if do else nullcontext():
        _force(work, report)
        rest = iter(shown(downlinks))
        on_disk: dict[DownlinkId, Mark] = {}
        while (batch := list(islice(rest, BATCH))) or on_disk:
            with flushed_together() if do else nullcontext():
                for downlink, known in on_disk.items():
                    write_stored(work / MARK(downlink), known)
                on_disk = {}
                for downlink in batch:
                    try:
                        if (mark := _take(settings, root / downlink, report)) and do:
                            on_disk[downlink] = mark
                    except (HalfPipeError, OSError) as error:  # continue with the others
                        report.refused[downlink].append(str(error))
    return report


def _force(work: Path, report: Report) -> None:
    """Abandon the runs that an operator abandoned in the legacy."""
    decisions = Decisions.read(work)
    theirs = legacy_force.read(report.root)
    report.odd += theirs.refused
    report.abandoned += [run for run in theirs.runs if not decisions.is_abandoned(run)]
    for run in report.abandoned if report.done else ():
        subject = Subject(None, run=run)
        decide(work, What.ABANDONED, subject, None, "taken over from the legacy")
