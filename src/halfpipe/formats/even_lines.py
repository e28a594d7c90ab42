"""Lines of text with equal lengths and columns at the same positions, read as arrays of bytes.

Decoders pad the columns of an index to fixed widths, so all lines of a block can be read at once, without a Python
object for each line. Text of any other form raises `UnevenError` and is read line by line elsewhere.
"""

import re
from collections.abc import Container

import numpy as np
from numpy.typing import NDArray

BLANK = 32  # bytes up to this one are white space, in text where all bytes below it are newlines

# By number of digits: mask of the bytes to keep in a word of eight that ends with a number.
_KEEP = np.array([(2**64 - 1) ^ (2 ** (64 - 8 * digits) - 1) for digits in range(9)], np.uint64)


class UnevenError(Exception):
    """The text is unusual, though not necessarily wrong: read it line by line."""


def require(usual: object) -> None:
    """Raise `UnevenError` unless `usual` is true."""
    if not usual:
        raise UnevenError


def _pairwise(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the numbers in words of eight digits (bytes 0 to 9, not characters).

    The first digit is the lowest byte. Neighbors are combined pairwise: digits to two-digit numbers, these to
    four-digit numbers, and these to the result.
    """
    word = (word * np.uint64(10) + (word >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    word = (word * np.uint64(100) + (word >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    return (word * np.uint64(10000) + (word >> np.uint64(32))) & np.uint64(0xFFFFFFFF)


def _not_digits(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return 0 for words of eight digits (0 to 9), and another number for all others."""
    return ((word + np.uint64(0x7676767676767676)) | word) & np.uint64(0x8080808080808080)


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
        begin += int(np.argmax(self.some[begin:end] > BLANK))
        require(end - begin <= 18)
        values = np.zeros(self.size, np.uint64)
        for group, stop in enumerate(range(end, begin, -8)):
            start = max(begin, stop - 8)
            if self._same(start, stop):
                text = self.lines[0, start:stop].tobytes()
                require(text.isdigit())
                values += np.uint64(int(text) * 10 ** (8 * group))
                continue
            require(stop >= 8)
            word = np.ndarray(self.size, "<u8", self.lines.data, stop - 8, self.lines.strides[:1])
            word = (word ^ np.uint64(0x3030303030303030)) & _KEEP[stop - start]
            wrong = np.uint64(0)
            if not (self.every[start:stop] & 0x10).all():
                # A blank has become 0x10. Any other byte with this bit also has one of the lower four bits.
                blank = word & np.uint64(0x1010101010101010)
                wrong = word & (blank - (blank >> np.uint64(4)))
                word ^= blank
            require(not (_not_digits(word) | wrong).any())
            values += _pairwise(word) * np.uint64(10 ** (8 * group))
        require(int(values.max()) <= highest)
        return values
