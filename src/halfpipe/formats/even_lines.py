"""Lines of text with equal lengths and columns at the same positions, read as arrays of bytes.

Decoders pad the columns of an index to fixed widths, so all lines of a block can be read at once, without a Python
object for each line. Text of any other form raises `UnevenError` and is read line by line elsewhere.
"""

import re
from collections.abc import Container

import numpy as np
from numpy.typing import NDArray

BLANK = 32  # bytes up to this one are white space, in text where all bytes below it are newlines

_BLANK_DIGIT = (ord(" ") - ord("0")) % 256  # a blank, read as a digit


class UnevenError(Exception):
    """The text is unusual, though not necessarily wrong: read it line by line."""


def require(usual: object) -> None:
    """Raise `UnevenError` unless `usual` is true."""
    if not usual:
        raise UnevenError


class EvenLines:
    """Lines of equal length with columns at the same positions; each token ends where its column ends.

    Methods that read a column raise `UnevenError` if the column is unusual.

    Parameters
    ----------
    lines
        The text, shape (size, length): one line per row, with its newline. All other bytes are blanks or above.
    tag, counts
        The tag at the start of the lines, and the allowed numbers of fields. Other lines raise `UnevenError`.

    Attributes
    ----------
    ends
        The position after each column, which has a blank; the next column starts after it.
    every, some
        For each position, the bits set in all lines, and in at least one line. Where they are equal, all lines are
        equal. They are also a lower and an upper bound of the byte.
    """

    def __init__(self, lines: NDArray[np.uint8], tag: bytes, counts: Container[int]) -> None:
        self.lines = lines
        self.size = len(lines)
        self.ends = [found.end() for found in re.finditer(rb"[^ \n]+", lines[0].tobytes())]
        self.every = np.bitwise_and.reduce(lines, axis=0)
        self.some = np.bitwise_or.reduce(lines, axis=0)
        last = np.array(self.ends)
        require(
            len(self.ends) in counts and lines[0].tobytes().startswith(tag + b" ") and self._same(0, len(tag))
        )
        require((self.every[last - 1] > BLANK).all() and (self.some[last] <= BLANK).all())
        # Each column contains the end of a token. If there are as many starts as columns, each has one token.
        if not ((self.every > BLANK) | (self.some <= BLANK)).all():
            black = lines.reshape(-1) > BLANK
            require(np.count_nonzero(black[1:] > black[:-1]) + 1 == self.size * len(self.ends))

    def _same(self, begin: int, end: int) -> bool:
        return bool((self.every[begin:end] == self.some[begin:end]).all())

    def _begin(self, column: int) -> int:
        return self.ends[column - 1] + 1

    def constant(self, column: int) -> bytes:
        """Return the token of a column that is equal in all lines."""
        begin = self._begin(column)
        end = self.ends[column]
        require(self._same(begin, end))
        return self.lines[0, begin:end].tobytes().strip()

    def column(self, column: int, kind: np.dtype) -> NDArray[np.generic]:
        """Return the values: words that fit `kind`, seconds with six decimals, or integers of up to 18 digits."""
        begin = self._begin(column)
        end = self.ends[column]
        if kind.kind == "S":
            cells = np.ascontiguousarray(self.lines[:, begin:end]).view(f"S{end - begin}").reshape(-1)
            words = np.strings.strip(cells)
            require(np.strings.str_len(words).max() <= kind.itemsize)
            return words
        if kind.kind != "f":
            return self._digits(begin, end, int(np.iinfo(kind).max))
        point = end - 7
        require(point > begin and self.every[point] == ord(".") == self.some[point])
        seconds = self._digits(begin, point, 2**32 - 1)
        micros = self._digits(point + 1, end, 10**6)
        # Both numbers are exact in binary64, so the quotient equals the number parsed from the text.
        return (seconds * np.uint64(10**6) + micros).astype(np.float64) / 1e6

    def _digits(self, begin: int, end: int, highest: int) -> NDArray[np.uint64]:
        """Return the numbers between two positions; a number may begin with blanks."""
        begin += int(np.argmax(self.some[begin:end] > BLANK))
        require(end - begin <= 18)
        varying = begin + int(np.argmin(self.every[begin:end] == self.some[begin:end]))
        first = self.lines[0, begin:varying].tobytes()
        digits = np.subtract(self.lines[:, varying:end].T, ord("0"), dtype=np.uint8, order="C")
        if first:
            require(first.isdigit())
        else:
            blank = digits == _BLANK_DIGIT
            require(not (blank[1:] > blank[:-1]).any())
            digits[blank] = 0
        require(digits.max() <= 9)
        values = np.full(self.size, int(first or b"0"), np.uint64)
        for each in digits:
            values *= np.uint64(10)
            values += each
        require(int(values.max()) <= highest)
        return values
