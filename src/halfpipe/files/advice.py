"""Errors of the operating system, in words: what to do, and who owns the file."""

import errno
import os
import shlex
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from halfpipe.errors import Remedy

FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_FULL = "disk-full"  # code of a failure that may be tried again
SMALL_FILE = 1 << 16  # bytes; there may be no room for it on a file system with fewer free bytes

_SERVER = "The file server does not answer: have it checked, or mounted again."
_ADVICE = {
    errno.ENOSPC: "The disk is full: free some space and rerun the command.",
    errno.EDQUOT: "The quota is used up: free some space and rerun the command.",
    errno.EROFS: "The file system is read-only: have it mounted for writing, and try again.",
    errno.ENOTDIR: "A file is where a directory should be: move it aside.",
    errno.EEXIST: "A file is where a directory should be: move it aside.",
    errno.EISDIR: "A directory is where a file should be: move it aside.",
    errno.ESTALE: "The file server has lost the file: have the file system mounted again.",
    errno.EIO: "The disk or the file server is failing: have it checked, or mounted again.",
    **dict.fromkeys((errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN), _SERVER),
    errno.ELOOP: "A link leads to itself: remove it.",
}


class NoRoomError(OSError):
    """A file system has no room for a file of `needed` bytes."""

    def __init__(self, number: int, needed: int) -> None:
        super().__init__(number, os.strerror(number))
        self.needed = needed


def free_space(path: Path) -> tuple[Path, int, int]:
    """Return mount point, free bytes and total bytes of the file system of `path`, which need not exist.

    Raises
    ------
    OSError
        If it cannot be looked at.
    """
    place = path.resolve()
    mount = next(each for each in (place, *place.parents) if each.is_mount())
    found = shutil.disk_usage(mount)
    return mount, found.free, found.total


def size(number: float) -> str:
    """Return a number of bytes in the unit that suits it: ``96 kB``, ``2.1 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:,.1f} {unit}" if number % 1 and number < 100 else f"{number:,.0f} {unit}"


def advice(error: OSError) -> str:
    """Return in one sentence what to do about `error`; without permission, also the owner of the file."""
    if error.errno not in {errno.EACCES, errno.EPERM}:
        return _ADVICE.get(error.errno or 0, "Fix this and rerun the command.")
    path = Path(str(error.filename or "/"))
    owners = list[str]()
    for place in (path, *path.parents):
        with suppress(OSError):  # not there, or cannot be seen
            found = place.lstat()
            owners.append(f"{place} belongs to {_user(found.st_uid)}, mode {stat.filemode(found.st_mode)}")
        if len(owners) == 2:
            break
    return (
        f"{', '.join(owners)}; this runs as {_user(os.geteuid())}. Ask the owner to let others read or the group "
        "write (chmod), or run as the owner, then rerun the command."
    )


def sentence(error: OSError) -> str:
    """Return the file, what the operating system refused, and what to do."""
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}. {advice(error)}"


def disk_full(error: BaseException | None) -> OSError | None:
    """Return `error` or the error that it was raised from, if a disk is full or a quota used up; otherwise None."""
    while error is not None and not (isinstance(error, OSError) and error.errno in FULL):
        error = error.__cause__
    return error


def _aside(path: Path) -> str:
    return shlex.join(["mv", str(path), f"{path}.aside"])


def put_aside(path: Path) -> Remedy:
    """Return the command that moves a damaged product of a chunk out of the way."""
    return Remedy(_aside(path), first="To have its chunk decoded again where it is needed")


def in_place_of(path: Path, remedy: Remedy) -> Remedy:
    """Return `remedy` with a first command that moves the directory `path` aside, which is in the place of a file."""
    return remedy.but(do=(_aside(path), *remedy.do))


def cannot_be_read(path: Path | str, error: OSError) -> str:
    """Return why `path` cannot be read or listed, and what to do."""
    return f"{path} cannot be read: {error.strerror or error}. {advice(error)}"


def _user(uid: int) -> str:
    import pwd  # noqa: PLC0415 - may ask a directory service; only where something is wrong

    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
