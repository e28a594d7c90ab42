"""Heartbeats: each process that holds a lease, or works under one, touches its own file, `BEATS` times in its lifetime.

The file's time comes from the clock of the file server, the only clock that two hosts share. A process of this host and
this boot is also looked up in the kernel, so that a process that was killed here is noticed at once.
"""

import getpass
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Self

import msgspec
from msgspec.structs import replace

from halfpipe import paths
from halfpipe.errors import FormatError
from halfpipe.files import typed
from halfpipe.files.durable import write_bytes
from halfpipe.words import utc

BEATS = 30  # in a lifetime
PROBE_SECONDS = 1.0  # between two looks at the file server's clock
ENDING_SIGNALS = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
BOOT = Path("/proc/sys/kernel/random/boot_id")
PROCESS_NUMBERS = Path("/proc/self/ns/pid")
NAME = r"\A\w[\w.-]*\Z"


class Holder(msgspec.Struct, frozen=True):
    """A process that holds a lease or works under one. A file of a later version may have more keys.

    Attributes
    ----------
    user, host, pid, slurm_job, since
        For messages.
    heart
        Name of its heartbeat file.
    lifetime
        Seconds of silence after which others may take over.
    token
        Different for every lease that is taken.
    boot
        The boot of its host and the name space of `pid`; empty if unknown.
    begun
        When the process started, in clock ticks since the boot (field 22 of ``/proc/PID/stat``, proc(5)).
    """

    user: str
    host: str
    pid: int
    slurm_job: str
    since: str
    heart: Annotated[str, msgspec.Meta(pattern=NAME)]
    lifetime: float
    token: str
    boot: str
    begun: int

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read a file that such a process wrote; None if it is missing or damaged.

        Errors of the file server are raised, because a lease that could not be read must not be taken over.
        """
        try:
            return typed.decode(path.read_bytes(), cls, path)
        except (FileNotFoundError, PermissionError, IsADirectoryError, FormatError):
            return None

    def as_bytes(self) -> bytes:
        """Return the content of a file for `read`."""
        return msgspec.json.encode(self)

    @property
    def is_gone(self) -> bool:
        """Whether the process ran on this host, in this boot, and has ended."""
        if not self.boot or (self.host, self.boot) != (socket.gethostname(), _boot()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            pass
        with suppress(OSError, ValueError):  # /proc may hide the processes of other users
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
    """Return an id of this boot of this host, and of the process numbers in this container."""
    with suppress(OSError):
        return f"{BOOT.read_text().strip()} {PROCESS_NUMBERS.readlink()}"
    return ""


def _state(pid: int | str) -> tuple[str, int]:
    """Return the state of a process on this host, one letter, and when it started; "self" is this process."""
    after_its_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return after_its_name[0], int(after_its_name[19])


def whoami() -> Holder:
    """Describe this process, without a heartbeat."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run a user id without a name
        user = str(os.getuid())
    return Holder(
        user=user,
        host=socket.gethostname(),
        pid=os.getpid(),
        slurm_job=os.environ.get("SLURM_JOB_ID", ""),
        since=utc(time.time()),
        heart="",
        lifetime=0.0,
        token="",
        boot="",
        begun=0,
    )


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block the signals that end this process, because the step inside must not be interrupted."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Heart:
    """The heartbeat of this process in one working directory.

    Attributes
    ----------
    me
        This process, with the name of its heartbeat.
    held
        The number of leases and jobs that need the heartbeat.
    ends_process
        Whether this process ends at once if another process has taken over. A head does: its jobs are refused from
        then on, and Snakemake would remove what the other process has made.
    """

    def __init__(self, work: Path, lifetime: float) -> None:
        me = whoami()
        boot = _boot()
        name = re.sub(r"[^\w.-]", "_", f"{me.host}-{me.pid}-{os.urandom(4).hex()}")
        begun = _state("self")[1] if boot else 0
        self.me = replace(me, heart=name, lifetime=lifetime, boot=boot, begun=begun)
        self.held = 0
        self.ends_process = False
        self._path = work / paths.HEARTBEATS / name
        self._ended = threading.Event()
        write_bytes(self._path, self.me.as_bytes(), lasting=False, locked=False)
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.wait(self.me.lifetime / BEATS):
            with suppress(OSError):
                try:
                    os.utime(self._path)
                except FileNotFoundError:  # removed by the process that took over
                    if self.ends_process and self.me.pid == os.getpid():
                        os.write(
                            2, b"this process stood still for too long and lost its downlinks, so it ends\n"
                        )
                        os._exit(1)
                    self._path.write_bytes(self.me.as_bytes())

    def end(self) -> None:
        """Stop, and remove the heartbeat."""
        self._ended.set()
        self._thread.join()
        with suppress(OSError):
            self._path.unlink()


hearts: dict[Path, Heart] = {}  # of this process, by working directory


@signals_blocked()
def begin(work: Path, lifetime: float) -> Holder:
    """Return this process with a new token; its heart beats until `end` is called as often as this function."""
    heart = hearts.get(work)
    if heart is None or heart.me.pid != os.getpid():  # a forked child needs its own heart
        heart = hearts[work] = Heart(work, lifetime)
    heart.held += 1
    return replace(heart.me, token=os.urandom(8).hex(), since=whoami().since)


@signals_blocked()
def end(work: Path) -> None:
    """Undo one `begin`."""
    hearts[work].held -= 1
    if not hearts[work].held:
        hearts.pop(work).end()


def end_all(works: Iterable[Path]) -> None:
    """End the hearts in these working directories, also of a job that was interrupted between two steps."""
    for work in set(works) & hearts.keys():
        hearts.pop(work).end()


def touched(work: Path, heart: str) -> float | None:
    """Return when a heartbeat was touched, Unix seconds by the file server; None if it does not exist."""
    try:
        return os.stat(f"{work}/{paths.HEARTBEATS}/{heart}").st_mtime  # noqa: PTH116 - called for thousands
    except FileNotFoundError:
        return None


_probed: dict[Path, tuple[float, float]] = {}


def file_server_time(work: Path) -> float:
    """Return the Unix time by the clock of the file server of `paths.work`."""
    when, seen = _probed.get(work, (-PROBE_SECONDS, 0.0))
    if time.monotonic() - when >= PROBE_SECONDS:
        probe = work / paths.HEARTBEATS / f".probe-{os.urandom(8).hex()}"
        when = time.monotonic()
        seen = time.time()
        with suppress(OSError):  # without write permission, this host's clock must do
            probe.touch()
            seen = probe.stat().st_mtime
            probe.unlink()
        _probed[work] = when, seen
    return seen + time.monotonic() - when
