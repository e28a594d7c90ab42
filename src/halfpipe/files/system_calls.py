"""Calls of Linux that Python lacks, or wants an object a piece for: room set aside, many pieces read at once."""

import ctypes
import errno
import itertools
import os
from typing import IO

import numpy as np
from numpy.typing import NDArray

from halfpipe.files.advice import NoRoomError

MOST = 1024  # pieces in one call: IOV_MAX of Linux

_IOVEC = np.dtype([("base", np.uintp), ("length", np.uintp)])  # struct iovec of <sys/uio.h>

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = _libc.fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_preadv = _libc.preadv
# off_t has 64 bits wherever pointers have; os.preadv wants an object for each piece.
_preadv.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64]
_preadv.restype = ctypes.c_ssize_t


def reserve(out: IO[bytes], size: int) -> None:
    """Have the file system set aside `size` bytes for a file that is going to have so many.

    A disk that is too full says so before anything is written, and writing takes a third less time. Where
    the file system cannot do it nothing happens (`os.posix_fallocate` would write every block then).

    Raises
    ------
    OSError
        If there is no room.
    """
    while size > 0 and _fallocate(out.fileno(), 0, 0, size):
        number = ctypes.get_errno()
        if number in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise NoRoomError(number, size)
        if number != errno.EINTR:
            return


def read_pieces(
    handle: int,
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    buffer: NDArray[np.uint8],
    places: NDArray[np.int64],
) -> None:
    """Read n pieces of a file into their places in one buffer; those that follow each other are read together.

    The records of an event file lie in chunks' files in the same order, between those of other EPUs. One
    call of the system reads a thousand of them into their places; nothing is copied twice, and a file that
    became shorter is an error and not the end of the process, as it would be with a map of the file.

    Parameters
    ----------
    handle
        Descriptor of the file.
    starts, sizes
        Where the pieces lie in the file and how long they are, bytes, shape (n,); n is 1 or more.
    buffer
        Takes them; contiguous.
    places
        Where in `buffer` each of them goes, bytes, shape (n,).

    Raises
    ------
    EOFError
        With the position where the file ends, inside a piece or before it.
    OSError
        If it cannot be read.
    ValueError
        If a piece has no bytes, begins before the file or reaches out of `buffer`.
    """
    if not (
        (sizes > 0).all() and (starts >= 0).all() and (places >= 0).all() and (sizes <= buffer.size).all()
        and (places <= buffer.size - sizes).all() and buffer.flags.c_contiguous and buffer.flags.writeable
    ):  # fmt: skip
        raise ValueError("pieces that do not lie in the file and in the buffer")
    follows = starts[1:] == starts[:-1] + sizes[:-1]
    # What lies together on both sides is one piece.
    heads = np.concatenate(([0], np.flatnonzero(~(follows & (places[1:] == places[:-1] + sizes[:-1]))) + 1))
    vectors = np.empty(len(heads), _IOVEC)
    vectors["base"] = places[heads] + buffer.ctypes.data
    lengths = np.add.reduceat(sizes, heads)
    vectors["length"] = lengths
    positions = starts[heads]
    breaks = np.flatnonzero(positions[1:] != positions[:-1] + lengths[:-1]) + 1
    edges = [0, *breaks.tolist(), len(heads)]
    for begin, end in itertools.pairwise(edges):
        for first in range(begin, end, MOST):
            last = min(first + MOST, end)
            _read(handle, vectors[first:last], int(positions[first]))


def _read(handle: int, vectors: NDArray[np.void], position: int) -> None:
    """Fill `vectors` with what follows on `position`, in as many calls as it takes."""
    ends = np.cumsum(vectors["length"])
    wanted, done, first = int(ends[-1]), 0, 0
    while True:
        got = _preadv(handle, vectors[first:].ctypes.data, len(vectors) - first, position + done)
        if got < 0:
            number = ctypes.get_errno()
            if number == errno.EINTR:
                continue
            raise OSError(number, os.strerror(number))
        done += got
        if done == wanted:
            return
        if got == 0:
            raise EOFError(position + done)
        first = int(np.searchsorted(ends, done, side="right"))
        rest = int(ends[first]) - done
        vectors["base"][first] += vectors["length"][first] - np.uintp(rest)
        vectors["length"][first] = rest
