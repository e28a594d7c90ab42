"""Damages files at random, reproducibly: what storage, networks and hostile hands do to them."""

import random
import re
from collections.abc import Callable, Sequence

EXTREMES = (0, 1, 7, 0x7F, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)
LONG_EXTREMES = (2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1)
TEXTS = (
    b"", b"-1", b"0", b"00000000000000000001", b"18446744073709551615", b"18446744073709551616", b"4294967296",
    b"99999999999999999999999999", b"9" * 5000, b"1e308", b"-1e308", b"nan", b"inf", b"0x" + b"f" * 40, b"1_000",
    b"$(touch evil)", b"`touch evil`", b";touch evil", b"../../evil", b"/etc/passwd", b"\x00", b"a\x00b", b"\n", b"\r",
    b"\r\n", b"\t", b"\x0b", b"\x0c", b"\x85", b"\x1b[2J", b"\xff\xfe", b"\xc3", "٢٩".encode(), "\u2028".encode(),
    b"%s%n", b"{level0}", b"&#0;", b"&lt;", b"<", b">", b'"', b"'", b"EVT:", b"DGM:", b"]]>", b"<!DOCTYPE x>", b"&x;",
)  # fmt: skip

Mutation = Callable[[random.Random, bytes], bytes]


def _slice(rng: random.Random, content: bytes, longest: int = 4096) -> tuple[int, int]:
    begin = rng.randrange(len(content) + 1)
    return begin, min(len(content), begin + rng.randint(1, rng.choice((4, 64, longest))))


def flip(rng: random.Random, content: bytes) -> bytes:
    """Flip some bits."""
    flipped = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if flipped:
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def cut(rng: random.Random, content: bytes) -> bytes:
    """Cut the end off."""
    return content[: rng.randrange(len(content) + 1)]


def drop(rng: random.Random, content: bytes) -> bytes:
    """Lose a block."""
    begin, end = _slice(rng, content)
    return content[:begin] + content[end:]


def insert(rng: random.Random, content: bytes) -> bytes:
    """Insert random bytes."""
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(rng.choice((1, 4, 16, 300))) + content[at:]


def repeat(rng: random.Random, content: bytes) -> bytes:
    """Repeat a block."""
    begin, end = _slice(rng, content)
    return content[:end] + content[begin:end] * rng.choice((1, 2, 20)) + content[end:]


def swap(rng: random.Random, content: bytes) -> bytes:
    """Let two neighbouring blocks change places."""
    begin, end = _slice(rng, content)
    middle = rng.randint(begin, end)
    return content[:begin] + content[middle:end] + content[begin:middle] + content[end:]


def blank(rng: random.Random, content: bytes) -> bytes:
    """Fill a block with zeros, as a sector that was never written."""
    begin, end = _slice(rng, content)
    return content[:begin] + bytes(end - begin) + content[end:]


def extreme(rng: random.Random, content: bytes) -> bytes:
    """Put a number that is extreme somewhere."""
    return put_number(rng, content, rng.randrange(len(content) + 1), rng.choice(("little", "big")))


def put_number(rng: random.Random, content: bytes, at: int, order: str = "little") -> bytes:
    """Put an extreme number at byte `at`."""
    value = rng.choice(EXTREMES if rng.random() < 0.7 else LONG_EXTREMES)
    size = 4 if value < 2**32 else 8
    return (
        content[:at] + value.to_bytes(size, "little" if order == "little" else "big") + content[at + size :]
    )


def word(rng: random.Random, content: bytes) -> bytes:
    """Put something else for a word or a number of a text."""
    pattern = rng.choice((rb"[0-9.]+", rb'[^\s"<>=]+'))
    found = list(re.finditer(pattern, content))
    if not found:
        return content
    match = rng.choice(found)
    return content[: match.start()] + rng.choice(TEXTS) + content[match.end() :]


def infix(rng: random.Random, content: bytes) -> bytes:
    """Insert a nasty text."""
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(TEXTS) + content[at:]


def line(rng: random.Random, content: bytes) -> bytes:
    """Repeat, lose, or move a line."""
    lines = content.splitlines(keepends=True)
    if not lines:
        return content
    taken = lines.pop(rng.randrange(len(lines)))
    for _ in range(rng.choice((0, 1, 2, 50))):
        lines.insert(rng.randint(0, len(lines)), taken)
    return b"".join(lines)


ANY: Sequence[Mutation] = (flip, cut, drop, insert, repeat, swap, blank, extreme)
OF_TEXT: Sequence[Mutation] = (*ANY, word, word, word, word, infix, infix, line, line)


def mutated(
    rng: random.Random, content: bytes, mutations: Sequence[Mutation], places: Sequence[int] = ()
) -> bytes:
    """Return `content` damaged in one to three ways; half of the damage hits `places` where there are some.

    Parameters
    ----------
    places
        Bytes at which numbers stand that say how long something is.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if places and rng.random() < 0.5:
            content = put_number(rng, content, rng.choice(places))
        else:
            content = rng.choice(mutations)(rng, content)
    return content
