"""Durable writing: a file under its final name is complete, and survives a crash of the machine."""

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

# For larger pieces Linux allocates pages of 2 MiB, if the file system supports this. On a virtual machine whose host
# reclaims free memory, such pages are rare, and writing took ten times as long.
MOST_AT_ONCE = 1 << 20  # bytes


_TOGETHER = ContextVar("together", default=False)


@contextmanager
def flushed_together() -> Iterator[None]:
    """Flush all files written inside this context at its end, for very many small files that are useless alone.

    If the process dies, this makes no difference. If the machine crashes, any of the files may be incomplete.
    """
    before = _TOGETHER.set(True)
    try:
        yield
    finally:
        _TOGETHER.reset(before)
        os.sync()


def flush(handle: int) -> None:
    """Flush an open file to disk, unless inside `flushed_together`."""
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
    """Make the directory `below` the directory `root`, flush all directories on the way, and return it.

    A flushed file survives a crash of the machine only if the names of its directories do. An existing directory may
    not be flushed yet, because Snakemake makes directories before a job starts.
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
    """Remove the file `path` if it exists, so that it does not reappear after a crash of the machine."""
    with suppress(FileNotFoundError):
        path.unlink()
        fsync_directory(path.parent)


def remove_tree(path: Path) -> None:
    """Remove the directory `path` with its content, if it exists."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        error.filename = str(path)  # it may have only the name of an entry, without the directory
        raise


@contextmanager
def replacing(
    path: Path, buffering: int = -1, *, lasting: bool = True, locked: bool = True
) -> Iterator[IO[bytes]]:
    """Open a file next to `path` for writing; flush it to disk and rename it to `path` on success.

    If `buffering` is 0, write with `write_whole`. A file that is soon rewritten, and on which nothing depends, need
    not be `lasting`: a crash of the machine may leave it empty.

    The temporary name is the same in every attempt (`.name.part`), so the next job overwrites leftovers of a killed
    one. Callers hold the lock for the file. Without a lock (`locked` is false) each writer has its own temporary name,
    and the last writer wins.

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
            error.filename = error.filename or str(path)  # the error of a write has no file name
            raise HalfPipeError(
                f"{path}: cannot be written: {error.strerror or error}. {advice(error)}", code="file-system"
            ) from error
        raise


def write_whole(out: IO[bytes], content: bytes | bytearray | memoryview) -> None:
    """Write `content` completely to an unbuffered file, which may write less in one call."""
    rest = memoryview(content)
    while rest:
        rest = rest[out.write(rest[:MOST_AT_ONCE]) :]


def publish(path: Path, content: bytes, *, lasting: bool = True) -> bool:
    """Create a file with link(2) and return True; if it exists already, return False. `lasting` as for `replacing`.

    Missing parent directories are made, and their names flushed.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    changed = [path, *takewhile(lambda place: not place.exists(), path.parents)] if lasting else []
    with suppress(FileExistsError):  # another process has just removed the directory of a lease
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("xb", buffering=0) as out:
            write_whole(out, content)
            if lasting:
                flush(out.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            # A network file system may repeat a request after its reply was lost, so the link may be our own.
            if part.stat().st_nlink != 2:
                return False
    finally:
        with suppress(OSError):
            part.unlink()
    for place in changed:
        fsync_directory(place.parent)
    return True


def write_bytes(path: Path, content: bytes, *, lasting: bool = True, locked: bool = True) -> None:
    """Write `content` to `path`, completely or not at all; `lasting` and `locked` as for `replacing`."""
    with replacing(path, lasting=lasting, locked=locked) as out:
        out.write(content)


def write_text(path: Path, text: str, *, locked: bool = True) -> None:
    """Write `text` to `path` as UTF-8, completely or not at all; `locked` as for `replacing`."""
    write_bytes(path, text.encode(), locked=locked)
