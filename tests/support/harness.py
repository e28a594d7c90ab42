"""What must hold after a fault, a disk that is small, and what is in event files."""

import ctypes
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from halfpipe.causes import Cause
from halfpipe.formats import evt

CLONE_NEWNS = 0x20000  # unshare(2): a mount namespace of its own


def differing(tree: Mapping[str, bytes], expected: Mapping[str, bytes]) -> list[str]:
    """Return the names of the files that two trees have not the same."""
    return sorted(name for name in {*tree, *expected} if tree.get(name) != expected.get(name))


@contextmanager
def small_disk(path: Path) -> Iterator[Callable[[str], None]]:
    """Mount a disk of 64 KiB at `path`; yield what changes its options, as in ``size=8m``.

    Only this process and those that it starts see it, so that a killed test leaves no mount behind.
    """

    def mount(*words: str) -> bool:
        return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0

    def change(options: str) -> None:
        assert mount("-o", f"remount,{options}", str(path))

    path.mkdir(parents=True)
    apart = ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0 and mount("--make-rprivate", "/")
    if not apart or not mount("-t", "tmpfs", "-o", "size=64k", "halfpipe-test", str(path)):
        pytest.skip("no permission to mount a small disk")
    try:
        yield change
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def event_records(files: Iterable[Path]) -> list[bytes]:
    """Return the event records of event files, sorted."""
    return sorted(record for path in files for record in records_of(path.read_bytes()))


def records_of(content: bytes) -> list[bytes]:
    """Return the event records of an event file, in order."""
    offsets = evt.walk(np.frombuffer(content, np.uint8), "").tolist()
    return [content[a:b] for a, b in pairwise([*offsets, len(content)])]


def events_of(content: bytes) -> list[tuple[int, int]]:
    """Return sequence and APID of each event of an event file, in order."""
    data = np.frombuffer(content, np.uint8)
    offsets = evt.walk(data, "an event file")
    columns = (evt.context_column(data, offsets, name) for name in ("scalers_sequence", "ccsds_apid"))
    return list(zip(*(column.tolist() for column in columns), strict=True))


def path_of(cause: Cause) -> Path:
    """Return the file that a cause of `halfpipe.status.checks.check` is about."""
    return Path(cause.text.partition(": ")[0])
