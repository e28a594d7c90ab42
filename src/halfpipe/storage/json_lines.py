"""Append-only files of JSON, one value a line: what outlives the products that are made from it."""

import errno
import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from halfpipe.errors import HalfPipeError, StateError
from halfpipe.storage.advice import advice
from halfpipe.storage.durable import flush, fsync_directory

MOST_LINES = 1 << 24  # bytes of a file of `JsonLines`: hundreds of deliveries with a thousand gaps each

LOOKED_THROUGH = (
    1 << 22
)  # bytes at the end of a file of which `append_once` knows what is there: thousands of lines


class JsonLines:
    """An append-only file of JSON, one value a line: what outlives the products that are made from it.

    A last line without its end was torn by a death while it was written: it does not count, and goes
    when the next one is appended.

    Parameters
    ----------
    path
        The file; it need not exist.
    at_stake
        What damage to it stops, a sentence without its end: "What was delivered must be known before more can be".
    unwritten
        What it means that a line cannot be written: "nothing was delivered".
    remedy, code
        What to do about damage, and the code of its error.

    Raises
    ------
    StateError
        If another line is not JSON, or the file is larger than `MOST_LINES`.
    """

    def __init__(
        self,
        path: Path,
        at_stake: str = "What it records must be known",
        unwritten: str = "nothing was recorded",
        remedy: str = "restore the file from a backup",
        code: str = StateError.code,
    ) -> None:
        self.path, self._code = path, code
        self._remedy = remedy
        self._at_stake, self._unwritten = at_stake, unwritten
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
            f"{self.path}, line {line}: damaged ({why}). {self._at_stake}.",
            f"{self._remedy[0].upper()}{self._remedy[1:]}",
            code=self._code,
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
                flush(file.fileno())
            fsync_directory(self.path.parent)
        except OSError as error:
            raise HalfPipeError(
                f"{self.path}: cannot be written: {error.strerror}, so {self._unwritten}. {advice(error)}"
            ) from error
        self._size += len(lines)
        self.torn = False
        self.values += values


def append_once(path: Path, value: Mapping[str, Any], but_for: str) -> None:
    """Append `value` to a file that many processes write and others read or take away, and flush it to disk.

    Nothing is written if the latest line with the same ``id`` says the same, `but_for` one key. A line that a death
    tore stays, on a line by itself. The kernel frees the lock of whoever dies; nobody waits for a dead machine.

    Raises
    ------
    OSError
        If it cannot be written and flushed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("a+b", buffering=0) as file:
        with suppress(OSError):  # a file system without such locks
            fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOOKED_THROUGH))
        before = file.read(LOOKED_THROUGH)
        if _latest(before, value["id"], but_for) == {key: value[key] for key in value if key != but_for}:
            return
        line = json.dumps(value).encode() + b"\n"
        if before and not before.endswith(b"\n"):
            line = b"\n" + line
        if file.write(line) != len(line):
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(file.fileno())
    if is_new:
        fsync_directory(path.parent)


def _latest(content: bytes, wanted: str, but_for: str) -> dict[str, Any] | None:
    """Return the latest line whose ``id`` is `wanted`, without the key `but_for`; None if no whole line has it."""
    for line in reversed(content.split(b"\n")[:-1]):
        if wanted.encode() in line:
            with suppress(ValueError, RecursionError):
                value = json.loads(line)
                if isinstance(value, dict) and value.get("id") == wanted:
                    return {key: value[key] for key in value if key != but_for}
    return None
