"""Unattended processing: every outstanding downlink, by Snakemake with the profile of the site.

A turn finds the outstanding downlinks like the default target of the workflow. It processes them to the receipt, or
to the submission with `submit.automatic`. Downlinks that failed before are processed last, by a command of their own.
The turn ends if no downlink is finished for a long time. It prints nothing on success.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import ConfigError, HalfPipeError, Remedy
from halfpipe.files import leases, working_directory
from halfpipe.files.durable import remove_tree
from halfpipe.files.heartbeat import file_server_time, whoami
from halfpipe.files.leases import Lease
from halfpipe.files.reading import is_made
from halfpipe.files.typed import write_stored
from halfpipe.ids import DownlinkId
from halfpipe.operate.alarms import Alarms, site_subject
from halfpipe.operate.invocation import SnakemakeCall, running, ticks
from halfpipe.plan.outstanding import outstanding
from halfpipe.plan.plan import Plan
from halfpipe.settings import Settings
from halfpipe.staging import stage_mark
from halfpipe.status import slurm_queue
from halfpipe.status.failed_jobs import failed_jobs
from halfpipe.status.overview import DAY, note_closed, overview, recent
from halfpipe.status.site_causes import LastTurn, turn_troubles
from halfpipe.status.survey import Survey

GOOD, FAILED, UNUSABLE, OUT_OF_TIME, RUNNING = range(5)  # exit statuses
# Codes of causes.
UNPUBLISHED = "board-failed"
LATE = "time-limit"
QUEUED = "queue-waits"
MINUTES = 240.0  # in which at least one downlink must finish, not counting the time in Slurm's queue
LOOK_SECONDS = 5.0  # between two checks of the downlinks
REPORT_SECONDS = 600.0  # between two reports of progress, and two boards, during a turn
DAYS = 7.0  # a turn looks at all downlinks that changed within this time, and at all that are not closed


def is_usable(settings: Settings, check: Callable[[], object], say: Callable[[str], bool]) -> bool:
    """Tell whether a turn may write in the working directory; otherwise report why, once, without writing there.

    Parameters
    ----------
    settings, say
        As for `turn`.
    check
        Raises `ConfigError` if the directory is missing or of another version.
    """
    work = settings.paths.work
    # What was sent cannot be recorded in a missing directory, or in an empty mount point.
    key = hashlib.sha256(str(work).encode()).hexdigest()[:16]
    home = Path(tempfile.gettempdir()) / f"halfpipe-{os.getuid()}-{key}"
    wrong = list[Cause]()
    try:
        check()
        if working_directory.refuse_other(work) is None:
            stage_mark.refuse(
                settings
            )  # a stage that is in use belongs to another directory than an empty one
    except ConfigError as error:
        wrong.append(Cause(error.code, Verdict.ACTION, error.text, error.remedy))
    if wrong or home.is_dir():
        Alarms(settings, say, home).report((site_subject(cause.code), cause) for cause in wrong)
    if not wrong:
        remove_tree(home)
    return not wrong


def in_turn(plan: Plan) -> list[list[DownlinkId]]:
    """Return the outstanding downlinks that are ready: the new ones, then those that failed before."""
    ready = outstanding(plan, time.time()).ready
    free = [dl for dl in ready if leases.in_progress(plan.work, dl) is None]
    failed = {dl for dl in free if failed_jobs(plan.work, dl)}
    return [[dl for dl in free if dl not in failed], [dl for dl in free if dl in failed]]


def turn(
    settings: Settings, snakemake: SnakemakeCall, minutes: float, say: Callable[[str], bool], *, timer: bool
) -> int:
    """Process the outstanding downlinks that no other process works on.

    Parameters
    ----------
    settings
        The settings.
    snakemake
        How Snakemake is called for the site.
    minutes
        The turn ends if no downlink is finished in this time, not counting the time in Slurm's queue.
    say
        Prints a message for a person, and returns whether that worked.
    timer
        Whether a timer started the turn. Then its end is recorded, so that a missing turn is noticed, and a turn that
        is already running is not reported.

    Returns
    -------
    int
        `GOOD`, `FAILED`, `OUT_OF_TIME` or `RUNNING`; `UNUSABLE` if more downlinks are outstanding than
        `outstanding.max`.
    """
    work = settings.paths.work
    alarms = Alarms(settings, say)
    lease = Lease.of(settings, paths.UNATTENDED_LEASE)
    if not lease.try_take():
        if not timer:
            say(f"another unattended invocation is running: {lease.look() or 'it has just ended'}")
        alarms.report_site("unattended-stopped", turn_troubles(work, time.time()))
        return RUNNING
    with lease:
        status = FAILED
        try:
            status = Turn(settings, snakemake, minutes * 60, alarms, lease).run()
        except (HalfPipeError, OSError) as error:
            status = UNUSABLE if isinstance(error, ConfigError) else FAILED
            why = Cause("turn-failed", Verdict.ACTION, f"the turn was broken off: {error}")
            alarms.report_site(why.code, [why])
        finally:
            if timer:
                with suppress(HalfPipeError, OSError):
                    write_stored(work / paths.LAST_TURN, LastTurn(time.time(), status, whoami().host))
            alarms.report_site(UNPUBLISHED, publish(settings))
    return status


def publish(settings: Settings) -> Iterator[Cause]:
    """Write the board if the config asks for one. Yield the cause if this fails; the turn continues."""
    board = settings.board.dir
    now = time.time()
    if board is None:
        return
    survey = Survey(settings, now, now - settings.board.days * DAY)
    try:
        from halfpipe.pages import board_pages  # noqa: PLC0415 - the library of templates

        board_pages.make(survey, recent(survey, settings.board.days), board)
    except Exception as error:  # an error of the pages must not stop the processing
        what = f"the board could not be written: {error or type(error).__name__}"
        yield Cause(UNPUBLISHED, Verdict.ACTION, what, Remedy("halfpipe board"), now)


@dataclass(frozen=True)
class Turn:
    """One turn. `seconds` is its time limit."""

    settings: Settings
    snakemake: SnakemakeCall
    seconds: float
    alarms: Alarms
    lease: Lease

    def run(self) -> int:
        """Process the downlinks, report all problems, and return the exit status."""
        plan = Plan(self.settings)
        failed = dict[DownlinkId, Cause]()
        begun = file_server_time(self.lease.work)
        # Without a stage every downlink would be refused, and reported, for the same reason.
        ready = in_turn(plan) if Survey(self.settings).plan.stage_trouble is None else []
        for todo in filter(None, ready):
            failed |= self._process(plan, todo, begun)
        survey = Survey(self.settings)
        found = overview(survey, {*recent(survey, DAYS), *failed})
        causes = [(site_subject(cause.code), cause) for cause in found.site]
        unknown = {site_subject(UNPUBLISHED)}
        for one in found.accounts:
            if one.state.startswith("in progress"):
                unknown.add(one.downlink)
            own = failed.get(one.downlink)
            is_told = any(cause.verdict is Verdict.ACTION or cause.failed for cause in one.causes)
            if own and (own.code == LATE or not is_told):
                causes.append((one.downlink, own))
            causes += [(one.downlink, cause) for cause in one.causes]
        self.alarms.report(causes, unknown)
        note_closed(survey, found.accounts)
        if any(cause.code == LATE for cause in failed.values()):
            return OUT_OF_TIME
        return FAILED if failed or found.needs_action else GOOD

    def _process(self, plan: Plan, todo: Sequence[DownlinkId], begun: float) -> dict[DownlinkId, Cause]:
        """Process downlinks by one command of Snakemake; return the causes that their jobs have not recorded.

        `begun` is the start of the turn, Unix time. Older receipts do not count: a downlink with a late RetDef has one.
        """
        log = (
            plan.work
            / paths.UNATTENDED_LOGS
            / f"{datetime.fromtimestamp(time.time(), UTC):%Y%m%dT%H%M%S.%fZ}.log"
        )
        targets = {dl: plan.target(dl) for dl in todo}
        with running(self.snakemake.command(*targets.values()), log) as process:
            left = [*todo]
            progress = time.monotonic()
            reported = time.monotonic()
            for _ in ticks(process, LOOK_SECONDS):
                now = time.monotonic()
                before = left
                left = [dl for dl in todo if not is_made(f"{plan.work}/{targets[dl]}", begun)]
                is_late = now - progress > self.seconds
                if left != before or (is_late and self.snakemake.is_remote and slurm_queue.troubles()):
                    progress = now
                    is_late = False
                if now - reported > REPORT_SECONDS:
                    self.report_progress()
                    reported = now
                if is_late and process.poll() is None:
                    break
            status = process.poll()
        left = [dl for dl in todo if not is_made(f"{plan.work}/{targets[dl]}", begun)]
        if status is None:
            do = Remedy(first=f"see what hung, often a file system: {log}")
            return {dl: Cause(LATE, Verdict.ACTION, "it ran out of time and was ended", do) for dl in left}
        text = f"snakemake ended with status {status} before it was done; its log: {log}"
        return {dl: Cause("failed", Verdict.ACTION, text, Remedy(f"snakemake {targets[dl]}")) for dl in left}

    def report_progress(self) -> None:
        """Show that a long turn advances, write the board, and report what stops Slurm's queue."""
        self.lease.report_progress()
        if self.snakemake.is_remote:
            self.alarms.report_site(QUEUED, slurm_queue.troubles())
        self.alarms.report_site(UNPUBLISHED, publish(self.settings))
