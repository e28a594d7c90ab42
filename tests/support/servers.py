"""What private servers of tests share: Debian's packages, a directory that goes, an end with this process, patience."""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PR_SET_PDEATHSIG = 1


def install(packages: Iterable[str], otherwise: str) -> None:
    """Install packages without starting a server of theirs; where this is not root, end with `otherwise`."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SystemExit(otherwise)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", *command], env=env, check=True)


def only_installs(argv: Sequence[str], install: Callable[[], None], otherwise: str | None) -> int:
    """Be the program of a module that only installs what is missing (``--install``)."""
    if list(argv) != ["--install"]:
        print(otherwise)
        return 2
    install()
    return 0


def die_with_parent() -> None:
    """Have the kernel interrupt this child when its parent dies, however that happens."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


@contextmanager
def directory(prefix: str) -> Iterator[Path]:
    """Give a directory of its own that everybody can reach; after a SIGKILL of this process the next one removes it."""
    for old in Path(tempfile.gettempdir()).glob(f"{prefix}*-*"):
        if not Path(f"/proc/{old.name.removeprefix(prefix).partition('-')[0]}").exists():
            shutil.rmtree(old, ignore_errors=True)
    home = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-"))
    home.chmod(0o755)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def wait_for(what: str, ready: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until `ready`; AssertionError names `what` after `seconds`."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.1)
