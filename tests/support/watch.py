"""Watch which files this process makes, changes or removes, and how much memory it uses."""

import gc
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.forks import changed

# No input may take more bytes of memory; an idle program uses less than a hundred megabytes.
LIMIT = 400 << 20

_STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn"}
_active: list[tuple[Path, list[str]]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _active:
        return
    home, violations = _active[-1]
    if event in _STARTS:
        violations.append(f"{event} {arguments[0]!r}")
    for path in changed(event, arguments):
        place = _base(event, arguments) / path
        # Only `open` follows a link.
        place = place.resolve() if event == "open" else place.parent.resolve() / place.name
        if not place.is_relative_to(home) and place != Path(os.devnull):
            violations.append(f"{event} {place}")


def _base(event: str, arguments: tuple[Any, ...]) -> Path:
    """Return the directory that a path of a call is relative to."""
    if event in ("os.remove", "os.rmdir") and arguments[1] >= 0:
        return Path(f"/proc/self/fd/{arguments[1]}")
    return Path()


sys.addaudithook(_hook)


@contextmanager
def watched(home: Path) -> Iterator[None]:
    """Fail if a file outside `home` is written, a program is started, or too much memory is used."""
    violations: list[str] = []
    gc.collect()  # remove leftovers of earlier commands
    with suppress(OSError):  # otherwise the peak is that of the whole process
        Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    _active.append((home.resolve(), violations))
    try:
        yield
    finally:
        _active.pop()
    assert not violations, violations[:10]
    taken = peak() - before
    assert taken < LIMIT, f"{taken >> 20} MB of memory were taken"


def peak() -> int:
    """Return the most memory that was resident since the watch began, mapped files included, in bytes."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


@contextmanager
def at_once(seconds: float = 20) -> Iterator[None]:
    """Fail if the block takes longer, because then it waits for something that never happens."""

    def late(_number: int, _frame: object) -> None:
        raise AssertionError(f"still at it after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
