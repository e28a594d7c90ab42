"""Work done in forks of this process, which has all imported, killed at a moment: a change that it makes to files."""

import os
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from halfpipe.files import leases
from tests.support.moments import Fault, Shadow


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
    """Begin to act in a process group of its own; return its id. What `act` returns is its exit status.

    At the moment number `at` below a directory (0: at each) `do` happens. What is flushed is kept in `shadow`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child needs none
        child = os.fork()
    if child:
        return child
    status = 99
    try:
        os.setpgid(0, 0)
        leases._probed.clear()  # else how often it looks at the clock depends on what was done before
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
    """Wait until a fork stands still; tell whether it does, else it has ended."""
    return os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])


def killed(act: Callable[[], object], below: Path, at: int, *, shadow: Path | None = None) -> bool:
    """Act, killed at a moment; tell whether it came, else it ended well."""
    status = ended(started(act, below, at, shadow=shadow))
    assert status in {0, -signal.SIGKILL}, status
    return status != 0


def moments(act: Callable[[], object], below: Path) -> list[str]:
    """Act undisturbed, which has to end well; return its moments."""
    with tempfile.TemporaryFile("w+") as file:
        note = file.fileno()
        assert ended(started(act, below, 0, do=lambda moment: os.write(note, f"{moment}\n".encode()))) == 0
        file.seek(0)
        return file.read().splitlines()


def deaths(
    act: Callable[[], object], home: Path, before: Path, every_moment: Sequence[str], every: int
) -> Iterator[str]:
    """Act on what was `before`, killed at each of its moments or each so many of them; yield the moment."""
    for at, moment in list(enumerate(every_moment, 1))[every - 1 :: every]:
        shutil.rmtree(home)
        shutil.copytree(before, home)
        assert killed(act, home, at), moment
        yield moment
