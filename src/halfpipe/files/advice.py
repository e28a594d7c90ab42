"""What the operating system refuses, in words: what to do about it, and whose it is."""

import errno
import os
import shlex
import stat
from pathlib import Path

from halfpipe.errors import Remedy

FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_FULL = "disk-full"  # the code of a failure for it: whoever waits may go on


_SERVER = "The file server does not answer: have it looked at, or mounted again."
_ADVICE = {
    errno.ENOSPC: "The disk is full: free some space and re-run the command.",
    errno.EDQUOT: "The quota is used up: free some space and re-run the command.",
    errno.EROFS: "The file system is read-only: have it mounted for writing, and try again.",
    errno.ENOTDIR: "A file is where a directory should be: move it aside.",
    errno.EEXIST: "A file is where a directory should be: move it aside.",
    errno.EISDIR: "A directory is where a file should be: move it aside.",
    errno.ESTALE: "The file server has forgotten it: have it mounted again.",
    errno.EIO: "The disk or the file server fails: have it looked at, or mounted again.",
    **dict.fromkeys((errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN), _SERVER),
    errno.ELOOP: "A link leads to itself: remove it.",
}


def advice(error: OSError) -> str:
    """Say in one sentence what to do about `error`, and where permission is lacking whose it is that it names."""
    if error.errno not in {errno.EACCES, errno.EPERM}:
        return _ADVICE.get(error.errno or 0, "Fix this and re-run the command.")
    path = Path(str(error.filename or "/"))
    owners = [f"{place} belongs to {who}" for place in (path, *path.parents) if (who := _owner(place))]
    return (
        f"{', '.join(owners[:2])}; this runs as {_user(os.geteuid())}. Ask the owner to let others read or the group "
        "write (chmod), or run as the owner, then re-run the command."
    )


def sentence(error: OSError) -> str:
    """Say what the operating system refused, of which file, and what to do about it."""
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}. {advice(error)}"


def is_full(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it was raised from, is that a disk is full or a quota used up."""
    while error is not None and getattr(error, "errno", None) not in FULL:
        error = error.__cause__
    return error is not None


def _aside(path: Path) -> str:
    return shlex.join(["mv", str(path), f"{path}.aside"])


def put_aside(path: Path) -> Remedy:
    """Return the command that moves a damaged product of a chunk out of the way."""
    return Remedy(_aside(path), first="To have its chunk decoded again where it is needed")


def in_place_of(path: Path, remedy: Remedy) -> Remedy:
    """Return the commands that move a directory aside which lies where a file should be, and then those of `remedy`."""
    return remedy.but(do=(_aside(path), *remedy.do))


def cannot_be_read(path: Path | str, error: OSError) -> str:
    """Say why `path` cannot be read or listed, and what to do."""
    return f"{path} cannot be read: {error.strerror or error}. {advice(error)}"


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
