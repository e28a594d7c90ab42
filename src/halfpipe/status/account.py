"""The state of a downlink: the only source for status, checks, the end of a command, mails and pages.

This module only reads. *Good* is a claim, and each cause is a reason why it would be wrong. Missing knowledge is not a
cause, for example about downlinks that an earlier version processed.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.causes import PHASES, Cause, Phase, Verdict
from halfpipe.decode.shortfall import is_short
from halfpipe.decode.shortfall import shortfall_causes as fell_short
from halfpipe.downlink import stage_mark
from halfpipe.downlink.handoff_causes import (
    at_level1,
    contradictions,
    lost_downlinks,
    not_as_recorded,
)
from halfpipe.downlink.plan import Announced, Plan, outstanding_chunks
from halfpipe.downlink.plan_causes import lease_troubles
from halfpipe.downlink.plan_causes import troubles as planned
from halfpipe.downlink.stage_look import DIFFERS, FOREIGN, GONE, is_submitted, is_taken, names_files
from halfpipe.downlink.submissions import submissions
from halfpipe.downlink.unbalanced import findings
from halfpipe.errors import HalfPipeError, Remedy, rerun
from halfpipe.files import leases
from halfpipe.files.advice import advice
from halfpipe.files.json_files import read_json
from halfpipe.files.reading import modified, names_in
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Standing
from halfpipe.process.attempts import Attempts
from halfpipe.run import abandoned_runs
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import known_downlinks, past_waits
from halfpipe.run.manifest_books import counted_at
from halfpipe.run.receipt_file import HandOff, last_hand_off
from halfpipe.settings import Settings, reason_of
from halfpipe.status import slurm_queue
from halfpipe.status.books_table import books_now
from halfpipe.status.failed_jobs import failures
from halfpipe.words import count

LEVEL0_SETTLED_SECONDS = 14 * 86400.0  # since a hand-off: after that nothing more of its hours is copied
COSTS = "The remedy makes a hand-off that needs a roll-back"
LATEST = 30  # downlinks, by their ids, among which the youngest RetDef is looked for
RUNS_KEPT = 64  # whose deliveries were read
TAKEN, UNKNOWN = "taken by Level-1", "not known"  # states


@dataclass(frozen=True)
class Account:
    """The state of one downlink.

    Attributes
    ----------
    downlink, state
        The downlink and its state in a few words.
    causes
        Why it is not simply good, the worst first.
    chunks
        The number of decoded chunks, and of all chunks.
    phases
        For each of `PHASES` how much is done and how much there is: RetDefs, hours of level-0, chunks, or the hand-off
        itself. Both are 0 if a phase does not apply.
    runs, events
        Numbers in its receipt; 0 without one.
    books
        The books of the runs whose waiting events are counted here (`halfpipe.run.manifest_books.counted_at`).
    handoff, submitted
        Numbers of the latest hand-off and of the one that Level-1 has; None without one.
    handed_off
        Time of its receipt, Unix seconds; None without one.
    """

    downlink: DownlinkId
    state: str
    causes: tuple[Cause, ...] = ()
    chunks: tuple[int, int] = (0, 0)
    runs: int = 0
    events: int = 0
    books: Mapping[RunId, Standing] = field(default_factory=dict)
    handoff: int | None = None
    submitted: int | None = None
    handed_off: float | None = None
    phases: Mapping[Phase, tuple[int, int]] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """The worst of its causes."""
        return self.causes[0].verdict if self.causes else Verdict.GOOD

    @property
    def orphans(self) -> int | None:
        """The events that wait now, of the runs in `books`; None if a part of them is not known."""
        found = [standing.books.all_waiting if standing.books else None for standing in self.books.values()]
        return None if None in found else sum(filter(None, found))

    def as_json(self) -> dict[str, Any]:
        """Return the account for programs."""
        return {
            "dl": str(self.downlink),
            "state": self.state,
            "verdict": str(self.verdict),
            "handoff": self.handoff,
            "submitted": self.submitted,
            "events": self.events,
            "orphans": self.orphans,
            "causes": self.causes,
        }


@dataclass
class Survey:
    """What the accounts of all downlinks of a working directory share, as of `now` (Unix seconds)."""

    settings: Settings
    now: float = field(default_factory=time.time)
    since: float = 0.0  # runs without new data since then are not searched for lost downlinks
    _books: dict[RunId, Standing] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """`paths.work`."""
        return self.settings.paths.work

    @cached_property
    def stage_trouble(self) -> Cause | None:
        """Why nothing can be delivered to the stage; None if the stage is good."""
        return stage_mark.trouble(self.settings)

    @property
    def sees_stage(self) -> bool:
        """Whether the files in the stage can be seen; not on a bare mount point."""
        return self.stage_trouble is None or self.stage_trouble.code == "restored"

    @cached_property
    def queue(self) -> Sequence[Cause]:
        """Why jobs have not started in Slurm."""
        return tuple(slurm_queue.troubles())

    @cached_property
    def plan(self) -> Plan:
        """The plan of all downlinks."""
        return Plan(self.settings)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names in the working directory: of downlinks, receipts, submissions."""
        return frozenset(names_in(self.work))

    @cached_property
    def announced(self) -> Mapping[RunId, Sequence[Announced]]:
        """The outstanding chunks by run."""
        found: dict[RunId, list[Announced]] = {}
        for each in outstanding_chunks(self.plan):
            found.setdefault(each.retdef.run, []).append(each)
        return found

    @cached_property
    def past_waits(self) -> Sequence[float]:
        """How long runs waited for their next downlink, in seconds, the shortest first."""
        return past_waits(self.work)

    @cached_property
    def lost(self) -> Mapping[DownlinkId, Sequence[RunId]]:
        """Downlinks that runs know and that lost their receipts, with these runs."""
        return lost_downlinks(self.work, self.names, self.since)

    @cached_property
    def last_retdef(self) -> float:
        """When the newest RetDef of the `LATEST` downlinks arrived, Unix seconds; 0 if unknown."""
        latest = sorted(self.plan.on_search_path())[-LATEST:]
        return max((self.plan.of(downlink).came(self.now) for downlink in latest), default=0.0)

    @cached_property
    def abandoned(self) -> frozenset[RunId]:
        """The runs that an operator has abandoned."""
        return frozenset(abandoned_runs.read(self.work).runs)

    def books(self, run: RunId, *entries: Mapping[str, Any]) -> Standing:
        """Return the books of a run as it stands; `entries` of it, from receipts, save reading its manifests."""
        if run not in self._books:
            self._books[run] = books_now(
                self.settings,
                run,
                self.deliveries(self.work, run),
                given_up=run in self.abandoned,
                entries=entries,
            )
        return self._books[run]

    def has_waiting(self, run: RunId) -> bool:
        """Tell whether events of a run wait, or may wait."""
        books = self.books(run).books
        return books is None or bool(books.all_waiting)

    @cached_property
    def deliveries(self) -> Callable[[Path, RunId], Deliveries]:
        """Reads the deliveries of a run once, because its downlinks follow each other."""
        return lru_cache(maxsize=RUNS_KEPT)(partial(Deliveries, only_look=True))


class Downlink:
    """One downlink while its account is made; its files are read once.

    Attributes
    ----------
    site, id, settings, work
        The site and the downlink.
    plan
        Its RetDefs in its directory and on the search path, and its chunks.
    last, damage
        The last hand-off, None before the first; or why its records cannot be read.
    receipt
        The receipt of the last hand-off, if the downlink has a receipt now.
    receipt_time
        Time of the receipt, Unix seconds.
    record, confirmed
        The attempts to submit it, None if a record is damaged; and the attempt by which Level-1 has a hand-off.
    in_progress
        The process that works on it.
    is_submitted
        Whether Level-1 has the hand-off of its receipt.
    decoded
        Without a receipt, the readable ``{chunk}.json`` of its chunks. Damaged ones are decoded again.
    """

    def __init__(self, site: Survey, downlink: DownlinkId) -> None:
        self.site, self.id, self.settings, self.work = site, downlink, site.settings, site.work
        self.plan = site.plan.of(downlink)
        self.receipt_time = self.plan.handed_off  # first, because a receipt appears after its record
        self.last: HandOff | None = None
        self.damage: HalfPipeError | None = None
        try:
            self.last = last_hand_off(self.work, downlink, only_look=True)
        except HalfPipeError as error:
            self.damage = error
        self.receipt = self.last.receipt if self.last and self.receipt_time is not None else None
        self.record: Attempts | None = None
        with suppress(HalfPipeError):
            self.record = submissions(self.work, downlink, only_look=True)
        self.confirmed = self.record.last_confirmed if self.record else None
        self.in_progress = leases.in_progress(self.work, downlink)
        self.is_submitted = (
            self.receipt is not None and self.record is not None and is_submitted(self.receipt, self.record)
        )
        self.decoded = list[Mapping[str, Any]]()
        for name in self.plan.chunk_files if self.receipt is None else ():
            with suppress(HalfPipeError):
                self.decoded.append(read_json(self.work / name))

    @cached_property
    def books(self) -> dict[RunId, Standing]:
        """The books of the runs whose waiting events are counted at this downlink.

        If a record of a run cannot be read, its books are not known: another cause names the record.
        """
        entries = {RunId(run["run"]): run for run in (self.receipt["runs"] if self.receipt else ())}
        found = {}
        for run in entries or self.plan.runs:
            try:
                if counted_at(self.work, run) == self.id:
                    found[run] = self.site.books(run, *filter(None, [entries.get(run)]))
            except (HalfPipeError, OSError):
                found[run] = Standing(None)
        return found


def account(site: Survey, downlink: DownlinkId, of_files: Sequence[Cause] = ()) -> Account:
    """Return the account of one downlink with causes found in its files. An error becomes its cause."""
    try:
        return _account(Downlink(site, downlink), of_files)
    except OSError as error:
        cause = Cause("file-system", Verdict.ACTION, f"{error.filename}: {error.strerror}. {advice(error)}")
    except HalfPipeError as error:
        cause = Cause(error.code, Verdict.ACTION, str(error), Remedy(f"halfpipe show {downlink}"))
    return Account(downlink, UNKNOWN, (cause, *of_files))


def _account(of: Downlink, of_files: Sequence[Cause]) -> Account:
    downlink, receipt = of.id, of.receipt
    found = list(_causes(of))
    # The first missing file is named with the number of the others.
    is_told, told = any(cause.code == GONE for cause in found), {(cause.code, cause.text) for cause in found}
    found += [
        cause
        for cause in of_files
        if not (is_told and cause.code == GONE) and (cause.code, cause.text) not in told
    ]
    if of.confirmed is not None:
        found = [replace(one, text=f"{one.text}. {COSTS}") if one.remedy.hands_off else one for one in found]
    causes = tuple(sorted(found, key=lambda cause: cause.verdict is not Verdict.ACTION))  # the worst first
    runs = receipt["runs"] if receipt else []
    expected = len(of.plan.chunks) if of.plan.numbers else 0
    decoded = expected if receipt else len(of.decoded)
    chunks, state = (min(decoded, expected), expected), _state(of, causes)
    return Account(
        downlink,
        state,
        causes,
        chunks,
        len(runs),
        sum(run["delivered"] for run in runs),
        of.books,
        receipt["handoff"] if receipt else None,
        of.confirmed.handoff if of.confirmed else None,
        of.receipt_time if receipt else None,
        _phases(of, chunks, taken=state == TAKEN),
    )


def _phases(of: Downlink, chunks: tuple[int, int], *, taken: bool) -> dict[Phase, tuple[int, int]]:
    """Return how much of each phase is done, and of how much; nothing for the work of the legacy.

    Level-0 is left out if the decoder did not report which hours it needed.
    """
    receipt = of.receipt
    if receipt is not None and receipt.get("taken_over"):
        return {}
    needed = missing = 0
    unknown = chunks[1] - chunks[0]  # hours of chunks that are not decoded yet: one each, at least
    of_chunks = receipt["chunks"] if receipt else of.decoded
    for chunk in of_chunks:
        with suppress(AttributeError, KeyError, TypeError):  # not known, or damaged
            missing, needed = missing + len(chunk["level0"]["missing"]), needed + chunk["level0"]["needed"]
    entered = modified(f"{of.work}/{paths.loaded(of.id)}") is not None
    something = int(receipt is None or names_files(receipt))
    done = (receipt is not None, entered, of.is_submitted, taken)
    each = (1, int(of.settings.ledger.url is not None), something, something)
    hand_off = [(int(so and bool(most)), most) for so, most in zip(done, each, strict=True)]
    retdefs = (len(of.plan.numbers), chunks[1])
    level0 = (needed - missing, needed + unknown)
    phases = dict(zip(PHASES, (retdefs, level0, chunks, *hand_off), strict=True))
    if of_chunks and not needed:
        del phases[Phase.LEVEL0]
    return phases


def _state(of: Downlink, causes: Sequence[Cause]) -> str:
    """Return the state of a downlink in a few words."""
    receipt = of.receipt
    if of.in_progress:
        return "in progress"
    if receipt is None:
        codes = {cause.code for cause in causes}
        if first := next((cause.failed for cause in causes if cause.failed), ""):
            return f"failed at {first.partition(';')[0].partition(',')[0]}"
        if "held" in codes:
            return "held"
        if "killed" in codes:
            return "cut off"
        if codes & {"waits-retdef", "settling"}:
            return "waiting for RetDefs"
        return "outstanding" if of.plan.numbers else "nothing is there to process"
    if receipt.get("taken_over"):
        return "taken over"
    if of.record is not None and of.is_submitted:
        taken = of.site.sees_stage and is_taken(of.settings, of.id, receipt, of.record)
        return TAKEN if taken else f"submitted {receipt['handoff']}"
    return f"handed off {receipt['handoff']}"


def _causes(of: Downlink) -> Iterator[Cause]:
    """Yield every reason why a downlink is not good."""
    receipt, in_progress, settings = of.receipt, bool(of.in_progress), of.settings
    found = [*lease_troubles(of.work, of.id), *planned(of.plan, of.site.now)]
    if of.damage is not None:
        found.append(Cause("damaged", Verdict.ACTION, of.damage.text, of.damage.remedy))
    elif of.receipt_time is not None and not in_progress:
        found += not_as_recorded(of.work, of.id, of.last.content if of.last else None)
    yield from found
    if in_progress:  # the site has these causes with their verdicts
        yield from (replace(cause, verdict=Verdict.NOTE) for cause in of.site.queue)
    if receipt is None:
        failed = [] if in_progress else list(failures(settings, of.id))
        yield from failed
        nothing = not in_progress and not found and not failed
        if nothing and of.plan.numbers:
            text = "it is not handed off yet"
            yield Cause("outstanding", Verdict.NOTE, text, Remedy(f"snakemake dl={of.id}"))
        elif nothing and not of.plan.ignored and of.id not in of.site.lost:
            text = "no RetDef of it is there yet"
            yield Cause("waits-retdef", Verdict.NOTE, text, Remedy(first="Have them made and copied"))
        for chunk in of.decoded:
            with suppress(HalfPipeError, KeyError, TypeError):  # a damaged file is decoded again
                yield from list(fell_short(settings, of.id, [chunk]))
    else:
        yield from _delivered(of, receipt)
        if not receipt.get("taken_over"):
            yield from findings(of.id, receipt["chunks"], receipt["runs"])
            yield from _chunks_gone(of, receipt)
            yield from fell_short(settings, of.id, _chunks_with_level0(of, receipt))
            yield from _nothing_delivered(of, receipt)
    if not in_progress:
        for run, standing in of.books.items():
            yield from _of_books(of, run, standing)
        runs, last = of.site.lost.get(of.id, ()), of.last.receipt if of.last else None
        yield from contradictions(settings, of.id, runs, last, receipt is not None, of.site.deliveries)
    of_level1 = list(
        at_level1(settings, of.id, receipt, of.record, in_progress, sees_stage=of.site.sees_stage)
    )
    if receipt is not None and not in_progress and of.confirmed is None:
        # A submission that was refused because of the stage has the cause that the stage has now.
        looks = {cause.code for cause in of_level1} & {FOREIGN, GONE}
        late = failures(settings, of.id, after_receipt=True)
        yield from (cause for cause in late if not (looks and cause.code == DIFFERS))
    yield from of_level1


def _chunks_with_level0(of: Downlink, receipt: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the chunks of a receipt, with the level-0 files that were there if more packets may still arrive."""
    is_recent = (of.receipt_time or 0.0) >= of.site.now - LEVEL0_SETTLED_SECONDS
    for chunk in receipt["chunks"]:
        read = None
        if is_recent and is_short(chunk):
            with suppress(HalfPipeError):
                read = read_json(of.work / paths.chunk(of.id, chunk["chunk"])).get("read")
        yield {**chunk, "read": read}


def _chunks_gone(of: Downlink, receipt: Mapping[str, Any]) -> Iterator[Cause]:
    """Yield that all decoded products of a downlink are gone. Clean-up never does that."""
    place = of.work / paths.chunks(of.id)
    if receipt["chunks"] and place.name not in of.plan.staged.names and not of.plan.staged.unread:
        yield Cause(
            "damaged",
            Verdict.ACTION,
            f"{place} is gone, with all decoded products of this downlink",
            rerun(of.id, "decode_chunk"),
        )


def _delivered(of: Downlink, receipt: Mapping[str, Any]) -> Iterator[Cause]:
    """Yield the causes in a receipt itself, for its runs and texts."""
    attitude = paths.text("magic7", of.id)
    if any(text["name"] == attitude and not text["size"] for text in receipt["texts"]):
        text = f"hand-off {receipt['handoff']} has no attitude and orbit ({attitude} is empty), and Level-1 needs some"
        remedy = rerun(of.id, "deliver_run", "see that magic7.command gives ATT and ORB lines")
        verdict = Verdict.NOTE if of.is_submitted else Verdict.ACTION
        yield Cause("magic7", verdict, text, remedy, of.receipt_time)
    for run in receipt["runs"]:
        if run["missing"]:
            text = f"run {run['run']} was merged without {count(len(run['missing']), 'chunk')} of other downlinks"
            remedy = rerun(of.id, paths.manifest(run["run"], of.id), "bring back their level-0 files")
            yield Cause("merged-without", Verdict.ACTION, text, remedy, of.receipt_time)
        if run.get("taken_over") == "nothing":
            text = f"run {run['run']} was taken over, and the legacy recorded nothing of it as delivered"
            yield Cause(
                "takeover", Verdict.NOTE, text, Remedy(f"halfpipe show {run['run']}"), of.receipt_time
            )


def _nothing_delivered(of: Downlink, receipt: Mapping[str, Any]) -> Iterator[Cause]:
    """Yield that all events of a downlink wait, which may mean that a part of the downlink is missing."""
    waiting = sum(now.books.waiting for now in of.books.values() if now.books)
    if waiting and not any(run["delivered"] or run["held"] for run in receipt["runs"]):
        waits = count(waiting, "event waits", "events wait")
        text = f"nothing of it is delivered yet, {waits}"
        explain = Remedy(f"halfpipe explain {of.id}")
        yield Cause("nothing-delivered", Verdict.NOTE, text, explain, of.receipt_time)


def _of_books(of: Downlink, run: RunId, standing: Standing) -> Iterator[Cause]:
    """Yield the causes in the books of a run."""
    again = Remedy(f"snakemake dl={of.id} -R {paths.manifest(run, of.id)}", hands_off=True)
    books = standing.books
    if standing.old and (books is None or books.undelivered):
        known = f"{count(books.all_waiting, 'event')} waited at its last merge; " if books is not None else ""
        text = f"run {run}: {known}its events cannot be counted now: {standing.old}"
        yield Cause("books", Verdict.NOTE, text, again, of.receipt_time)
    if books is None:
        return
    # Until a record of the legacy that cannot be read is repaired, nothing is delivered.
    unreadable = of.site.deliveries(of.site.work, run).unreadable
    if books.due and of.receipt is not None and not unreadable:
        text = f"{count(books.due, 'event is', 'events are')} due of run {run}"
        yield Cause("events-due", Verdict.NOTE, text, again, of.receipt_time)
    if books.lost:
        text = f"run {run} has {books.known:,} known events, and {books.parts:,} are accounted for"
        yield Cause("books", Verdict.ACTION, text, rerun(of.id, "deliver_run"), of.receipt_time)
    if books.late:
        yield _late(of, run, books.late)
    if books.closed:
        yield _closed(of, run, books.closed)


def _closed(of: Downlink, run: RunId, events: int) -> Cause:
    """Return that known events are inside closed spans, so that no downlink delivers them."""
    deliveries = of.site.deliveries(of.work, run)
    latest, closing = deliveries.latest(), [dl for dl in deliveries.latest() if deliveries.closed(dl)]
    at_level1 = all(_has_before(of.work, dl, latest[dl].handoff) for dl in closing)
    others = [dl for dl in known_downlinks(of.work, run) if dl not in closing]
    again = max(others, default=of.id)
    text = (
        f"{count(events, 'known event')} of run {run} in sequences that downlink {', '.join(closing)} delivered before "
        "and does not deliver now: no other downlink delivers them"
    )
    remedy = Remedy(
        *(f'halfpipe force {run} --reopen {dl} --reason "..."' for dl in closing),
        f"snakemake dl={again} -R {paths.manifest(run, again)}",
        first="Level-1 still has them from an earlier hand-off: have it rolled back, then"
        if at_level1
        else "",
        hands_off=True,
    )
    return Cause("closed", Verdict.NOTE if at_level1 else Verdict.ACTION, text, remedy, of.receipt_time)


def _has_before(work: Path, downlink: DownlinkId, handoff: int | None) -> bool:
    """Tell whether Level-1 has a hand-off of a downlink before `handoff`."""
    with suppress(HalfPipeError):
        told = submissions(work, downlink, only_look=True).last_confirmed
        return told is not None and handoff is not None and told.handoff < handoff
    return False


def _late(of: Downlink, run: str, late: int) -> Cause:
    """Return that Level-1 lacks events that arrived late, or that a person decided to do without them."""
    text = f"{count(late, 'late event')} of run {run} inside what other downlinks have delivered"
    if (left := reason_of(of.settings.ignore.late, of.id, run, late)) is not None:
        return Cause("late-events", Verdict.NOTE, f"{text}; not delivered: {left}", since=of.receipt_time)
    without = f'ignore: {{late: [{{dl: "{of.id}", run: "{run}", events: {late}, reason: "..."}}]}}'
    remedy = Remedy(
        f"halfpipe explain {of.id}",
        first=f"if Level-1 is to go without them, in the config: {without}; else process the downlink again that this "
        "names",
    )
    return Cause("late-events", Verdict.ACTION, text, remedy, of.receipt_time)
