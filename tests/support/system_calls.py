"""Programs killed right before a system call that changes a file, by strace, as Debian packages it.

``python -m tests.support.system_calls --install`` has it installed.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from halfpipe import paths
from tests.support import debian
from tests.support.workflow import Ended

ON_NAMES = (
    "open,openat,creat,truncate,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,"
    "rmdir,mknod,mknodat,utime,utimes,futimesat,utimensat,chmod,fchmodat,chown,lchown,fchownat,setxattr,removexattr"
)
ON_OPEN_FILES = (
    "write,pwrite64,writev,pwritev,pwritev2,copy_file_range,sendfile,splice,ftruncate,fallocate,fsync,fdatasync,"
    "sync_file_range,syncfs,fchmod,fchown"
)
OPENS = {"open", "openat", "creat"}
STARTS = "clone,clone3,fork,vfork"
LINE = re.compile(r"(\d+) +(\w+)\((.*)")
RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
RANDOM = re.compile(r"(?<=[-.])(?:[0-9a-f]{8,}|\d+)(?=[-. ]|$)")  # in names: another one each time


@dataclass(frozen=True)
class Call:
    """The `number`-th call of its name, by the first thread or else on a `path`; and `what` it does."""

    name: str
    number: int
    what: str
    path: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.number}, {self.what}"


def install() -> None:
    """Install strace if it is missing."""
    if shutil.which("strace") is None:
        debian.install(["strace"], "strace is not here: have Debian's package of that name installed")


def calls(command: Sequence[str], cwd: Path, below: Path, log: Path) -> list[Call]:
    """Run a command undisturbed; return what its own threads change below a directory that `cwd` lies in.

    What the programs do that it starts is theirs.
    """
    ended = _traced(command, cwd, log, "-f", "-e", f"trace={ON_NAMES},{ON_OPEN_FILES},sync,{STARTS}")
    assert ended.status == 0, ended.said
    found, counts = [], Counter[tuple[str, str, str]]()
    first, threads = "", set[str]()
    for thread, name, said in _lines(log):
        first = first or thread
        threads.add(first)
        if "CLONE_THREAD" in said:
            threads.add(said.rpartition(" = ")[2])
        on = "" if thread == first else _on(said)
        # Its heart beats when it wants, and has another name each time.
        if thread in threads and (thread == first or f"/{paths.heartbeats()}/" not in on):
            counts[thread, name, on] += 1
            if (what := _what(name, said, below)) and not re.search(r" = -1 E\w+ \(.*\)$", said):
                found.append(Call(name, counts[thread, name, on], what, on))
    return found


def kill(command: Sequence[str], cwd: Path, below: Path, log: Path, call: Call) -> str:
    """Run a command that is killed right before a call; return what that was to do, nothing if it was not made."""
    on = ["-f", "-P", call.path] if call.path else []
    inject = f"inject={call.name}:signal=KILL:when={call.number}"
    ended = _traced(command, cwd, log, *on, "-e", f"trace={call.name}", "-e", inject)
    if ended.status == 0:
        return ""
    assert ended.status == -signal.SIGKILL, f"{call}\n{ended.said}"
    last = ""
    for line in log.read_text(errors="replace").splitlines():
        if match := LINE.match(line if call.path else f"1 {line}"):
            last = _what(match[2], match[3], below)
    return last


def _traced(command: Sequence[str], cwd: Path, log: Path, *options: str) -> Ended:
    said = log.with_suffix(".said")
    with said.open("wb") as out:  # no pipe, of which a program that is left behind would hold the other end
        status = subprocess.run(
            ["strace", "-y", "-s", "300", "-o", str(log), "-e", "signal=none", *options, *command],
            cwd=cwd,
            env={**os.environ, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    return Ended(status, said.read_text())


def _lines(log: Path) -> Iterator[tuple[str, str, str]]:
    """Yield thread, name and the rest of each call that was traced, as they were begun."""
    found: list[list[str]] = []
    begun: dict[str, list[str]] = {}
    for line in log.read_text(errors="replace").splitlines():
        if match := RESUMED.match(line):
            begun.pop(match[1])[2] += match[2]
        elif match := LINE.match(line):
            said, unfinished, _ = match[3].partition(" <unfinished ...>")
            found.append([match[1], match[2], said])
            if unfinished:
                begun[match[1]] = found[-1]
    return ((thread, name, said) for thread, name, said in found)


def _on(said: str) -> str:
    """Return the path that a call is on."""
    match = re.match(r'(?:AT_FDCWD<[^>]*>, )?(?:\d+<([^>]*)>|"([^"]*)")', said)
    return (match[1] or match[2]) if match else ""


def _what(name: str, said: str, below: Path) -> str:
    """Say what a call changes below a directory; nothing, if it does not."""
    if name == "sync":
        return name
    if name in ON_OPEN_FILES.split(","):
        handles = re.findall(r"(?:^|, )\d+<([^>]*)>", said)
        places = handles if name in {"copy_file_range", "splice"} else handles[:1]
    elif name in ON_NAMES.split(","):
        if name in OPENS and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", said):
            return ""
        inside = re.match(r"\d+<([^>]*)>, ", said)
        names = re.findall(r'"([^"]*)"', said) or ([inside[1]] if inside else [])
        places = [str((Path(inside[1]) if inside else below) / each) for each in names]
    else:
        return ""
    mine = [place.removeprefix(f"{below}/") for place in places if Path(place).is_relative_to(below)]
    return RANDOM.sub("*", f"{name} {' '.join(mine)}") if mine else ""


if __name__ == "__main__":
    sys.exit(debian.only_installs(sys.argv[1:], install, __doc__))
