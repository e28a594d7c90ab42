"""Linux system calls that Python lacks, or offers only with one object per piece: fallocate(2) and preadv(2)."""

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
# off_t and pointers have 64 bits; os.preadv needs one object per piece.
_preadv.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64]
_preadv.restype = ctypes.c_ssize_t


def reserve(out: IO[bytes], size: int) -> None:
    """Reserve disk space for a file that will have `size` bytes.

    A full disk is detected before anything is written, and writing takes a third less time. If the file system does
    not support this, nothing happens (`os.posix_fallocate` would write every block).

    Raises
    ------
    OSError
        If the disk is full.
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
    """Read n pieces of a file into places of one buffer; consecutive pieces are read together.

    Records of an event file have the same order in the chunks' files, interleaved with records of other EPUs. One
    system call reads a thousand of them into their places without another copy. A file that became shorter raises an
    error, while with a memory map it would kill the process.

    Parameters
    ----------
    handle
        Descriptor of the file.
    starts, sizes
        Positions of the pieces in the file and their sizes, bytes, shape (n,); n is 1 or more.
    buffer
        Contiguous buffer for the pieces.
    places
        Positions of the pieces in `buffer`, bytes, shape (n,).

    Raises
    ------
    EOFError
        If the file ends inside a piece or before it; with the position of the end.
    OSError
        If the file cannot be read.
    ValueError
        If a piece is empty, begins before the file, or exceeds `buffer`.
    """
    if not (
        (sizes > 0).all() and (starts >= 0).all() and (places >= 0).all() and (sizes <= buffer.size).all()
        and (places <= buffer.size - sizes).all() and buffer.flags.c_contiguous and buffer.flags.writeable
    ):  # fmt: skip
        raise ValueError("a piece is outside the file or the buffer")
    follows = starts[1:] == starts[:-1] + sizes[:-1]
    # Pieces that are consecutive in the file and in the buffer become one piece.
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
    """Fill `vectors` with the bytes from `position` on, in as many calls as necessary."""
    bases = vectors["base"]
    lengths = vectors["length"]
    ends = np.cumsum(lengths)
    wanted = int(ends[-1])
    done = 0
    first = 0
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
        bases[first] += lengths[first] - np.uintp(rest)
        lengths[first] = rest
