"""Takeover: record the legacy's downlinks as if HalfPipe had processed them.

Nothing is staged. For each run, the deliveries are recorded before the contents of the downlink. So nothing goes to
Level-1 twice if the takeover dies in between. A report shows what became of each downlink.
"""

import logging
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from halfpipe.run.receipt_file import publish_receipt, series

from halfpipe import paths
from halfpipe.decode.chunk_products import check_products, no_merges, publish_products
from halfpipe.downlink import receipt
from halfpipe.downlink.halts import OF_A_DOWNLINK
from halfpipe.downlink.submissions import submissions
from halfpipe.downlink.submit import product
from halfpipe.errors import ConfigError, FormatError, HalfPipeError
from halfpipe.files import leases, working_directory
from halfpipe.files.advice import advice
from halfpipe.files.durable import flushed_together, make_directory, remove_tree, write_bytes
from halfpipe.files.json_files import read_json, write_json
from halfpipe.files.leases import Lease
from halfpipe.files.reading import sha256
from halfpipe.ids import ChunkId, DownlinkId, RunId, RunKind
from halfpipe.merge.intervals import Interval, intersect, join
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.process.attempts import Action, By, Outcome
from halfpipe.run import abandoned_runs
from halfpipe.run.deliveries import Deliveries, Delivery, Unreadable
from halfpipe.run.merged_index import ChunkProducts, merge_chunks
from halfpipe.run.moot_keys import UNSET, MootKey, moot_of
from halfpipe.settings import Settings
from halfpipe.version import __version__
from halfpipe_switchover import legacy_tree
from halfpipe_switchover.legacy_tree import Known, LegacyDownlink, LegacyRun, handed_off

HANDOFF = 1  # number of the legacy's hand-off; HalfPipe's later ones have the numbers after it
EMPTY_LOG: Any = {"processing": [], "exceptions": {}, "exceptions_by_run": {}, "lines": []}
BATCH = 1000  # downlinks that are flushed to disk together

Mark = dict[str, Any]

log = logging.getLogger(__name__)


DESCRIPTIONS = {
    Known.WHOLE: "contents and deliveries are known",
    Known.SPANS: "only the delivered sequences are known, because the chunk products are gone",
    Known.NOTHING: "no deliveries are recorded",
    Known.REFUSED: "the record of deliveries cannot be read, so nothing more of the run is delivered until it can",
}


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
    work, do = settings.paths.work, report.done
    mark = {"from": str(home), "handed_off": handed_off(home), "refused": False}
    with suppress(HalfPipeError):
        if read_json(work / paths.taken_over(home.name)) == mark:
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
        entries = list(_chunks(settings, legacy, report)) if do else []
        # Without `do`, the chunk products are not read.
        with_products = {run for entry in entries for run in entry["runs"]} if do else legacy.with_products
        for run in runs:
            if run.refused:
                report.refused[legacy.id].append(f"run {run.run}: {run.refused}")
            elif run.run in with_products or (work / paths.datagrams(run.run, legacy.id)).exists():
                run.known = Known.WHOLE
            report.runs[run.known].add(run.run)
        if do:
            _write(settings, legacy, runs, entries)
    report.taken += 1
    if do and settings.ledger.url is not None and any(run.known is Known.WHOLE for run in runs):
        from halfpipe.ledger.load import load_downlink  # noqa: PLC0415 - the library of the database

        # Level-1 uses the ledger to decide whether a run is complete.
        load_downlink(settings, legacy.id, sys.stderr)
    return mark | {"refused": legacy.id in report.refused}


def _processed_here(work: Path, downlink: DownlinkId) -> str:
    """Return a text if a downlink was processed here, or has a receipt without records; empty if not."""
    made = series(work, downlink).records
    ours = any(not record.values.get("taken_over") for record in made)
    return "it was processed here" if ours or ((work / paths.receipt(downlink)).exists() and not made) else ""


def _note_both(work: Path, legacy: LegacyDownlink, runs: list[LegacyRun], report: Report) -> None:
    """Report sequences that the legacy and HalfPipe both delivered, because the legacy continued after a takeover."""
    for run in runs:
        spans = join(span.sequences for span in run.spans)
        for downlink, delivery in sorted(Deliveries(work, run.run).latest().items()):
            if delivery.legacy is None and (common := intersect(spans, join(delivery.spans))):
                report.both[legacy.id].append(
                    f"sequences {common[0].first} to {common[-1].last} of run {run.run} were delivered by the "
                    f"legacy, and here by downlink {downlink}"
                )


def _chunks(settings: Settings, legacy: LegacyDownlink, report: Report) -> Iterator[dict[str, Any]]:
    """Check the chunk products, publish them as links, and yield the entry of each chunk."""
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
            entry = _chunk(legacy, chunk, files) | {"downlink": legacy.id, "taken_over": True}
            make_directory(work, paths.chunks(legacy.id))
            write_bytes(work / paths.retdef(legacy.id, chunk), legacy.retdef(chunk).read_bytes())
            with no_merges(settings, legacy.id, chunk, log.warning):
                publish_products(out, work / paths.chunks(legacy.id), chunk)
            write_json(work / paths.chunk(legacy.id, chunk), entry)
            yield entry
        remove_tree(out)


def _write(
    settings: Settings, legacy: LegacyDownlink, runs: list[LegacyRun], entries: Sequence[Mapping[str, Any]]
) -> None:
    """Record what is known of a downlink: its runs first, then the receipt and the submission."""
    work, downlink = settings.paths.work, legacy.id
    products = {chunk: work / paths.chunk(downlink, chunk) for chunk in legacy.retdefs}
    manifests = []
    for run in runs:
        with leases.run_lease(settings, run.run, log.warning):
            manifests.append(_write_run(work, legacy, run, entries, _moot(legacy, run.run)))
    content = {
        "taken_over": True,
        "downlink": str(downlink),
        "handoff": HANDOFF,
        "software": {"halfpipe": __version__},
        "config": settings.provenance,
        # If the products of a chunk are gone, its list of files is empty.
        "chunks": [
            receipt.of_chunk(read_json(path) if path.exists() else _chunk(legacy, chunk, []))
            for chunk, path in products.items()
        ],
        "ignored": [],
        "runs": [receipt.of_run(manifest, ()) for manifest in manifests],
        "texts": [],
    }
    # Level-1 has the legacy's hand-off, so a later one of HalfPipe needs a rollback.
    known = submissions(work, downlink)
    if not known.every:
        known.intend(
            (),
            action=Action.SUBMIT,
            handoff=HANDOFF,
            outcome=Outcome.SUBMITTED,
            by=By.LEGACY,
            signed=(datetime.fromisoformat(handed_off(legacy.home)), "the legacy"),
        )
    write_bytes(work / paths.receipt(downlink), publish_receipt(work, downlink, content).content)
    write_json(work / paths.submitted(downlink), product(known, content))


def _chunk(legacy: LegacyDownlink, chunk: ChunkId, files: list[dict[str, Any]]) -> dict[str, Any]:
    runs = sorted({RunId(file["run"]) for file in files})
    retdef = sha256(legacy.retdef(chunk))
    return {"chunk": chunk, "retdef": retdef, "runs": runs, "files": files, "said": EMPTY_LOG}


def _moot(legacy: LegacyDownlink, run: RunId) -> MootKey:
    text = legacy.text("moot_keys")
    try:
        return moot_of(run, text if text.exists() else None)
    except HalfPipeError as error:
        log.warning("%s", error)
        return UNSET


def _write_run(
    work: Path,
    legacy: LegacyDownlink,
    run: LegacyRun,
    entries: Sequence[Mapping[str, Any]],
    moot: MootKey,
) -> dict[str, Any]:
    """Record the deliveries of a run, then the contents of the downlink; return the manifest."""
    id_, downlink = run.run, legacy.id
    chunks = [chunk for entry in entries if (chunk := ChunkProducts.of(entry, id_)).files]
    places = [(chunk, work / paths.chunks(downlink)) for chunk in chunks]
    index = merge_chunks(places, {})[0] if places else None
    datagrams = index.datagrams if index else KnownDatagrams.of(())
    if run.datagrams is not None:  # the list of datagrams that were known when the legacy merged the run
        try:
            datagrams = KnownDatagrams.of(run.datagrams.read_bytes().split(b"\n")[:-1], str(run.datagrams))
        except HalfPipeError as error:  # the deliveries must be recorded in any case
            log.warning("%s", error)
    recorded = Deliveries(work, id_)
    delivery = _delivery(downlink, run, datagrams, recorded.latest().get(downlink))
    if run.known is Known.REFUSED:
        text = f"the legacy's record of run {id_} in downlink {downlink} cannot be read: {run.refused}"
        do = f"halfpipe takeover {legacy.home.parent} --do"
        recorded.publish(Unreadable(downlink, text, "restore it from a backup", do))
    else:
        recorded.publish(delivery)
    manifest = _manifest(run, delivery, datagrams, moot) | {"delivery": recorded.seal(downlink)}
    if index is not None:
        index.save(work, id_, downlink)
    if run.known is Known.WHOLE:
        write_json(work / paths.manifest(id_, downlink), manifest)
    return manifest


def _delivery(
    downlink: DownlinkId, run: LegacyRun, datagrams: KnownDatagrams, before: Delivery | None
) -> Delivery:
    """Return the legacy's delivery. If a merged index is gone now, its number of events comes from `before`."""
    counted = {span.sequences: span.events for span in (before.legacy if before and before.legacy else ())}
    legacy = tuple(
        span if span.events is not None else replace(span, events=counted.get(span.sequences))
        for span in run.spans
    )
    spans = tuple(Interval(*span.sequences) for span in legacy)
    return Delivery(downlink, spans, datagrams.ranges(), (), None, None, HANDOFF, legacy=legacy)


def _manifest(run: LegacyRun, delivery: Delivery, datagrams: KnownDatagrams, moot: MootKey) -> dict[str, Any]:
    """Return the manifest of a run that was taken over."""
    segments = datagrams.segments()
    manifest = delivery.as_json() | {
        "run": str(run.run),
        "l1_run": run.run.l1,
        "kind": str(RunKind.of(segments) if segments else run.kind),
        "epus": sorted(segments),
        "complete": run.retired,
        "delivered": run.delivered,
        "waiting": run.orphans,
        "known": run.delivered + run.orphans,
        "moot": {"key": moot.key, "alias": moot.alias},
        "taken_over": str(run.known),
    }
    manifest |= dict.fromkeys(
        ("withheld", "late", "closed_events", "refused_events", "elsewhere", "shrunk"), 0
    )
    manifest |= {key: [] for key in ("closed", "refused", "gaps", "settled", "missing")}
    return manifest | {"abandoned": False, "accepted": None}


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
        one, other = root.resolve(), place.resolve()
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
    lease = Lease.of(settings, paths.TAKEOVER_LEASE)
    with lease.take("the takeover", log.warning, refuse=True) if do else nullcontext():
        _force(work, report)
        rest = iter(shown(downlinks))
        on_disk: dict[DownlinkId, Mark] = {}
        while (batch := list(islice(rest, BATCH))) or on_disk:
            with flushed_together() if do else nullcontext():
                for downlink, known in on_disk.items():
                    write_json(work / paths.taken_over(downlink), known)
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
    known, theirs = abandoned_runs.read(work).runs, abandoned_runs.read(report.root)
    report.odd += theirs.refused
    report.abandoned += [run for run in theirs.runs if run not in known]
    for run in report.abandoned if report.done else ():
        write_bytes(work / paths.FORCE / run.l1, b"taken over from the legacy\n")
