"""Unattended processing: every outstanding downlink, by one command of Snakemake with the profile of the site.

A turn finds what is outstanding as the default target of the workflow does, and processes it to the receipt, or to the
submission with `submit.automatic`. Downlinks that failed before come after all others, in a command of their own. The
turn ends if no downlink is done for long. Nothing is printed if all went well.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink import plan_causes
from halfpipe.downlink.plan import Plan
from halfpipe.errors import ConfigError, HalfPipeError, Remedy
from halfpipe.files import leases
from halfpipe.files.json_files import write_json
from halfpipe.ids import DownlinkId
from halfpipe.settings import Settings
from halfpipe.site.alarms import Teller, of_site
from halfpipe.site.invocation import Which, running, ticks
from halfpipe.status import queue
from halfpipe.status.account import Survey
from halfpipe.status.failures import failed_jobs
from halfpipe.status.overview import DAY, overview, recent
from halfpipe.status.site_causes import last_turn, turn_troubles

GOOD, FAILED, UNUSABLE, OUT_OF_TIME, RUNNING = range(5)  # exit statuses
UNPUBLISHED, LATE = "board-failed", "time-limit"  # codes of causes
MINUTES = 240.0  # in which a downlink has to be done, without the time that jobs wait in the queue of Slurm
LOOK_SECONDS = 5.0  # between two looks at which downlinks are done
SHOWN_SECONDS = 600.0  # between two signs that a turn gets on, and two boards meanwhile
DAYS = 7.0  # downlinks that are older and were not wanting are not looked at, but for
ALL_SECONDS = DAY  # every so often: a RetDef may come late, and whatever else changes


def outstanding(plan: Plan, since: str = "") -> list[list[DownlinkId]]:
    """Return the outstanding downlinks that are ready: those that are new, then those that failed before.

    Downlinks that are done and come before the id `since` are not looked at.
    """
    ready = plan_causes.outstanding(plan, time.time(), since=since).ready
    free = [dl for dl in ready if leases.in_work(plan.work, dl) is None]
    failed = {dl for dl in free if failed_jobs(plan.work, dl)}
    return [[dl for dl in free if dl not in failed], [dl for dl in free if dl in failed]]


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
    which: Which,
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
    which
        How Snakemake finds the site, and what it runs jobs on.
    minutes
        In which a downlink has to be done, else the turn is ended. The time in the queue of Slurm does not count.
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
        teller.of_site("unattended-stopped", turn_troubles(settings.paths.work, time.time()))
        return RUNNING
    begun, status = time.time(), FAILED
    before, since = looked_at(settings.paths.work, begun) if timer else (begun, "")
    looked = before if since else 0.0
    try:
        status = _process_all(settings, which, minutes * 60, teller, mine.sign, since)
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
    """Write the board if the config asks for one. Yield the cause if this fails; the turn continues."""
    board, now = settings.board.dir, time.time()
    if board is None:
        return
    site = Survey(settings, now, now - settings.board.days * DAY)
    try:
        from halfpipe.pages import board_pages  # noqa: PLC0415 - the library of templates

        board_pages.make(site, overview(site, recent(site, settings.board.days)), board)
    except Exception as error:  # whatever is wrong with pages, downlinks are processed
        what = f"the board could not be written: {error or type(error).__name__}"
        yield Cause(UNPUBLISHED, Verdict.ACTION, what, Remedy("halfpipe board"), now)


def _process_all(
    settings: Settings,
    which: Which,
    seconds: float,
    teller: Teller,
    sign: Callable[[], object],
    since: str,
) -> int:
    plan = Plan(settings)
    failed = dict[DownlinkId, Cause]()

    def get_on() -> None:
        sign()
        teller.of_site(UNPUBLISHED, publish(settings))  # a turn may take hours

    # Without the stage each downlink would be refused, and reported, for the one reason that the site has.
    is_ready = Survey(settings).stage_trouble is None
    for todo in filter(None, outstanding(plan, since) if is_ready else []):
        failed |= process(plan, todo, which, seconds, get_on)
    sign()
    site = Survey(settings)
    found = overview(site, {*recent(site, DAYS, since), *failed})
    causes = [(of_site(cause.code), cause) for cause in found.site]
    unknown = {of_site(UNPUBLISHED)}
    for one in found.accounts:
        if one.state.startswith("in work"):
            unknown.add(one.downlink)
        own = failed.get(one.downlink)
        if own and (own.code == LATE or not any(cause.verdict is Verdict.ACTION for cause in one.causes)):
            causes.append((one.downlink, own))
        causes += [(one.downlink, cause) for cause in one.causes]
    teller.tell(causes, unknown)
    late = any(cause.code == LATE for cause in failed.values())
    return OUT_OF_TIME if late else FAILED if failed or found.wanting else GOOD


def process(
    plan: Plan, todo: Sequence[DownlinkId], which: Which, seconds: float, get_on: Callable[[], object]
) -> dict[DownlinkId, Cause]:
    """Process downlinks by one command of Snakemake.

    Parameters
    ----------
    plan, todo
        The plan of the site, and the downlinks.
    which
        How Snakemake finds the site.
    seconds
        In which one downlink has to be done, else the command is ended.
    get_on
        Is called every ten minutes.

    Returns
    -------
    dict
        Why downlinks are not done, for those whose jobs have not recorded it.
    """
    begun = time.time()
    log = plan.work / paths.UNATTENDED_LOGS / f"{datetime.fromtimestamp(begun, UTC):%Y%m%dT%H%M%S.%fZ}.log"
    targets = {dl: plan.target(dl) for dl in todo}
    done, since, shown, is_late = set[DownlinkId](), time.monotonic(), time.monotonic(), False
    with running(which.command(*targets.values()), log) as snakemake:
        for _ in ticks(snakemake, LOOK_SECONDS):
            now = time.monotonic()
            before, done = done, {dl for dl in todo if (plan.work / targets[dl]).exists()}
            since = now if done - before else since
            if now - shown > SHOWN_SECONDS:
                get_on()
                shown = now
            if now - since > seconds and snakemake.status() is None:
                if which.is_remote and queue.queued():
                    since = now  # waiting in the queue of Slurm is not hanging
                    continue
                is_late = True
                break
        status = snakemake.status()
    left = [dl for dl in todo if not (plan.work / targets[dl]).exists()]
    if is_late:
        do = Remedy(first=f"see what hung, often a file system: {log}")
        return {dl: Cause(LATE, Verdict.ACTION, "it ran out of time and was ended", do) for dl in left}
    text = f"snakemake ended with status {status} before it was done; its log: {log}"
    return {dl: Cause("failed", Verdict.ACTION, text, Remedy(f"snakemake {targets[dl]}")) for dl in left}
