"""Unattended processing: every outstanding downlink.

A turn is a batch, as `halfpipe process` has them, and if downlinks go on to Level-1 another one here after that. It is
ended if for long no downlink is done: then some hang, which come last in the next turn, as those that have failed.
Nothing is told if all went well.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink import plan_causes
from halfpipe.downlink.plan import Plan
from halfpipe.errors import ConfigError, HalfPipeError, Remedy
from halfpipe.files import leases
from halfpipe.files.durable import write_bytes
from halfpipe.files.json_files import write_json
from halfpipe.ids import DownlinkId
from halfpipe.process.failure import in_a_line
from halfpipe.settings import Settings
from halfpipe.site.alarms import Teller, of_site
from halfpipe.site.batches import Batch, Here, Launcher
from halfpipe.status.account import Survey
from halfpipe.status.failures import end_of, failed_jobs
from halfpipe.status.overview import DAY, overview, recent
from halfpipe.status.site_causes import last_turn, turn_troubles

GOOD, FAILED, UNUSABLE, OUT_OF_TIME, RUNNING = range(5)  # exit statuses
UNPUBLISHED, LATE = "board-failed", "out-of-time"  # codes of causes
MINUTES = 240.0  # in which a downlink has to be done
WAITS_SECONDS = 600.0  # the same, if a disk or Slurm is full
SHOWN_SECONDS = 600.0  # between two signs that a turn gets on, and two boards meanwhile
DAYS = 7.0  # downlinks that are older and were not wanting are not looked at, but for
ALL_SECONDS = DAY  # every so often: a RetDef may come late, and whatever else changes
LINES = 30  # of what was printed that a mail has: its end says which job failed, why, and what to do


def outstanding(plan: Plan, since: str = "") -> list[DownlinkId]:
    """Return the outstanding downlinks that are ready, those last of which jobs were begun and did not end well.

    Those before the id `since` that are done are not looked at.
    """
    ready = plan_causes.outstanding(plan, time.time(), since=since).ready
    return sorted(ready, key=lambda dl: (bool(failed_jobs(plan.work, dl)), dl))


def looked_at(work: Path, now: float) -> tuple[float, str]:
    """Return when a turn looked at all downlinks last, and the first id that one looks at now; empty: at all.

    A mission has tens of thousands that are done, and a turn comes every ten minutes.
    """
    last = (last_turn(work) or {}).get("all")
    if isinstance(last, float) and now - ALL_SECONDS < last <= now:
        return last, f"{datetime.fromtimestamp(now - DAYS * DAY, UTC):%y%m%d}000"
    return now, ""


def turn(
    settings: Settings,
    begin: Callable[[], Launcher],
    minutes: float,
    say: Callable[[str], bool],
    *,
    timer: bool = False,
) -> int:
    """Process the outstanding downlinks that nobody has in work.

    Parameters
    ----------
    settings
        The settings.
    begin
        Gives what starts elements.
    minutes
        In which a downlink has to be done, else all are ended.
    say
        Prints what a person has to hear, and tells whether anybody took it.
    timer
        Whether a timer has begun it: then one that does not come any more is missed, and that another turn is running
        is not said.

    Returns
    -------
    int
        `GOOD`, `FAILED`, `OUT_OF_TIME` or `RUNNING`; `UNUSABLE` if more downlinks are outstanding than may be.
    """
    mine = leases.Lease(settings.paths.work, paths.UNATTENDED_LEASE)
    teller = Teller(settings, say)
    if not mine.try_take():
        if not timer:
            say(f"another unattended invocation is running: {mine.look() or 'it has just ended'}")
        teller.of_site("unattended-lease", turn_troubles(settings.paths.work, time.time()))
        return RUNNING
    begun, status = time.time(), FAILED
    before, since = looked_at(settings.paths.work, begun) if timer else (begun, "")
    looked = before if since else 0.0
    try:
        status = _process_all(settings, begin, minutes, teller, mine.sign, since)
        looked = before
    except (HalfPipeError, OSError) as error:
        status = UNUSABLE if isinstance(error, ConfigError) else FAILED
        why = Cause("turn-failed", Verdict.ACTION, f"the turn was broken off: {error}")
        teller.of_site(why.code, [why])
    finally:
        if timer:  # so that a timer that is dead can be seen
            last = {
                "ended": round(time.time()),
                "all": looked,
                "status": status,
                "host": leases.whoami().host,
            }
            with suppress(HalfPipeError, OSError):
                write_json(settings.paths.work / paths.LAST_TURN, last)
        try:
            teller.of_site(UNPUBLISHED, publish(settings))
        finally:
            mine.give_back()
    return status


def publish(settings: Settings) -> Iterator[Cause]:
    """Write the board and the metrics that the config asks for, and yield why it could not be: nothing stops a turn."""
    board, metrics, now = settings.board.dir, settings.metrics.file, time.time()
    if board is None and metrics is None:
        return
    site = Survey(settings, now, now - settings.board.days * DAY)
    try:
        found = overview(site, recent(site, settings.board.days))
        if board is not None:
            from halfpipe.pages import board_pages  # noqa: PLC0415 - the library of templates

            board_pages.make(site, found, board)
        if metrics is not None:
            from halfpipe.tables.metrics import text  # noqa: PLC0415 - only where they are asked for

            write_bytes(metrics, text(site, found).encode(), lasting=False)
    except Exception as error:  # whatever is wrong with pages, downlinks are processed
        what = f"the board or the metrics could not be written: {error or type(error).__name__}"
        yield Cause(UNPUBLISHED, Verdict.ACTION, what, Remedy("halfpipe board"), now)


def _process_all(
    settings: Settings,
    begin: Callable[[], Launcher],
    minutes: float,
    teller: Teller,
    sign: Callable[[], object],
    since: str,
) -> int:
    plan = Plan(settings)
    failed, details = dict[DownlinkId, Cause](), dict[str, str]()

    def get_on() -> None:
        sign()
        teller.of_site(UNPUBLISHED, publish(settings))  # a turn may take hours

    def process(todo: Sequence[DownlinkId], launcher: Launcher, *, submits: bool = False) -> list[DownlinkId]:
        batch = Batch(settings, todo, home=paths.UNATTENDED_LOGS, submits=submits)
        broken = follow(batch, launcher, minutes * 60, get_on)
        for dl in batch.failed:
            failed[dl] = _cause(batch, dl, broken, f"snakemake {'submit' if submits else 'dl'}={dl}")
            log = batch.logs.get(dl, Path())
            printed = "\n".join(f"  | {line}" for line in end_of(log, LINES))
            details[dl] = f"all that was printed: {log}\n{printed}"
        return batch.done

    if todo := [dl for dl in outstanding(plan, since) if leases.in_work(plan.work, dl) is None]:
        done = process(todo, begin())
        if onward := [dl for dl in done if plan.target(dl) != paths.receipt(dl)]:
            process(onward, Here(1), submits=True)
    sign()
    site = Survey(settings)
    found = overview(site, {*recent(site, DAYS, since), *failed})
    causes = [(of_site(cause.code), cause) for cause in found.site]
    unknown = {of_site(UNPUBLISHED)}
    for one in found.accounts:
        if one.state.startswith("in work"):
            unknown.add(one.downlink)
        own = failed.get(one.downlink)
        if own and (own.code == LATE or not any(cause.failed for cause in one.causes)):
            causes.append((one.downlink, own))
        causes += [(one.downlink, cause) for cause in one.causes]
    teller.tell(causes, unknown, details)
    late = any(cause.code == LATE for cause in failed.values())
    return OUT_OF_TIME if late else FAILED if failed or found.wanting else GOOD


def follow(batch: Batch, launcher: Launcher, seconds: float, get_on: Callable[[], object]) -> str:
    """Process a batch, and end it if for long none of its downlinks is done.

    Parameters
    ----------
    batch, launcher
        The batch, and what starts its elements.
    seconds
        In which one has to be done.
    get_on
        Is called every ten minutes.

    Returns
    -------
    str
        Why it was broken off, `LATE` or a sentence; empty, it was not.
    """
    done, since, shown = 0, time.monotonic(), time.monotonic()
    try:
        with closing(batch.run(launcher)) as looks:
            for _ in looks:
                now = time.monotonic()
                if len(batch.done) > done:
                    done, since = len(batch.done), now
                if now - shown > SHOWN_SECONDS:
                    get_on()
                    shown = now
                if now - since > seconds:
                    return LATE
                if batch.waits and now - since > WAITS_SECONDS:
                    return f"it waits: {batch.waits}"
    except HalfPipeError as error:
        return in_a_line(str(error))
    return ""


def _cause(batch: Batch, downlink: DownlinkId, broken: str, command: str) -> Cause:
    """Say why a downlink did not end well, for where no job's record says it."""
    why, log = batch.ends.get(downlink), batch.logs.get(downlink, Path())
    if broken == LATE and why is None:
        do = Remedy(first=f"see what hung, often a file system: {log}")
        return Cause(LATE, Verdict.ACTION, "it ran out of time and was ended", do)
    text = why.text if why else broken or "it was not begun"
    return Cause("failed", Verdict.ACTION, f"{text.rstrip('.')}; its log: {log}", Remedy(command))
