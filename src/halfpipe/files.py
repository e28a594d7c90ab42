"""Writing files so that what exists under its final name is whole, and reading them with clear errors."""

import ctypes
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from halfpipe.errors import FormatError, HalfPipeError, MissingInputError, StateError

# Of a larger piece Linux makes pages of 2 MiB in memory, where its file system can. These are rare: on a
# virtual machine whose host takes back what is free they took ten times as long as all smaller ones.
MOST_AT_ONCE = 1 << 20  # bytes
MOST_LINES = 1 << 24  # bytes of a file of `JsonLines`: hundreds of deliveries with a thousand gaps each


_fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def fsync_directory(path: Path) -> None:
    """Flush the directory `path`, so that renames in it survive a crash of the machine."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
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
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_file(path: Path) -> None:
    """Remove the file `path` if it is there, so that it is not back after a crash of the machine."""
    with suppress(FileNotFoundError):
        path.unlink()
        fsync_directory(path.parent)


def remove_tree(path: Path) -> None:
    """Remove the directory `path` with all that is in it, if it is there.

    Raises
    ------
    HalfPipeError
        If something in it cannot be removed; says whose it is.
    """
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise in_the_way(Path(error.filename or path), error) from error


def open_regular(path: Path) -> BufferedReader:
    """Open the file `path`, which comes from outside, for reading; links are followed.

    A pipe in its place would be waited for without an end, and a device has no end: both are refused.

    Raises
    ------
    OSError
        If it cannot be opened or is no regular file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


@contextmanager
def replacing(path: Path, buffering: int = -1) -> Iterator[IO[bytes]]:
    """Open a file beside `path` for writing; flush it to disk and rename it to `path` on success.

    Without `buffering` (0) write with `write_whole`.

    The temporary name is the same at every try (`.name.part`), so a killed job's leftover is written
    over by the next one. Callers hold the lock of what they write.

    Raises
    ------
    HalfPipeError
        If the file cannot be written; it names the path and the cause (a full disk, no permission).
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb", buffering=buffering) as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.rename(path)
        fsync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise HalfPipeError(
            f"{path}: cannot be written: {error.strerror or error}. {advice(error)}"
        ) from error
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def reserve(out: IO[bytes], size: int) -> None:
    """Have the file system set aside `size` bytes for a file that is going to have so many.

    A disk that is too full says so before anything is written, and writing takes a third less time. Where
    the file system cannot do it nothing happens (`os.posix_fallocate` would write every block then).

    Raises
    ------
    OSError
        If there is no room.
    """
    if _fallocate is None or size <= 0:
        return
    while _fallocate(out.fileno(), 0, 0, size):
        number = ctypes.get_errno()
        if number in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise OSError(number, os.strerror(number))
        if number != errno.EINTR:
            return


def write_whole(out: IO[bytes], content: bytes | memoryview) -> None:
    """Write `content`, a view of single bytes, to a file without a buffer, which may take less at a time."""
    rest = memoryview(content)
    while rest:
        rest = rest[out.write(rest[:MOST_AT_ONCE]) :]


def advice(error: OSError) -> str:
    """Say in one sentence what to do about `error`."""
    known = {
        errno.ENOSPC: "The disk is full: free some space and give the same command again.",
        errno.EDQUOT: "The quota is used up: free some space and give the same command again.",
        errno.EROFS: "The file system is read-only: have it mounted for writing, and try again.",
        errno.EACCES: "No permission: check the owner and the mode of the directory.",
        errno.EPERM: "No permission: check the owner and the mode of the directory.",
        errno.ENOTDIR: "A file is where a directory should be: move it aside.",
        errno.EEXIST: "A file is where a directory should be: move it aside.",
        errno.EISDIR: "A directory is where a file should be: move it aside.",
    }
    return known.get(error.errno or 0, "Mend the cause and give the same command again.")


def in_the_way(path: Path, error: OSError) -> HalfPipeError:
    """Return the error that says who owns what cannot be written or removed at `path`, and what to do."""
    denied = error.errno in {errno.EACCES, errno.EPERM}
    what = f"{path}: cannot be written or removed: {error.strerror or error}."
    if not denied:
        return HalfPipeError(f"{what} {advice(error)}")
    there = next((place for place in (path, *path.parents) if _owner(place)), Path("/"))
    places = (there, there.parent) if there == path else (there,)
    owners = ", ".join(f"{place} belongs to {_owner(place)}" for place in places if _owner(place))
    return HalfPipeError(
        f"{what} {owners}; this runs as {_user(os.geteuid())}. Nothing is ever given another owner here: ask the "
        "owner to remove it or to let the group write (chmod g+w), or run as the owner, then give the same "
        "command again."
    )


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


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as out:
        out.write(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def dump_json(value: Any) -> str:
    """Return `value` as the project writes JSON: sorted keys, one item a line, a newline at the end."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as JSON, whole or not at all; the same value gives the same bytes."""
    write_text(path, dump_json(value))


def read_json(path: Path) -> Any:
    """Read JSON from `path`.

    Raises
    ------
    MissingInputError
        If there is no such file.
    FormatError
        If it is not JSON; names the place.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{path}: not JSON ({error}). Remove it, and give the same command again"
        ) from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of the file `path` as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class JsonLines:
    """An append-only file of JSON, one value a line: what outlives the products that are made from it.

    A last line without its end was torn by a death while it was written: it does not count, and goes
    when the next one is appended.

    Parameters
    ----------
    path
        The file; it need not exist.

    Raises
    ------
    StateError
        If another line is not JSON, or the file is larger than `MOST_LINES`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: list[Any] = []
        try:
            with path.open("rb") as file:
                content = file.read(MOST_LINES + 1)
        except FileNotFoundError:
            content = b""
        if len(content) > MOST_LINES:
            raise self.damaged(1, f"the file has more than {MOST_LINES} bytes")
        *lines, tail = content.split(b"\n")
        self.torn = bool(tail)
        self._size = len(content) - len(tail)
        for number, line in enumerate(lines, 1):
            try:
                self.values.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise self.damaged(number, error) from error

    def damaged(self, line: int, why: object) -> StateError:
        """Return the error that says that a line cannot be what it should be."""
        return StateError(
            f"{self.path}, line {line}: damaged ({why}). What was delivered must be known before more can be: "
            "restore the file from a backup, then give the same command again."
        )

    def append(self, *values: Any) -> None:
        """Append `values` and flush them to disk.

        Raises
        ------
        HalfPipeError
            If they cannot be written and flushed; then none of them counts.
        """
        lines = "".join(json.dumps(value, sort_keys=True) + "\n" for value in values).encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("r+b" if self.path.exists() else "w+b", buffering=0) as file:
                file.truncate(self._size)
                file.seek(self._size)
                if file.write(lines) != len(lines):
                    file.truncate(self._size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            fsync_directory(self.path.parent)
        except OSError as error:
            raise HalfPipeError(
                f"{self.path}: cannot be written: {error.strerror}, so nothing was delivered. {advice(error)}"
            ) from error
        self._size += len(lines)
        self.torn = False
        self.values += values
