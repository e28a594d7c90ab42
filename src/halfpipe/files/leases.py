"""Leases on downlinks, runs and a few other things, for several people, jobs on several hosts, and cron.

A process that holds anything touches one heartbeat file, `BEATS` times in its lifetime. A lease is a directory of
numbered files, of which the highest says who holds it. It may be followed by the next number if its holder's heartbeat
is gone, or was not touched for a lifetime by the file server's clock; link(2) lets one process do that. A process that
was killed on this host is seen to be gone at once. For a process on another host, the lifetime counts.

Who was followed while it stood still finds out by `Lease.check`, asked right before what must not happen late.
"""

import atexit
import getpass
import json
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Self

from halfpipe import paths
from halfpipe.errors import LeaseLostError, LockedError
from halfpipe.files.durable import publish
from halfpipe.files.reading import names_in
from halfpipe.ids import DownlinkId, RunId

HEAD_VARIABLE = "HALFPIPE_HEAD"  # the heartbeat of the process that started this job
BEATS = 30  # in a lifetime
POLL_SECONDS = 1.0  # between two looks of who waits, and between two probes of the file server's clock
PATIENCE_SECONDS = 2.0  # who waits for longer says so,
REMIND_SECONDS = 60.0  # and again
ATTEMPTS = 10  # to look, where others follow or give back at the same moment
ENDING = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
BOOT, PROCESS_NUMBERS = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
HEART, NUMBER, JOB = (re.compile(p) for p in (r"\w[\w.-]*", r"[0-9]{6,}", r"job-(.+)-[0-9a-f]{16}"))
Say = Callable[[str], None]

log = logging.getLogger(__name__)
lifetime = 300.0  # seconds, of what this process takes from now on; `lease.seconds` of the settings


@dataclass(frozen=True)
class Holder:
    """Who holds a lease; `heart` is the name of its heartbeat, and `token` is different for every taking.

    `boot` is the boot of its host and the name space of its `pid`, `begun` when the process started, in clock ticks
    since that boot (field 22 of ``/proc/PID/stat``, proc(5)).
    """

    user: str
    host: str
    pid: int
    slurm_job: str
    since: str
    heart: str = ""
    lifetime: float = 300.0
    token: str = ""
    boot: str = ""
    begun: int = 0

    @classmethod
    def of(cls, content: bytes) -> Self | None:
        """Return who has written `content`, a later version too; None where nobody says so."""
        try:
            said = json.loads(content)
            found = cls(**{each.name: each.type(said[each.name]) for each in fields(cls)})  # type: ignore[operator]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return found if HEART.fullmatch(found.heart) else None

    @property
    def is_gone(self) -> bool:
        """Whether its process ran on this host, in this boot, and has ended."""
        if not self.boot or (self.host, self.boot) != (socket.gethostname(), _boot()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            pass
        with suppress(OSError, ValueError):  # where /proc hides the processes of other users
            state, begun = _state(self.pid)
            return state in {"Z", "X"} or begun != self.begun
        return False

    @property
    def who(self) -> str:
        """The user, the process and its host."""
        job = f", Slurm job {self.slurm_job}" if self.slurm_job else ""
        return f"{self.user}, process {self.pid} on {self.host}{job}"

    def __str__(self) -> str:
        return f"{self.who}, since {self.since}"


@cache
def _boot() -> str:
    """Return a name of this boot of this host, and of the numbers that its processes have in this container."""
    with suppress(OSError):
        return f"{BOOT.read_text().strip()} {PROCESS_NUMBERS.readlink()}"
    return ""


def _state(pid: int | str) -> tuple[str, int]:
    """Return the state of a process on this host, a letter, and when it began; "self" is this process."""
    after_its_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return after_its_name[0], int(after_its_name[19])


def whoami() -> Holder:
    """Describe this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run a user id without a name
        user = str(os.getuid())
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Holder(user, socket.gethostname(), os.getpid(), os.environ.get("SLURM_JOB_ID", ""), now)


@contextmanager
def told_later() -> Iterator[None]:
    """Have a signal that ends this process wait until a step that must not be cut is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Heart:
    """The heartbeat of this process in one working directory; `held` counts what it holds there."""

    def __init__(self, work: Path) -> None:
        me = whoami()
        name = _in_a_name(f"{me.host}-{me.pid}-{os.urandom(4).hex()}")
        begun = 0
        with suppress(OSError):
            begun = _state("self")[1]
        self.me = replace(me, heart=name, lifetime=lifetime, boot=_boot() if begun else "", begun=begun)
        self.held = 0
        self._path, self._ended = work / paths.HEARTBEATS / name, threading.Event()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_bytes(_written(self.me))
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.wait(self.me.lifetime / BEATS):
            with suppress(OSError):
                try:
                    os.utime(self._path)
                except FileNotFoundError:  # we stood still for so long that somebody has followed us
                    if any(lease.is_of_this_process for lease in list(_downlinks.values())):
                        # Its jobs are refused, and Snakemake would remove what another one has made since.
                        os.write(
                            2, b"this process stood still for too long and lost its downlinks: it ends\n"
                        )
                        os._exit(1)
                    self._path.write_bytes(_written(self.me))

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(OSError):
            self._path.unlink()


_hearts: dict[Path, _Heart] = {}


@told_later()
def _begin(work: Path) -> Holder:
    """Return who this process is, with a new token; its heart beats until `_end`."""
    heart = _hearts.get(work)
    if heart is None or heart.me.pid != os.getpid():  # a forked child has a heart of its own
        heart = _hearts[work] = _Heart(work)
    heart.held += 1
    return replace(heart.me, token=os.urandom(8).hex(), since=whoami().since)


@told_later()
def _end(work: Path) -> None:
    _hearts[work].held -= 1
    if not _hearts[work].held:
        _hearts.pop(work).end()


def _written(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


_probed: dict[Path, tuple[float, float]] = {}


def file_server_time(work: Path) -> float:
    """Return the Unix time by the clock of the file server, the only one that two hosts share."""
    when, said = _probed.get(work, (-POLL_SECONDS, 0.0))
    if time.monotonic() - when >= POLL_SECONDS:
        probe = work / paths.HEARTBEATS / f".probe-{os.urandom(8).hex()}"
        when, said = time.monotonic(), time.time()
        with suppress(OSError):  # who may not write here only looks
            probe.touch()
            said = probe.stat().st_mtime
            probe.unlink()
        _probed[work] = when, said
    return said + time.monotonic() - when


@dataclass(frozen=True)
class Found:
    """A lease that is there, of which `number` counts.

    `holder` is None where nobody says who it is. `touched` is when its heartbeat was, None if that or its process is
    gone, `signed` when it took the lease or showed last that it gets on (Unix seconds), `silent` for how long it was
    not touched.
    `registered` has its jobs, and when the heartbeat of each was touched; `jobs` are the names of those who live.
    """

    name: str
    number: int = 0
    holder: Holder | None = None
    signed: float = 0.0
    touched: float | None = None
    silent: float = 0.0
    jobs: tuple[str, ...] = ()
    registered: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def lifetime(self) -> float:
        """After so many seconds of silence others may follow."""
        return self.holder.lifetime if self.holder else lifetime

    @property
    def lives(self) -> bool:
        """Whether its holder counts as alive."""
        return self.touched is not None and self.silent < self.lifetime

    @property
    def ours(self) -> bool:
        """Whether this process holds it."""
        heart = self.holder and self.holder.heart
        return any(each.me.heart == heart for each in _hearts.values())

    def __str__(self) -> str:
        said = str(self.holder or "a process that does not say who it is")
        if not self.lives or self.silent < 3 * self.lifetime / BEATS:
            return said
        return f"{said}, last heard of {self.silent:.0f} s ago; taken over at {self.lifetime:g} s"


def look(work: Path, place: str) -> Found | None:
    """Return the lease at `place`, as `halfpipe.paths` has it; None if there is none."""
    for _ in range(ATTEMPTS):
        names = names_in(work / place)
        registered = {name: _touched(work, job[1]) for name in names if (job := JOB.fullmatch(name))}
        jobs = tuple(
            sorted(name for name, touched in registered.items() if _job_lives(work, place, name, touched))
        )
        number = max((int(name) for name in names if NUMBER.fullmatch(name)), default=0)
        found = Found(Path(place).name, number, jobs=jobs, registered=registered)
        if not number:
            return found if jobs else None
        with suppress(FileNotFoundError):  # followed or given back at this moment
            path = work / place / f"{number:06d}"
            holder = _written_in(path)
            signed = path.stat().st_mtime
            touched = _touched(work, holder.heart) if holder else signed
            if holder is not None and holder.is_gone:
                touched = None
            # Who gives a lease back removes its heartbeat after it: it tells of a death only where the lease is there.
            if touched is None and _written_in(path) != holder:
                continue
            silent = 0.0 if touched is None else file_server_time(work) - touched
            return replace(found, holder=holder, signed=signed, touched=touched, silent=silent)
    return None


def _job_lives(work: Path, place: str, name: str, touched: float | None) -> bool:
    """Tell whether a registered job lives, whose heartbeat was `touched` then."""
    if touched is None or file_server_time(work) - touched >= lifetime:
        return False
    if not name.startswith(f"job-{_in_a_name(socket.gethostname())}-"):  # thousands may run on other hosts
        return True
    with suppress(FileNotFoundError):
        job = _written_in(work / place / name)
        return job is None or not job.is_gone
    return False


def _in_a_name(text: str) -> str:
    return re.sub(r"[^\w.-]", "_", text)


def _written_in(path: Path) -> Holder | None:
    with suppress(PermissionError, IsADirectoryError):
        return Holder.of(path.read_bytes())
    return None


def _touched(work: Path, heart: str) -> float | None:
    try:
        return os.stat(f"{work}/{paths.HEARTBEATS}/{heart}").st_mtime  # noqa: PTH116 - asked of thousands
    except FileNotFoundError:
        return None


class Lease(AbstractContextManager["Lease"]):
    """The lease at `place` in `paths.work`, which this process takes, or which its head has taken.

    It is given back at the end of a `with`.
    """

    def __init__(self, work: Path, place: str) -> None:
        self.work, self.place, self.home = work, place, work / place
        self._me: Holder | None = None  # while this process itself holds it
        self._mine = 0, ""  # number and token

    def __exit__(self, *_: object) -> None:
        self.give_back()

    @property
    def is_of_this_process(self) -> bool:
        """Whether this process has taken it, and not one that has forked it, and has not given it back."""
        return self._me is not None and self._me.pid == os.getpid()

    def look(self) -> Found | None:
        """Return the lease as it is now."""
        return look(self.work, self.place)

    @told_later()
    def try_take(self) -> bool:
        """Take the lease if nobody holds it who lives, and nobody takes it or gives it back at the same moment."""
        before = self.look() or Found("")
        if before.lives:
            return False
        me = _begin(self.work)
        try:
            self._me = me if self._follow(before, me) else None
        finally:
            if self._me is None:
                _end(self.work)
        return self._me is not None

    def _follow(self, before: Found, me: Holder) -> bool:
        """Publish the next number after one that is over; tell whether that is done, and nobody was faster."""
        place = self.home / f"{before.number + 1:06d}"
        self._mine = before.number + 1, me.token
        try:
            if not publish(place, _written(me), lasting=False):
                return False
        except FileNotFoundError:  # the last one out removed the directory meanwhile
            return False
        # We may have been slow: others have followed long ago, or given back and taken it from the first number on.
        if not self._is_mine() or not self._is_still(before):
            place.unlink(missing_ok=True)
            return False
        for number in range(max(1, before.number - 2), before.number + 1):
            (self.home / f"{number:06d}").unlink(missing_ok=True)
        if before.holder is not None:
            (self.work / paths.HEARTBEATS / before.holder.heart).unlink(missing_ok=True)
        return True

    def _is_still(self, found: Found) -> bool:
        """Tell whether the number that was found is there, and of the same holder."""
        with suppress(FileNotFoundError):
            return not found.number or _written_in(self.home / f"{found.number:06d}") == found.holder
        return False

    def _is_mine(self) -> bool:
        found = self.look()
        return found is not None and (found.number, found.holder and found.holder.token) == self._mine

    def take(self, what: str, say: Say) -> Self:
        """Wait until the lease is free and take it; say who holds it, after a while and then each minute."""
        waiting = _Waiting(say, PATIENCE_SECONDS)
        while not self.try_take():
            waiting.wait(f"waiting for {what}, held by {self.look() or 'nobody any more'}")
        return self

    def take_or_refuse(self, what: str, say: Say) -> Self:
        """Take the lease, or be refused as soon as its holder shows that it lives.

        A holder that was killed on another host shows nothing, and this waits until its time is over. Jobs that a
        killed holder left behind are waited for too, because they must not do anything after us.

        Raises
        ------
        LockedError
            If its holder lives; says who, since when and where.
        """
        waiting, for_jobs, seen, taken = _Waiting(say, 0.0), _Waiting(say, 0.0), None, False
        while True:
            found = self.look()
            if found is not None and found.lives and not taken:
                now = found.number, found.touched
                if seen not in {None, now}:
                    raise LockedError(
                        f"{what} is in work: {found} holds {self.home}. Wait for it to end, or end it, then "
                        "re-run the command."
                    )
                seen = now
                who = f"process {found.holder.pid} on {found.holder.host}" if found.holder else "its process"
                waiting.wait(f"{what} is in work: {found}. Waiting to see whether {who} is still alive")
            elif found is not None and found.jobs:
                for_jobs.wait(
                    f"waiting for jobs of {what} that a killed process left behind: {', '.join(found.jobs)}"
                )
            elif taken:  # a job may have come at the last moment
                break
            else:
                taken = self.try_take()
        self.strike_out(self.jobs())
        return self

    def jobs(self) -> Mapping[str, float | None]:
        """Return the registered jobs, and when the heartbeat of each was touched."""
        found = self.look()
        return found.registered if found else {}

    def strike_out(self, dead: Iterable[str]) -> None:
        """Remove what killed jobs have left here."""
        for name in dead:
            for path in (self.home / name, self.work / paths.HEARTBEATS / JOB.sub(r"\1", name)):
                path.unlink(missing_ok=True)

    def check(self) -> None:
        """Make sure that nobody has followed.

        Raises
        ------
        LeaseLostError
            If somebody has.
        """
        if not self._is_mine():
            found = self.look()
            now = f"now {found.holder} has it" if found and found.holder else "nobody has it now"
            raise LeaseLostError(
                f"{self.home}: its holder stood still for too long and lost this lease, {now}: nothing more was done. "
                "Re-run the command."
            )

    def sign(self) -> None:
        """Show that the holder gets on with its work, as its heartbeat does not."""
        with suppress(OSError):
            os.utime(self.home / f"{self._mine[0]:06d}")

    @told_later()
    def give_back(self) -> None:
        """Give the lease back, unless somebody has followed."""
        if not self.is_of_this_process:
            return
        self._me = None
        with suppress(OSError):  # others may be about to take it
            if self._is_mine():
                (self.home / f"{self._mine[0]:06d}").unlink()
                self.home.rmdir()
        _end(self.work)

    @contextmanager
    def under_head(self, head: str) -> Iterator[Self]:
        """Work under this lease, which the process whose heartbeat is `head` has taken.

        Raises
        ------
        LockedError
            If it does not hold it any more.
        """
        me = _begin(self.work)
        place = self.home / f"job-{me.heart}-{me.token}"
        try:
            with suppress(FileNotFoundError):  # nobody holds it
                place.write_bytes(_written(me))
            found = self.look()
            holder = found.holder if found is not None and found.lives else None
            if found is None or holder is None or holder.heart != head:
                now = f"now {holder} is at work" if holder else "nobody is at work now"
                raise LockedError(
                    f"{self.home}: the process that started this job is gone, {now}: the job started too late and did "
                    "nothing."
                )
            self._mine = found.number, holder.token
            yield self
        finally:
            place.unlink(missing_ok=True)
            with suppress(OSError):  # unless our head was told to end, it will do that
                self.home.rmdir()
            _end(self.work)


class _Waiting:
    """Waits a moment at a time, longer and longer, and says for what: after some seconds, and then each minute."""

    def __init__(self, say: Say, patience: float) -> None:
        self._say, self._pause, self._next = say, 0.02, time.monotonic() + patience

    def wait(self, text: str) -> None:
        if time.monotonic() >= self._next:
            self._say(text)
            self._next = time.monotonic() + REMIND_SECONDS
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, POLL_SECONDS)


def run_lease(work: Path, run: RunId, say: Say) -> Lease:
    """Hold the lease of `run`, waiting for it; under it the state of the run is read and changed."""
    return Lease(work, paths.run_lease(run)).take(f"run {run}", say)


_downlinks: dict[Path, Lease] = {}


def hold_downlink(work: Path, downlink: DownlinkId, say: Say) -> Lease:
    """Take the lease of `downlink`, once, for as long as this process lives; its jobs work under it.

    Raises
    ------
    LockedError
        If another process is at work on the downlink.
    """
    lease = Lease(work, paths.downlink_lease(downlink))
    if lease.home in _downlinks:
        return _downlinks[lease.home]
    if not _downlinks:
        atexit.register(give_back_downlinks)
    _downlinks[lease.home] = lease  # before it is taken: this process may be told to end at any moment
    try:
        lease.take_or_refuse(f"downlink {downlink}", say)
    finally:
        if not lease.is_of_this_process:
            del _downlinks[lease.home]
    os.environ[HEAD_VARIABLE] = _hearts[work].me.heart
    return lease


def check_head(work: Path) -> None:
    """Make sure that the process that has started this one is not gone, if one has.

    Raises
    ------
    LockedError
        If it has ended, or somebody has followed.
    """
    head = os.environ.get(HEAD_VARIABLE, "")
    if head and _touched(work, head) is None:
        raise LockedError(
            f"the process that started this job is gone ({work / paths.HEARTBEATS / head}): the job started too "
            "late and did nothing."
        )


def give_back_downlinks() -> None:
    """Give back what this process took with `hold_downlink`; jobs of it that show no sign of life were killed."""
    mine = [lease for lease in _downlinks.values() if lease.is_of_this_process]
    _downlinks.clear()
    left = [(lease, found) for lease in mine if (found := lease.look()) and found.registered]
    if any(found.jobs for _, found in left):
        time.sleep(3 * lifetime / BEATS)
    for lease, before in left:
        now = lease.jobs()
        lease.strike_out(name for name, touched in before.registered.items() if now.get(name) == touched)
    for lease in mine:
        lease.give_back()
    for work in {lease.work for lease in mine} & _hearts.keys():  # of a job that was cut short
        _hearts.pop(work).end()


def in_work(work: Path, downlink: DownlinkId) -> str | None:
    """Say who is at work on `downlink`; None if nobody is who lives, or this process."""
    found = look(work, paths.downlink_lease(downlink))
    return str(found) if found is not None and found.lives and not found.ours else None


def downlink_job(work: Path, downlink: DownlinkId) -> AbstractContextManager[Lease]:
    """Run a job of `downlink`: under the lease of the process that started it, or else under its own.

    Raises
    ------
    LockedError
        If another process is at work on the downlink, or the one that started this job is gone.
    """
    lease, head = Lease(work, paths.downlink_lease(downlink)), os.environ.get(HEAD_VARIABLE, "")
    return lease.under_head(head) if head else lease.take_or_refuse(f"downlink {downlink}", log.warning)


def found(work: Path) -> list[Found]:
    """Return all leases that are there."""
    there = (look(work, f"{paths.LEASES}/{name}") for name in sorted(names_in(work / paths.LEASES)))
    return [each for each in there if each is not None]
