"""Looking and removing below a root without following a link.

Each directory on the way is opened by its name in the one before, so a link that somebody puts there at
any moment leads nowhere: what lies outside the root cannot be reached. Only the root itself may be a link.
"""

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath

from halfpipe.errors import HalfPipeError, StateError
from halfpipe.files import in_the_way

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def directory(root: Path, below: str) -> Iterator[int]:
    """Open the directory `below` the directory `root` and give its handle.

    Raises
    ------
    OSError
        If it is not there, or a link or something else is in its place or on the way.
    ValueError
        If `below` leads out of `root`.
    """
    parts = PurePath(below).parts
    if ".." in parts or PurePath(below).is_absolute():
        raise ValueError(f"{below} leads out of {root}")
    handle = os.open(root, _DIRECTORY)
    try:
        for part in parts:
            deeper = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = deeper
        yield handle
    finally:
        os.close(handle)


def listed(root: Path, below: str, wanted: re.Pattern[str]) -> list[tuple[str, os.stat_result]]:
    """Return what lies in the directory `below` `root` under the names `wanted`, in the order of the names.

    What the files are is told of links themselves. A directory that is not there, or that only a link
    leads to, holds nothing.
    """
    found = []
    with suppress(FileNotFoundError, NotADirectoryError), directory(root, below) as home:
        with os.scandir(home) as entries:
            names = sorted(entry.name for entry in entries if wanted.fullmatch(entry.name))
        for name in names:
            with suppress(FileNotFoundError):
                found.append((name, os.stat(name, dir_fd=home, follow_symlinks=False)))
    return found


def remove_file(root: Path, path: str, size: int) -> int:
    """Remove the plain file `path` below `root`, which was found with `size` bytes.

    It is not flushed: one that a crash of the machine brings back is the one that was there.

    Returns
    -------
    int
        The bytes freed: 0 if it is gone already.

    Raises
    ------
    HalfPipeError
        If it is something else by now, or cannot be removed.
    """
    name = PurePath(path).name
    with _errors_named(root, path), directory(root, str(PurePath(path).parent)) as home:
        found = os.stat(name, dir_fd=home, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            raise StateError(
                f"{root / path}: not the file of {size} bytes any more that it was a moment ago, so it was left "
                "there. Somebody else is at work on it: see who, then give the same command again."
            )
        os.unlink(name, dir_fd=home)
        return size
    return 0


def remove_tree(root: Path, path: str) -> int:
    """Remove the directory `path` below `root` with all that is in it; a link in there goes as a link.

    Returns
    -------
    int
        The bytes of the files in it: 0 if it is gone already.

    Raises
    ------
    HalfPipeError
        If it cannot be removed, or is no directory.
    """
    size, _ = measured(root, path)
    with _errors_named(root, path), directory(root, str(PurePath(path).parent)) as home:
        shutil.rmtree(PurePath(path).name, dir_fd=home)
        return size
    return 0


def remove_empty(root: Path, path: str) -> None:
    """Remove the directory `path` below `root` if nothing is in it."""
    with suppress(OSError), directory(root, str(PurePath(path).parent)) as home:
        os.rmdir(PurePath(path).name, dir_fd=home)


def measured(root: Path, path: str) -> tuple[int, float]:
    """Return the bytes of the files in the directory `path` below `root`, and the time of the youngest change.

    The time is in Unix seconds, 0 where there is nothing.
    """
    size, youngest = 0, 0.0
    with suppress(FileNotFoundError, NotADirectoryError), directory(root, path) as top:
        for _, _, files, home in os.fwalk(".", dir_fd=top):
            youngest = max(youngest, os.fstat(home).st_mtime)
            for name in files:
                with suppress(FileNotFoundError):
                    found = os.stat(name, dir_fd=home, follow_symlinks=False)
                    size, youngest = size + found.st_size, max(youngest, found.st_mtime)
    return size, youngest


@contextmanager
def _errors_named(root: Path, path: str) -> Iterator[None]:
    """Say what is in the way of removing `path`; that it is gone already is no error."""
    try:
        yield
    except FileNotFoundError:
        pass
    except NotADirectoryError as error:
        raise HalfPipeError(
            f"{root / path}: a link, or something else that is no directory, is in its place or on the way to it, "
            f"and links are not followed here. Nothing was removed: put a directory there, or remove it by hand."
        ) from error
    except OSError as error:
        raise in_the_way(root / path, error) from error
