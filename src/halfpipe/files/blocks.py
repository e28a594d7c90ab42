"""Checksums of the blocks of large files, so that a part of one can be read and known to be what was written.

They lie in one small file beside those that they are of, and stay when these are cleaned up. The checksum of a block
is the CRC-32 of the sums of its pages: that of all its bytes costs a merge a fifth of its time, this one a twelfth.
"""

import logging
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import HalfPipeError
from halfpipe.files.json_files import read_json, write_json

log = logging.getLogger(__name__)
BLOCK = 1 << 20  # bytes, read at once: in smaller pieces threads of Python wait for each other more
PAGE = 1 << 12  # bytes that are summed, as words of 64 bits; the last page of a file is filled up with zeros


def checksums(path: Path) -> tuple[str, list[int]]:
    """Return the SHA-256 of a file as lower-case hex, and the checksum of each of its blocks, in one reading."""
    import hashlib  # noqa: PLC0415 - its library takes as long to load as all else here

    digest = hashlib.sha256()
    sums: list[int] = []
    view = memoryview(bytearray(BLOCK))
    with path.open("rb", buffering=0) as file:
        while count := _fill(file.fileno(), view, BLOCK * len(sums)):
            digest.update(view[:count])
            sums.append(_checksum(view, count))
    return digest.hexdigest(), sums


def save(path: Path, sums: Mapping[str, Sequence[int]]) -> None:
    """Write the checksums of the blocks of files, by their names."""
    write_json(path, {"block": BLOCK, "files": {name: list(each) for name, each in sums.items()}})


class Blocks:
    """The blocks of one file; any number of threads may check some at once.

    Parameters
    ----------
    sums
        The checksum of each block.
    """

    def __init__(self, sums: Sequence[int]) -> None:
        self._sums = tuple(sums)
        self._good = np.zeros(len(self._sums), dtype=bool)

    @classmethod
    def load(cls, path: Path, name: str) -> Self | None:
        """Return those of the file `name` from what `save` wrote; None if nothing was kept of it, or it is damaged.

        Without checksums nothing is compared; `halfpipe status --check` names a file of them that is damaged.
        """
        if not path.exists():
            return None
        try:
            content = read_json(path)
            sums = content["files"].get(name) if content["block"] == BLOCK else None
            return None if sums is None else cls([int(each) for each in sums])
        except (HalfPipeError, TypeError, ValueError, KeyError, AttributeError) as error:
            log.warning("%s holds no checksums, so its blocks are not compared: %s", path, error)
            return None

    def damaged(
        self, handle: int, starts: NDArray[np.int64], sizes: NDArray[np.int64], room: memoryview
    ) -> int | None:
        """Return the byte where a block starts that holds some of n pieces and is not what it was; None without one.

        Each block is read once.

        Parameters
        ----------
        handle
            Descriptor of the file.
        starts, sizes
            Where the pieces lie and how long they are, bytes, shape (n,).
        room
            Takes what is read: `BLOCK` bytes.
        """
        first, last = starts // BLOCK, (starts + sizes - 1) // BLOCK
        if int(last.max(initial=0)) >= len(self._good):
            return len(self._good) * BLOCK  # the file had no such block
        wanted = np.zeros(len(self._good), dtype=bool)
        wanted[first] = wanted[last] = True
        for at in np.flatnonzero(last > first + 1).tolist():
            wanted[first[at] : last[at]] = True
        for number in np.flatnonzero(wanted & ~self._good).tolist():
            if _checksum(room, _fill(handle, room, number * BLOCK)) != self._sums[number]:
                return int(number * BLOCK)
            self._good[number] = True
        return None


def _checksum(room: memoryview, count: int) -> int:
    """Return the checksum of the first `count` bytes of `room`."""
    whole = -(-count // PAGE) * PAGE
    room[count:whole] = bytes(whole - count)
    pages = np.frombuffer(room, "<u8", whole // 8).reshape(-1, PAGE // 8)
    return zlib.crc32(pages.sum(axis=1))


def _fill(handle: int, room: memoryview, at: int) -> int:
    """Read from byte `at` on until `room` is full or the file ends; return how many bytes that is."""
    done = 0
    while done < len(room) and (count := os.preadv(handle, [room[done:]], at + done)):
        done += count
    return done
