"""What the operating system refuses, in words: what to do about it, and whose it is."""

import errno
import os
import shlex
import stat
from pathlib import Path

from halfpipe.errors import HalfPipeError, Remedy

FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_FULL = "disk-full"  # the code of a failure for it: whoever waits may go on


def advice(error: OSError) -> str:
    """Say in one sentence what to do about `error`."""
    known = {
        errno.ENOSPC: "The disk is full: free some space and re-run the command.",
        errno.EDQUOT: "The quota is used up: free some space and re-run the command.",
        errno.EROFS: "The file system is read-only: have it mounted for writing, and try again.",
        errno.EACCES: "No permission: check the owner and the mode of the directory.",
        errno.EPERM: "No permission: check the owner and the mode of the directory.",
        errno.ENOTDIR: "A file is where a directory should be: move it aside.",
        errno.EEXIST: "A file is where a directory should be: move it aside.",
        errno.EISDIR: "A directory is where a file should be: move it aside.",
    }
    return known.get(error.errno or 0, "Fix this and re-run the command.")


def is_full(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it was raised from, is that a disk is full or a quota used up."""
    while error is not None and getattr(error, "errno", None) not in FULL:
        error = error.__cause__
    return error is not None


def in_the_way(path: Path, error: OSError) -> HalfPipeError:
    """Return the error that says who owns what cannot be written or removed at `path`, and what to do."""
    denied = error.errno in {errno.EACCES, errno.EPERM}
    what = f"{path}: cannot be written or removed: {error.strerror or error}."
    if not denied:
        return HalfPipeError(f"{what} {advice(error)}", code="system")
    there = next((place for place in (path, *path.parents) if _owner(place)), Path("/"))
    places = (there, there.parent) if there == path else (there,)
    owners = ", ".join(f"{place} belongs to {_owner(place)}" for place in places if _owner(place))
    return HalfPipeError(
        f"{what} {owners}; this runs as {_user(os.geteuid())}. Nothing is ever given another owner here: ask the "
        "owner to remove it or to let the group write (chmod g+w), or run as the owner, then re-run the command.",
        code="system",
    )


def in_place_of(path: Path, remedy: Remedy) -> Remedy:
    """Return the commands that move a directory aside which lies where a file should be, and then those of `remedy`."""
    aside = shlex.join(["mv", str(path), f"{path}.aside"])
    return remedy.but(do=(aside, *remedy.do))


def cannot_be_read(path: Path, error: OSError) -> str:
    """Say why `path` cannot be read or listed, where permission is lacking whose it is, and what to do."""
    listed = error.errno == errno.ENOTDIR or (error.errno != errno.EISDIR and _is_directory(path))
    what = f"{path} cannot be {'listed' if listed else 'read'}"
    what = f"{what}: {error.strerror or error}."
    if error.errno not in {errno.EACCES, errno.EPERM}:
        return f"{what} {_ADVICE_ON_READING.get(error.errno or 0, advice(error))}"
    there = next((place for place in (path, *path.parents) if _owner(place)), Path("/"))
    return (
        f"{what} {there} belongs to {_owner(there)}; this runs as {_user(os.geteuid())}. Ask the owner to let others "
        f"read it: chmod {'a+rx' if _is_directory(there) else 'a+r'} {there}"
    )


_ADVICE_ON_READING = {
    errno.ESTALE: "The file server has forgotten it: have it mounted again.",
    errno.EIO: "The disk or the file server fails: have it looked at, or mounted again.",
    errno.ETIMEDOUT: "The file server does not answer: have it looked at, or mounted again.",
    errno.EHOSTDOWN: "The file server does not answer: have it looked at, or mounted again.",
    errno.ENOTCONN: "The file server does not answer: have it looked at, or mounted again.",
    errno.ELOOP: "A link leads to itself: remove it.",
}


def _is_directory(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - where a Path would raise the error that is told here


def _owner(path: Path) -> str:
    try:
        found = path.lstat()
    except OSError:
        return ""
    return f"{_user(found.st_uid)}, mode {stat.filemode(found.st_mode)}"


def _user(uid: int) -> str:
    import pwd  # noqa: PLC0415 - may ask a directory service; only where something is wrong

    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
