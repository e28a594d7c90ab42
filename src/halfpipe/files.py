"""Writing files so that what exists under its final name is whole, and reading them with clear errors."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from halfpipe.errors import FormatError, HalfPipeError, MissingInputError


def fsync_directory(path: Path) -> None:
    """Flush the directory `path`, so that renames in it survive a crash of the machine."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_file(path: Path) -> None:
    """Flush the file `path`, which another program wrote, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside `path` for writing; flush it to disk and rename it to `path` on success.

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
        with part.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.rename(path)
        fsync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise HalfPipeError(f"{path}: cannot be written: {error.strerror}. {advice(error)}") from error
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def advice(error: OSError) -> str:
    """Say in one sentence what to do about `error`."""
    import errno  # noqa: PLC0415 - only on the way out

    known = {
        errno.ENOSPC: "The disk is full: free some space and give the same command again.",
        errno.EDQUOT: "The quota is used up: free some space and give the same command again.",
        errno.EROFS: "The file system is read-only: have it mounted for writing, and try again.",
        errno.EACCES: "No permission: check the owner and the mode of the directory.",
        errno.EPERM: "No permission: check the owner and the mode of the directory.",
        errno.ENOTDIR: "A file is where a directory should be: move it aside.",
        errno.EISDIR: "A directory is where a file should be: move it aside.",
    }
    return known.get(error.errno or 0, "Mend the cause and give the same command again.")


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
    except ValueError as error:
        raise FormatError(
            f"{path}: not JSON ({error}). Remove it, and give the same command again"
        ) from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of the file `path` as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
