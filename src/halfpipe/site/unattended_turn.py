"""Unattended processing: every outstanding downlink, one after the other.

Each downlink is an element of its own, one job in Slurm, and if it goes on to Level-1 another one here after that. It
has a time limit and logs of its own, so that one that fails or hangs does not stop the next; those that were
tried before come last. Nothing is told if all went well.
"""

import time
from collections.abc import Callable, Iterator, Mapping
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
from halfpipe.status.failures import end_of
from halfpipe.status.overview import DAY, overview, recent
from halfpipe.status.site_causes import last_turn, turn_troubles

GOOD, FAILED, UNUSABLE, OUT_OF_TIME, RUNNING = range(5)  # exit statuses
UNPUBLISHED, LATE = "board-failed", "out-of-time"  # codes of causes
MINUTES = 240.0  # that a downlink may take
SIGN_SECONDS = 60.0  # between two signs that a turn gets on
WAITS_SECONDS = 600.0  # that one is waited for which finds a disk or Slurm full
DAYS = 7.0  # downlinks that are older and were not wanting are not looked at, but for
ALL_SECONDS = DAY  # every so often: a RetDef may come late, and whatever else changes
LINES = 30  # of what was printed that a mail has: its end says which job failed, why, and what to do
Launchers = Callable[[DownlinkId], Launcher]


def outstanding(plan: Plan, home: Path, since: str = "") -> list[DownlinkId]:
    """Return the outstanding downlinks that are ready, those last that have a log in `home`: they were tried before.

    Those before the id `since` that are done are not looked at.
    """
    tried = {path.stem.split("-")[1] for path in home.glob("*-*.log")}
    ready = plan_causes.outstanding(plan, time.time(), since=since).ready
    return sorted(ready, key=lambda dl: (dl in tried, dl))


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
    launchers: Launchers,
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
    launchers
        Gives what starts the element of a downlink.
    minutes
        That each downlink may take.
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
    begun, ended = time.time(), dict[DownlinkId, int]()
    status = FAILED
    before, since = looked_at(settings.paths.work, begun) if timer else (begun, "")
    looked = before if since else 0.0
    try:
        status = _process_all(settings, launchers, minutes, teller, ended, mine.sign, since)
        looked = before
    except (HalfPipeError, OSError) as error:
        status = UNUSABLE if isinstance(error, ConfigError) else FAILED
        teller.of_site(
            "turn-failed", [Cause("turn-failed", Verdict.ACTION, f"the turn was broken off: {error}")]
        )
        return status
    finally:
        if timer:
            _record_turn(settings.paths.work, begun, status, ended, looked)
        try:
            teller.of_site(UNPUBLISHED, publish(settings))
        finally:
            mine.give_back()
    return status


def _record_turn(
    work: Path, begun: float, status: int, ended: Mapping[DownlinkId, int], looked: float
) -> None:
    """Write down that a turn of the timer has ended, so that a timer that is dead can be seen."""
    me = leases.whoami()
    with suppress(HalfPipeError, OSError):
        write_json(
            work / paths.LAST_TURN,
            {
                "begun": round(begun),
                "ended": round(time.time()),
                "all": looked,
                "status": status,
                "downlinks": dict(ended),
                "host": me.host,
                "user": me.user,
            },
        )


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
    launchers: Launchers,
    minutes: float,
    teller: Teller,
    ended: dict[DownlinkId, int],
    sign: Callable[[], object],
    since: str,
) -> int:
    plan, home = Plan(settings), settings.paths.work / paths.UNATTENDED_LOGS
    failed, details = dict[DownlinkId, Cause](), dict[str, str]()
    for number, downlink in enumerate(outstanding(plan, home, since)):
        if number:
            teller.of_site(UNPUBLISHED, publish(settings))  # a turn may take hours
        if leases.in_work(plan.work, downlink) is not None:
            continue
        until = time.monotonic() + minutes * 60
        why, log = hand_off(settings, launchers(downlink), downlink, until, sign)
        if why is None and plan.target(downlink) != paths.receipt(downlink):
            why, log = hand_off(settings, Here(1), downlink, until, sign, submits=True)
        ended[downlink] = GOOD if why is None else OUT_OF_TIME if why.code == LATE else FAILED
        if why is not None:
            failed[downlink] = why
            printed = "\n".join(f"  | {line}" for line in end_of(log, LINES))
            details[downlink] = f"all that was printed: {log}\n{printed}"
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
    return max([*ended.values(), FAILED if found.wanting else GOOD])


def hand_off(
    settings: Settings,
    launcher: Launcher,
    downlink: DownlinkId,
    until: float,
    sign: Callable[[], object],
    *,
    submits: bool = False,
) -> tuple[Cause | None, Path]:
    """Process a downlink as an element of its own, up to its hand-off, or submit it.

    Parameters
    ----------
    settings, launcher, downlink
        The settings, what starts the element, and the downlink.
    until
        When its time is up, by the monotonic clock.
    sign
        Shows that the turn gets on.
    submits
        Whether it is submitted.

    Returns
    -------
    tuple
        Why it did not end well, for where no job's record says it; None, it did. The log.
    """
    batch = Batch(settings, [downlink], home=paths.UNATTENDED_LOGS, submits=submits)
    waiting_since, signed, why = time.monotonic(), 0.0, ""
    try:
        with closing(batch.run(launcher)) as looks:
            for _ in looks:
                now = time.monotonic()
                if now - signed > SIGN_SECONDS:
                    sign()
                    signed = now
                waiting_since = waiting_since if batch.waits else now
                if now > until:
                    why = LATE
                    break
                if now - waiting_since > WAITS_SECONDS:
                    why = f"it waits: {batch.waits}"
                    break
    except HalfPipeError as error:
        why = in_a_line(str(error))
    log = batch.logs.get(downlink, Path())
    if why == LATE:
        do = Remedy(first=f"see what hung, often a file system: {log}")
        return Cause(LATE, Verdict.ACTION, "it ran out of time and was ended", do), log
    if downlink in batch.done:
        return None, log
    why = why or batch.left.get(downlink, "it was not submitted" if submits else "it was not handed off")
    command = f"snakemake {'submit' if submits else 'dl'}={downlink}"
    return Cause("failed", Verdict.ACTION, f"{why}; its log: {log}", Remedy(command)), log
