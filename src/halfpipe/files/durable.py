"""Writing so that what exists under its final name is whole, and survives a crash of the machine."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import takewhile
from pathlib import Path
from typing import IO
from uuid import uuid4

from halfpipe.errors import HalfPipeError
from halfpipe.files.advice import advice

# Of a larger piece Linux makes pages of 2 MiB in memory, where its file system can. These are rare: on a
# virtual machine whose host takes back what is free they took ten times as long as all smaller ones.
MOST_AT_ONCE = 1 << 20  # bytes


_TOGETHER = ContextVar("together", default=False)


@contextmanager
def flushed_together() -> Iterator[None]:
    """Flush what is written meanwhile all at once, at the end: very many small files, each of no use alone.

    A death of the process leaves what it would leave otherwise; after one of the machine anything of it may be torn.
    """
    before = _TOGETHER.set(True)
    try:
        yield
    finally:
        _TOGETHER.reset(before)
        os.sync()


def flush(handle: int) -> None:
    """Flush an open file to disk, unless that is done for many together."""
    if not _TOGETHER.get():
        os.fsync(handle)


def fsync_directory(path: Path) -> None:
    """Flush the directory `path`, so that renames in it survive a crash of the machine."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flush(handle)
    finally:
        os.close(handle)


def make_directory(root: Path, below: str) -> Path:
    """Make the directory `below` the directory `root`, flush each step of the way to it, and return it.

    What is flushed in a directory survives a crash of the machine only if the directory's own name does.
    It may be there already and not be flushed: Snakemake makes directories before a job starts.
    """
    path = root / below
    path.mkdir(parents=True, exist_ok=True)
    for place in (path, *path.parents):
        if place == root:
            break
        fsync_directory(place.parent)
    return path


def fsync_file(path: Path) -> None:
    """Flush the file `path`, which another program wrote, to disk."""
    with path.open("rb") as file:
        flush(file.fileno())


def remove_file(path: Path) -> None:
    """Remove the file `path` if it is there, so that it is not back after a crash of the machine."""
    with suppress(FileNotFoundError):
        path.unlink()
        fsync_directory(path.parent)


def remove_tree(path: Path) -> None:
    """Remove the directory `path` with all that is in it, if it is there."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        error.filename = str(path)  # it may name an entry alone, without its directory
        raise


@contextmanager
def replacing(
    path: Path, buffering: int = -1, *, lasting: bool = True, locked: bool = True
) -> Iterator[IO[bytes]]:
    """Open a file beside `path` for writing; flush it to disk and rename it to `path` on success.

    Without `buffering` (0) write with `write_whole`. What is made again soon, and nothing depends on, need not
    be `lasting`: only a crash of the machine can leave it empty then.

    The temporary name is the same at every try (`.name.part`), so a killed job's leftover is written
    over by the next one. Callers hold the lock of what they write. Where there is none (`locked` is false) each writer
    has a name of its own, and the last one counts.

    Raises
    ------
    HalfPipeError
        If the file cannot be written; it names the path and the cause (a full disk, no permission).
    """
    part = path.with_name(f".{path.name}.part" if locked else f".{path.name}.{uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb", buffering=buffering) as out:
            yield out
            if lasting:
                out.flush()
                flush(out.fileno())
        part.rename(path)
        if lasting:
            fsync_directory(path.parent)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = error.filename or str(path)  # a write names none
            raise HalfPipeError(
                f"{path}: cannot be written: {error.strerror or error}. {advice(error)}", code="system"
            ) from error
        raise


def write_whole(out: IO[bytes], content: bytes | bytearray | memoryview) -> None:
    """Write `content`, a view of single bytes, to a file without a buffer, which may take less at a time."""
    rest = memoryview(content)
    while rest:
        rest = rest[out.write(rest[:MOST_AT_ONCE]) :]


def publish(path: Path, content: bytes, *, lasting: bool = True) -> bool:
    """Write a new file by link(2): who is second leaves what is there, and is told False; `lasting` as for `replacing`.

    Directories on the way to it are made, and their names flushed.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    changed = [path, *takewhile(lambda place: not place.exists(), path.parents)] if lasting else []
    with suppress(FileExistsError):  # a lease's, which somebody has removed at this moment
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("xb", buffering=0) as out:
            write_whole(out, content)
            if lasting:
                flush(out.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            # A network file system may repeat a request whose answer was lost: the link may be our own.
            if part.stat().st_nlink != 2:
                return False
    finally:
        with suppress(OSError):
            part.unlink()
    for place in changed:
        fsync_directory(place.parent)
    return True


def write_bytes(path: Path, content: bytes, *, lasting: bool = True, locked: bool = True) -> None:
    """Write `content` to `path`, whole or not at all; `lasting` and `locked` as for `replacing`."""
    with replacing(path, lasting=lasting, locked=locked) as out:
        out.write(content)


def write_text(path: Path, text: str, *, locked: bool = True) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all; `locked` as for `replacing`."""
    write_bytes(path, text.encode(), locked=locked)
