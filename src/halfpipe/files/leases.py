"""Leases on downlinks, runs and work of the site: several people, cron, and jobs on several hosts work at once.

A lease is a directory of numbered files. The file with the highest number names the holder. Another process may publish
the next number if the holder's heartbeat is gone, or was not touched for the holder's lifetime. link(2) lets only one
process do that. A process that was suspended for longer and lost its lease notices this in `Lease.check`, which runs
right before every step that must not happen late.

A *head*, the Snakemake that a person or a timer started, holds the lease of each downlink that it processes. Its jobs
register under this lease. A new head waits for registered jobs of a head that was killed. `Lease.check` stops late
writes of these jobs, but it cannot stop Snakemake: inside a Slurm job of several rules, Snakemake removes the outputs
of each job right before the job starts (``Job.prepare`` in Snakemake 9.27), and runs `check_head` only once, when it
reads the workflow.

The lease of a run protects the state of the run, from its merge to its delivery.
"""

import atexit
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from halfpipe import paths
from halfpipe.errors import LeaseLostError, LockedError
from halfpipe.files import heartbeat
from halfpipe.files.durable import publish
from halfpipe.files.heartbeat import BEATS, Holder, file_server_time, signals_blocked
from halfpipe.files.reading import names_in
from halfpipe.ids import DownlinkId, RunId
from halfpipe.settings import Settings

HEAD_VARIABLE = "HALFPIPE_HEAD"  # name of the heartbeat of the process that started this job
SIDE_BY_SIDE = "HALFPIPE_SIDE_BY_SIDE"  # set if each downlink has cores of its own: it is a Slurm job
POLL_SECONDS = 1.0  # longest pause between two looks while waiting
PATIENCE_SECONDS = 2.0  # until a wait is first reported
REMIND_SECONDS = 60.0  # between reminders
ATTEMPTS = 10  # looks, if other processes take or release the lease at the same moment
UNKNOWN_LIFETIME = 300.0  # seconds; for a lease with a damaged file
NUMBER = re.compile(r"[0-9]{6,}")
JOB = re.compile(r"job-(.+)-[0-9a-f]{16}")
Say = Callable[[str], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """A lease that exists.

    Attributes
    ----------
    name
        Name of its directory.
    number
        The number that counts; 0 if only jobs are left.
    holder
        The process that holds it; None if the file is damaged.
    signed
        When the holder took it, or last reported progress, Unix seconds.
    touched
        When the holder's heartbeat was touched; None if the heartbeat or the process is gone.
    silent
        Seconds since then.
    jobs
        Names of the jobs that are alive.
    """

    name: str
    number: int = 0
    holder: Holder | None = None
    signed: float = 0.0
    touched: float | None = None
    silent: float = 0.0
    jobs: tuple[str, ...] = ()

    @property
    def lifetime(self) -> float:
        """Seconds of silence after which another process may take over."""
        return self.holder.lifetime if self.holder else UNKNOWN_LIFETIME

    @property
    def lives(self) -> bool:
        """Whether the holder counts as alive."""
        return self.touched is not None and self.silent < self.lifetime

    @property
    def ours(self) -> bool:
        """Whether this process holds it."""
        return self.holder is not None and self.holder.heart in {
            each.me.heart for each in heartbeat.hearts.values()
        }

    def __str__(self) -> str:
        if self.jobs and not self.lives:
            return f"jobs that a killed process left behind: {', '.join(self.jobs)}"
        who = str(self.holder or "an unknown process (its file is damaged)")
        if not self.lives or self.silent < 3 * self.lifetime / BEATS:
            return who
        return f"{who}, last heartbeat {self.silent:.0f} s ago; another process may take over after {self.lifetime:g} s"


def look(work: Path, place: str) -> Found | None:
    """Return the lease at `place`, a path of `halfpipe.paths`; None if it does not exist."""
    for _ in range(ATTEMPTS):
        names = names_in(work / place)
        number = max((int(name) for name in names if NUMBER.fullmatch(name)), default=0)
        found = Found(Path(place).name, number)
        path = work / place / f"{number:06d}"
        if number:
            try:
                holder = Holder.read(path)
                signed = path.stat().st_mtime
                touched = heartbeat.touched(work, holder.heart) if holder else signed
                if holder is not None and holder.is_gone:
                    touched = None
                # A heartbeat is removed after its lease is released: it proves a death only while the lease exists.
                # A file that was missing for a moment is not damaged.
                if (touched is None or holder is None) and Holder.read(path) != holder:
                    continue
            except FileNotFoundError:  # taken over or released at this moment
                continue
            silent = 0.0 if touched is None else file_server_time(work) - touched
            found = replace(found, holder=holder, signed=signed, touched=touched, silent=silent)
            if not found.lives:  # jobs may have registered meanwhile; later ones see that their head is dead
                names = names_in(work / place)
        jobs = sorted(name for name in names if _job_lives(work, place, name, found.lifetime))
        return replace(found, jobs=tuple(jobs)) if number or jobs else None
    return None


def _job_lives(work: Path, place: str, name: str, silence: float) -> bool:
    """Tell whether `name` is a registered job whose heartbeat was touched less than `silence` seconds ago."""
    match = JOB.fullmatch(name)
    touched = heartbeat.touched(work, match[1]) if match else None
    if touched is None or file_server_time(work) - touched >= silence:
        return False
    if not name.startswith(f"job-{socket.gethostname()}-"):
        return True  # not read, because thousands of jobs may run on other hosts
    job = Holder.read(work / place / name)
    return job is None or not job.is_gone


class Lease(AbstractContextManager["Lease"]):
    """The lease at `place` below the directory `work`. It is released at the end of a ``with``.

    If this process is silent for `lifetime` seconds, others may take over.
    """

    def __init__(self, work: Path, place: str, lifetime: float) -> None:
        self.work = work
        self.place = place
        self.lifetime = lifetime
        self.home = work / place
        self._me: Holder | None = None  # while this process holds it itself
        self._mine = 0, ""  # number and token

    @classmethod
    def of(cls, settings: Settings, place: str) -> Self:
        """Return the lease at `place` below `paths.work`."""
        return cls(settings.paths.work, place, settings.lease.seconds)

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def is_of_this_process(self) -> bool:
        """Whether this process has taken it and not released it; false in a process that was forked since then."""
        return self._me is not None and self._me.pid == os.getpid()

    def look(self) -> Found | None:
        """Return the lease as it is now."""
        return look(self.work, self.place)

    @signals_blocked()
    def try_take(self) -> bool:
        """Take the lease and return True, unless a process holds it or a job of a killed one is left.

        It is not taken either if another process takes or releases it at this moment.
        """
        before = self.look() or Found("")
        if before.lives or before.jobs:
            return False
        me = heartbeat.begin(self.work, self.lifetime)
        try:
            self._me = me if self._publish_after(before, me) else None
        finally:
            if self._me is None:
                heartbeat.end(self.work)
        return self._me is not None

    def _publish_after(self, before: Found, me: Holder) -> bool:
        """Publish the next number after `before`; tell whether this worked and no other process was faster."""
        place = self.home / f"{before.number + 1:06d}"
        self._mine = before.number + 1, me.token
        try:
            if not publish(place, me.as_bytes(), lasting=False):
                return False
        except FileNotFoundError:  # another process has just removed the directory
            return False
        # This process may have been slow: others may have taken over, or released it and begun at 1 again. A head that
        # was suspended may go on at this moment, and start a job.
        last = self.home / f"{before.number:06d}"
        is_still = not before.number or (Holder.read(last) == before.holder and last.exists())
        if not is_still or not self._is_mine(with_jobs=False):
            place.unlink(missing_ok=True)
            return False
        for number in range(max(1, before.number - 2), before.number + 1):
            (self.home / f"{number:06d}").unlink(missing_ok=True)
        if before.holder is not None:
            (self.work / paths.HEARTBEATS / before.holder.heart).unlink(missing_ok=True)
        return True

    def _is_mine(self, *, with_jobs: bool = True) -> bool:
        found = self.look()
        if found is None or (found.jobs and not with_jobs):
            return False
        return (found.number, found.holder and found.holder.token) == self._mine

    def take(self, what: str, say: Say, *, refuse: bool = False) -> Self:
        """Wait until the lease is free, and take it.

        This also waits for jobs of a holder that was killed. `say` gets the reason: with `refuse` at once, otherwise
        after some seconds, and again every minute. With `refuse`, only a holder that may be dead is waited for: until
        it touches its heartbeat, or until its lifetime is over.

        Raises
        ------
        LockedError
            If `refuse` and the holder lives; the message has its process, host and start.
        """
        pause = 0.02
        seen = None
        say_at = time.monotonic() + (0.0 if refuse else PATIENCE_SECONDS)
        while not self.try_take():
            found = self.look()
            why = f"waiting for {what}, held by {found}"
            if refuse and found is not None and found.lives:
                why = f"{what} is in progress: {found}. Waiting to see whether that process is still alive"
                before = seen
                seen = (found.number, found.touched)
                if before not in {None, seen}:
                    raise LockedError(
                        f"{what} is in progress: {found} holds {self.home}. Wait for it to end, or end it, then rerun "
                        "the command."
                    )
            if found is not None and time.monotonic() >= say_at:  # None: it was released at this moment
                say(why)
                say_at = time.monotonic() + REMIND_SECONDS
            time.sleep(pause)
            pause = min(2 * pause, POLL_SECONDS)
        self.remove_dead_jobs()
        return self

    def remove_dead_jobs(self, silence: float | None = None) -> None:
        """Remove the files of jobs that are gone, or were silent for `silence` seconds; None: for the lifetime."""
        for name in names_in(self.home):
            if JOB.fullmatch(name) and not _job_lives(
                self.work, self.place, name, self.lifetime if silence is None else silence
            ):
                for path in (self.home / name, self.work / paths.HEARTBEATS / JOB.sub(r"\1", name)):
                    path.unlink(missing_ok=True)

    def check(self) -> None:
        """Make sure that no other process has taken over.

        Raises
        ------
        LeaseLostError
            If one has.
        """
        if not self._is_mine():
            found = self.look()
            now = f"now {found.holder} has it" if found and found.holder else "no process has it now"
            raise LeaseLostError(
                f"{self.home}: its holder was suspended for too long and lost this lease, {now}. Nothing more was "
                "done. Rerun the command."
            )

    def report_progress(self) -> None:
        """Note the time: a heartbeat shows that the holder lives, and this shows that its work advances."""
        with suppress(OSError):
            os.utime(self.home / f"{self._mine[0]:06d}")

    @signals_blocked()
    def release(self) -> None:
        """Release the lease, unless another process has taken over."""
        if not self.is_of_this_process:
            return
        self._me = None
        with suppress(OSError):  # other processes may be about to take it
            if self._is_mine():
                (self.home / f"{self._mine[0]:06d}").unlink()
                self.home.rmdir()
        heartbeat.end(self.work)

    @contextmanager
    def under_head(self, head: str) -> Iterator[Self]:
        """Register this process as a job under this lease, which the process with the heartbeat `head` holds.

        Raises
        ------
        LockedError
            If that process does not hold it any more.
        """
        me = heartbeat.begin(self.work, self.lifetime)
        place = self.home / f"job-{me.heart}-{me.token}"
        try:
            with suppress(FileNotFoundError):  # no process holds it
                place.write_bytes(me.as_bytes())
            found = self.look()
            holder = found.holder if found is not None and found.lives else None
            if found is None or holder is None or holder.heart != head:
                now = f"now {holder} works on it" if holder else "no process works on it now"
                raise LockedError(
                    f"{self.home}: the process that started this job is gone, {now}: the job started too late and did "
                    "nothing."
                )
            self._mine = found.number, holder.token
            yield self
        finally:
            place.unlink(missing_ok=True)
            with suppress(OSError):  # the head removes it, unless the head has ended
                self.home.rmdir()
            heartbeat.end(self.work)


_downlinks: dict[Path, Lease] = {}  # that this process holds as a head


def run_lease(settings: Settings, run: RunId, say: Say) -> Lease:
    """Wait for the lease of `run`, and take it."""
    return Lease.of(settings, paths.run_lease(run)).take(f"run {run}", say)


def hold_downlink(settings: Settings, downlink: DownlinkId, say: Say) -> Lease:
    """Take the lease of `downlink` until this process ends, unless this process has it. Its jobs work under this lease.

    Raises
    ------
    LockedError
        If another process works on the downlink.
    """
    lease = Lease.of(settings, paths.downlink_lease(downlink))
    if lease.home in _downlinks:
        return _downlinks[lease.home]
    if not _downlinks:
        atexit.register(release_downlinks)
    _downlinks[lease.home] = lease  # first, because a signal may end this process at any moment
    try:
        lease.take(f"downlink {downlink}", say, refuse=True)
    finally:
        if not lease.is_of_this_process:
            del _downlinks[lease.home]
    heart = heartbeat.hearts[lease.work]
    heart.ends_process = True
    os.environ[HEAD_VARIABLE] = heart.me.heart
    return lease


def release_downlinks() -> None:
    """Release the leases of `hold_downlink`. Jobs that are silent for three beats count as killed and are removed."""
    mine = [lease for lease in _downlinks.values() if lease.is_of_this_process]
    _downlinks.clear()
    silence = max((3 * lease.lifetime / BEATS for lease in mine), default=0.0)
    if any(found.jobs for lease in mine if (found := lease.look())):
        time.sleep(silence)
    for lease in mine:
        lease.remove_dead_jobs(silence)
        lease.release()
    heartbeat.end_all({lease.work for lease in mine})


def check_head(work: Path) -> None:
    """Make sure that the process that started this one, if any, still exists and was not replaced.

    Raises
    ------
    LockedError
        If it is gone, or another process has taken over.
    """
    head = os.environ.get(HEAD_VARIABLE, "")
    if head and heartbeat.touched(work, head) is None:
        raise LockedError(
            f"the process that started this job is gone ({work / paths.HEARTBEATS / head}): the job started too late "
            "and did nothing."
        )


def downlink_job(settings: Settings, downlink: DownlinkId) -> AbstractContextManager[Lease]:
    """Run a job of `downlink`: under the lease of the head that started this process, otherwise under its own.

    Raises
    ------
    LockedError
        If another process works on the downlink, or the head is gone.
    """
    lease = Lease.of(settings, paths.downlink_lease(downlink))
    head = os.environ.get(HEAD_VARIABLE, "")
    return lease.under_head(head) if head else lease.take(f"downlink {downlink}", log.warning, refuse=True)


def in_progress(work: Path, downlink: DownlinkId) -> str | None:
    """Describe the other living process that works on `downlink`; None if there is none."""
    found = look(work, paths.downlink_lease(downlink))
    return str(found) if found is not None and found.lives and not found.ours else None


def all_leases(work: Path) -> list[Found]:
    """Return all leases that exist."""
    every = (look(work, f"{paths.LEASES}/{name}") for name in sorted(names_in(work / paths.LEASES)))
    return [each for each in every if each is not None]
