"""The receipt of a downlink: what was delivered, withheld, refused and why, with checksums.

Making it hands the downlink off: the texts are put into the stage, and Level-1 may retire runs again.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from msgspec.structs import replace

from halfpipe import paths
from halfpipe.decisions import Decisions
from halfpipe.decode.chunk import Chunk, read_chunk
from halfpipe.deliver import magic7, unbalanced
from halfpipe.errors import MissingInputError, StageError, rerun
from halfpipe.files.durable import remove_tree, replacing, write_text
from halfpipe.files.leases import Lease
from halfpipe.files.pointers import point
from halfpipe.files.reading import sha256
from halfpipe.files.records import Series
from halfpipe.files.typed import values
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.plan.plan import Plan
from halfpipe.settings import Settings
from halfpipe.staging import stage, stage_look, stage_mark
from halfpipe.state.deliveries import Deliveries
from halfpipe.state.hand_offs import (
    HandedRun,
    HandOff,
    IgnoredChunk,
    NamedRun,
    Receipt,
    Text,
    last_hand_off,
)
from halfpipe.version import __version__
from halfpipe.words import SIMULATED, aligned

log = logging.getLogger(__name__)


def hand_off(
    settings: Settings,
    lease: Lease,
    downlink: DownlinkId,
    chunks: Sequence[ChunkId],
    runs: Collection[RunId],
    output: IO[str],
) -> Receipt:
    """Put the texts into the stage, and return the receipt.

    Parameters
    ----------
    settings, lease, downlink
        The settings, the downlink, and its lease.
    chunks, runs
        All chunks of the downlink except ignored ones, and all its runs.
    output
        Gets what the magic-7 command prints.

    Raises
    ------
    HalfPipeError
        If the books of the downlink do not balance, the magic-7 command failed, or the stage cannot be written. Then
        nothing is handed off, and Level-1 still does not retire the runs.
    """
    work = settings.paths.work
    stage_mark.refuse(settings, paths.receipts(downlink), *(paths.deliveries(run) for run in runs))
    stage_look.refuse_foreign(settings, downlink, runs)
    decoded = [read_chunk(work, downlink, chunk) for chunk in chunks]
    delivered = [delivered_now(work, downlink, run) for run in sorted(runs)]
    retdefs = Plan(settings).of(downlink).numbers
    for finding in unbalanced.findings(downlink, decoded, delivered, retdefs):
        raise finding.refused(f"Downlink {downlink} was not handed off.")
    put_texts = partial(_put_texts, settings, lease, downlink, decoded, output)
    number = max((one.delivery.handoff for one in delivered), default=1)
    last = last_hand_off(work, downlink)
    if last is not None and last.number >= number:
        home = settings.paths.stage / paths.staged(downlink)
        places = [home / text.name for text in last.receipt.texts]
        # Restore the texts, unless Level-1 has taken the downlink.
        if home.is_dir() and last.receipt.texts != tuple(
            _describe(path) for path in places if path.is_file()
        ):
            put_texts([one for one in delivered if one.run in last.named])
        # If a chunk without data is ignored now, or no longer, Level-1 needs nothing new.
        now = content_of(settings, downlink, last.number, decoded, delivered, last.named, last.receipt.texts)
        return replace(last.receipt, chunks=now.chunks, ignored=now.ignored, runs=now.runs)
    staged = _in_stage(settings.paths.stage, downlink, delivered, number)
    named = [one.run for one in staged]
    return content_of(settings, downlink, number, decoded, delivered, named, put_texts(staged))


def delivered_now(work: Path, downlink: DownlinkId, run: RunId) -> HandedRun:
    """Return the latest delivery of a run by a downlink, before it is handed off.

    Raises
    ------
    MissingInputError
        If there is none.
    """
    recorded = Deliveries(work, run)
    delivery = recorded.latest().get(downlink)
    seal = recorded.seal(downlink)
    if delivery is None or seal is None:
        raise MissingInputError(
            f"{work / paths.deliveries(run)}: no delivery of downlink {downlink}.",
            rerun(downlink, paths.manifest(run, downlink)),
        )
    return HandedRun(run, delivery, seal)


def _in_stage(
    place: Path, downlink: DownlinkId, delivered: Sequence[HandedRun], number: int
) -> list[HandedRun]:
    """Return the runs whose event files are all in the stage; Level-1 may have taken those of earlier hand-offs.

    Raises
    ------
    StageError
        If event files of hand-off `number` are gone; Level-1 cannot have taken them yet.
    """
    home = place / paths.staged(downlink)
    staged = []
    gone = []
    for one in delivered:
        files = ((home / one.run.l1 / file.name, file) for file in one.delivery.files)
        if not any(stage_look.difference(path, file, checksums=False) for path, file in files):
            staged.append(one)
        elif one.delivery.handoff == number and not one.delivery.refused:
            gone.append(one.run)
    if gone:
        raise StageError(
            f"files disappeared from the stage before they were handed off: run {', '.join(gone)} of downlink "
            f"{downlink}, in {home}. Nothing was handed off. Check that the stage is mounted, and what clears it.",
            rerun(downlink, "deliver_run", "To stage them again"),
            code=stage_look.GONE,
        )
    return staged


def content_of(
    settings: Settings,
    downlink: DownlinkId,
    number: int,
    chunks: Iterable[Chunk],
    delivered: Iterable[HandedRun],
    named: Collection[RunId],
    texts: Iterable[Text],
) -> Receipt:
    """Return the receipt of hand-off `number`; `texts` name the runs `named`."""
    ignored = Decisions.read(settings.paths.work).left_out(downlink).items()
    return Receipt(
        downlink=downlink,
        handoff=number,
        software=__version__,
        config=settings.provenance,
        chunks=tuple(chunk.outcome for chunk in chunks),
        ignored=tuple(IgnoredChunk(chunk, reason) for chunk, reason in ignored),
        runs=tuple(NamedRun(one.run, one.seal, one.run in named) for one in delivered),
        texts=tuple(texts),
        simulated=settings.is_simulated,
        reason=settings.reason or None,
    )


def save(
    settings: Settings,
    lease: Lease,
    known: Series,
    downlink: DownlinkId,
    runs: Collection[RunId],
    content: Receipt,
) -> None:
    """Record the hand-off after the records `known`, unless the last one is equal; let Level-1 retire runs again.

    At the end the receipt points to the record.
    """
    work = settings.paths.work
    last = known.records[-1] if known.records else None
    if last is None or known.typed(last, Receipt) != content:
        last = known.publish(values(content))
    homes = map(paths.deliveries, sorted(runs))
    new = [(home, record) for home in homes for record in Series(work, home).read()[-1:]]
    stage_mark.note(settings, [*new, (paths.receipts(downlink), last)])
    lease.check()  # else the tokens and the last receipt may be those of the process that took the lease over
    stage.remove_halt_cleanup(settings.paths.stage, downlink, runs)
    point(work / paths.receipt(downlink), last)
    remove_tree(work / paths.replaced(downlink))


def _put_texts(
    settings: Settings,
    lease: Lease,
    downlink: DownlinkId,
    chunks: Sequence[Chunk],
    output: IO[str],
    named: Sequence[HandedRun],
) -> tuple[Text, ...]:
    """Write all texts that name the runs of `named`, put them into the stage, and describe them."""
    exceptions = Counter[tuple[RunId, str]]()
    for chunk in chunks:
        for run, kinds in chunk.log.exceptions.items():
            exceptions.update({(run, kind): count for kind, count in kinds.items()})
    with stage.scratch(settings.paths.stage, downlink, "texts") as home:
        for name, content in texts(named, exceptions).items():
            write_text(home / paths.text(name, downlink), content)
        if settings.is_simulated:
            # A separate text, because Level-1 fails on an extra line in a text that it reads, and ignores
            # other texts (ground-chain §6).
            write_text(home / paths.text("simulated", downlink), f"{SIMULATED}\n")
        times = [time for one in named for time in one.delivery.times or ()]
        if settings.magic7.command is not None and times:
            window = (min(times), max(times))
            retdef = read_retdef(settings.paths.work / paths.retdef(downlink, chunks[0].chunk))
            with replacing(home / paths.text("magic7", downlink)) as out:
                lines = magic7.write(magic7.command(settings, retdef, window), out, output)
            if not lines:
                log.warning(
                    "downlink %s: the magic-7 command gave no ATT or ORB line, and Level-1 needs some",
                    downlink,
                )
        described = tuple(_describe(path) for path in sorted(home.iterdir()))
        lease.check()  # else Level-1 may have taken the hand-off of another process
        stage.put_texts(settings.paths.stage, home, downlink)
    return described


def _describe(path: Path) -> Text:
    return Text(path.stat().st_size, sha256(path), path.name)


def table(last: HandOff) -> str:
    """Return a table of the runs of a hand-off, for people."""
    # All known events of the run, then their parts.
    shown = ["known", "staged", "waiting", "late", "refused", "elsewhere"]
    has_closed = any(run.delivery.books.closed for run in last.runs)  # only after an accepted loss
    rows = [("run", "L1 run", "kind", "files", *shown, *(["closed"] if has_closed else []), "state")]
    for run in last.runs:
        books = run.delivery.books
        counts = [books.known, run.delivery.events, books.in_texts, books.late, books.refused, run.elsewhere]
        counts += [books.closed] if has_closed else []
        numbers = map(str, [len(run.delivery.files), *counts])
        rows.append((run.run, run.run.l1, run.delivery.kind, *numbers, run.delivery.state_word))
    head = f"downlink {last.receipt.downlink}, hand-off {last.number}"
    head += ", SIMULATED data" if last.receipt.simulated else ""
    return "\n".join([head, *aligned(rows)])


def texts(named: Iterable[HandedRun], exceptions: Mapping[tuple[RunId, str], int]) -> dict[str, str]:
    """Return the texts that name some runs, by their names without downlink.

    Errors of decoders are in `chunk_exceptions`, one line per run and kind, ``r%010d kind count``. Without errors there
    is no such text. Level-1 does not read it.

    Level-1 fails a whole delivery on a line that it cannot read, so there are no blank lines, and a run is retired only
    if the same hand-off stages files of it.
    """
    delivered = list[str]()
    retired = list[str]()
    gaps = list[str]()
    times = list[str]()
    keys = list[str]()
    for one in named:
        run = one.run.l1
        made = one.delivery
        if not made.epus:
            continue
        delivered.append(f"{run} {made.events} {made.books.in_texts} {made.kind}")
        gaps += [f"{run} {upper} {lower}" for upper, lower in made.gaps]
        if made.moot:
            keys.append(f"{run} {made.moot.key} {made.moot.alias}")
        if made.times:
            first, last = made.times
            times.append(f"{run} {first:f} {last:f}")
        if (made.complete or made.abandoned) and made.files and not made.refused:
            retired.append(f"{run} {'COMPLETE' if made.complete else 'INCOMPLETE'}")
    lines = {
        "delivered_events": delivered,
        "retired_runs": retired,
        "event_gaps": gaps,
        "event_times": times,
        "moot_keys": keys,
    }
    if exceptions:
        lines["chunk_exceptions"] = [
            f"{run.l1} {kind} {count}" for (run, kind), count in sorted(exceptions.items())
        ]
    return {name: "".join(f"{line}\n" for line in of_text) for name, of_text in lines.items()}
