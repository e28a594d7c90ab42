"""Runs work in forks of this process, and harms it at a moment: before a change to files, or at a flush.

Moments are audit events of Python, not calls of `halfpipe.files.durable`, so that a change that bypasses this module,
or that Snakemake makes, is a moment, too.

A shadow is a directory with everything that was flushed, like a disk that keeps nothing else.
"""

import fcntl
import json
import os
import shutil
import signal
import stat
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfpipe.files import heartbeat

# Audit events before changes to files, and how many of their arguments are names.
CHANGES = {
    "os.rename": 2, "os.link": 2, "os.symlink": 2, "os.mkdir": 1, "os.rmdir": 1, "os.remove": 1, "os.truncate": 1,
    "os.chmod": 1, "os.chown": 1,
}  # fmt: skip
NEW = frozenset({"open", "os.mkdir", "os.link"})  # those that fail on a full disk
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def changed(event: str, words: tuple[Any, ...]) -> list[str]:
    """Return the names of the files that are about to be changed."""
    if event == "open":
        names = words[:1] if isinstance(words[2], int) and words[2] & WRITES else ()
    else:
        names = words[: CHANGES.get(event, 0)]
    return [os.fsdecode(name) for name in names if not isinstance(name, int)]


class Shadow:
    """The content of a disk that keeps only what was flushed: by inode, bytes of files and names in directories."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.kept: set[int] = set()
        self.handles: list[int] = []
        os.makedirs(f"{home}/alive", exist_ok=True)  # noqa: PTH103 - pathlib is what is watched

    def flush(self, handle: int) -> None:
        """Keep the content of an open file or directory; one flush at a time, so that the latest counts."""
        with open(f"{self.home}/lock", "w") as lock:  # noqa: PTH123 - as above
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._flush(handle)

    def _flush(self, handle: int) -> None:
        info = os.fstat(handle)
        # The kind is part of the name, because the number of a removed file may be reused for a directory.
        mine = f"{self.home}/{info.st_ino}{'.names' if stat.S_ISDIR(info.st_mode) else ''}"
        path = os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115 - as above
        self._keep(path, info)
        if stat.S_ISDIR(info.st_mode):
            names = {}
            for name in os.listdir(handle):
                try:
                    of = os.stat(name, dir_fd=handle, follow_symlinks=False)
                except FileNotFoundError:  # another job has renamed it since
                    continue
                self._keep(f"{path}/{name}", of)
                names[name] = [of.st_ino, stat.S_ISDIR(of.st_mode)]
            content = json.dumps(names).encode()
        else:
            content = Path(f"/proc/self/fd/{handle}").read_bytes()
        Path(f"{mine}.part").write_bytes(content)
        os.utime(f"{mine}.part", ns=(info.st_mtime_ns, info.st_mtime_ns))
        Path(f"{mine}.part").rename(mine)

    def _keep(self, path: str, info: os.stat_result) -> None:
        """Keep the number of an inode from being used again, by a handle or by a second name."""
        if info.st_ino in self.kept:
            return
        self.kept.add(info.st_ino)
        with suppress(FileExistsError, FileNotFoundError):
            if stat.S_ISDIR(info.st_mode):
                self.handles.append(os.open(path, os.O_RDONLY))
            else:
                os.link(path, f"{self.home}/alive/{info.st_ino}")

    def close(self) -> None:
        for handle in self.handles:
            os.close(handle)
        self.handles.clear()


@dataclass(frozen=True)
class Refusal:
    """A disk that refuses changes with an error, because it is full or read-only."""

    number: int
    below: str
    changes: frozenset[str] = frozenset({"open", *CHANGES})


class Fault:
    """One fault: counts the moments of this process, and calls `do` at one of them.

    If `do` returns a `Refusal`, this applies from then on.
    """

    def __init__(self, below: str, at: int, do: Callable[[str], object]) -> None:
        self.below = below
        self.at = at
        self.do = do
        self.count = 0
        self.busy = False
        self.refusal: Refusal | None = None

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Handle an audit event of Python."""
        for name in changed(event, arguments)[:1]:
            path = os.path.abspath(name)  # noqa: PTH100 - as above
            self.moment(event, path)
            no = self.refusal
            if no is not None and event in no.changes and path.startswith(no.below):
                raise OSError(no.number, os.strerror(no.number), path)

    def moment(self, event: str, path: str) -> None:
        """Count a moment."""
        if self.busy or not path.startswith(self.below) or "/logs/" in path or "/.snakemake/log/" in path:
            return
        self.count += 1
        if self.count == self.at or self.at == 0:
            self.busy = True
            done = self.do(f"{event} {path}")
            self.refusal = done if isinstance(done, Refusal) else None
            self.busy = False

    def install(self, shadow: Shadow | None = None) -> None:
        """Begin to watch this process."""
        flush = os.fsync

        def fsync(handle: int) -> None:
            self.moment("fsync", os.readlink(f"/proc/self/fd/{handle}"))  # noqa: PTH115 - as above
            flush(handle)
            if shadow is not None:
                self.busy = True
                shadow.flush(handle)
                self.busy = False

        os.fsync = fsync  # type: ignore[assignment]
        sys.addaudithook(self.hook)


def _kill(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def started(
    act: Callable[[], object],
    below: Path | str = "",
    at: int = -1,
    *,
    do: Callable[[str], object] = _kill,
    shadow: Path | None = None,
) -> int:
    """Start `act` in its own process group; return its id. The result of `act` is its exit status.

    `do` is called at moment `at` in the directory `below` (0: at each moment). `shadow` keeps what is flushed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about threads, which the child does not need
        child = os.fork()
    if child:
        return child
    status = 99
    try:
        os.setpgid(0, 0)
        heartbeat._probed.clear()  # otherwise the number of looks at the clock depends on earlier work
        if below:
            Fault(str(below), at, do).install(Shadow(str(shadow)) if shadow else None)
        ended = act()
        status = ended if isinstance(ended, int) else 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(status)


def ended(child: int) -> int:
    """Wait for a fork; return how it ended: its status, or less than 0 for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def stopped(child: int) -> bool:
    """Wait until a fork is suspended; return False if it has ended."""
    return os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])


def killed(act: Callable[[], object], below: Path, at: int, *, shadow: Path | None = None) -> bool:
    """Run `act` and kill it at a moment; return False if it succeeded before that moment."""
    status = ended(started(act, below, at, shadow=shadow))
    assert status in {0, -signal.SIGKILL}, status
    return status != 0


def moments(act: Callable[[], object], below: Path) -> list[str]:
    """Run `act` without harm; return its moments."""
    with tempfile.TemporaryFile("w+") as file:
        note = file.fileno()
        assert ended(started(act, below, 0, do=lambda moment: os.write(note, f"{moment}\n".encode()))) == 0
        file.seek(0)
        return file.read().splitlines()


def restored(home: Path, before: Path) -> None:
    """Restore a directory from its copy."""
    shutil.rmtree(home)
    shutil.copytree(before, home)


def deaths(
    act: Callable[[], object], home: Path, before: Path, every_moment: Sequence[str], every: int
) -> Iterator[str]:
    """For every `every`-th moment, run `act` on a copy of `before` and kill it there; yield the moment."""
    for at, moment in list(enumerate(every_moment, 1))[every - 1 :: every]:
        restored(home, before)
        assert killed(act, home, at), moment
        yield moment
