"""Damages files at random, reproducibly: what storage, networks and hostile hands do to them."""

import random
import re
from collections.abc import Sequence

NUMBERS = (0, 1, 7, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**53 + 1, 2**63 - 1, 2**64 - 1)
TEXTS = (
    b"", b"-1", b"0" * 19 + b"1", b"18446744073709551616", b"4294967296", b"9" * 5000, b"1e308", b"nan", b"1_000",
    b"$(touch evil)", b"../../evil", b"a\x00b", b"\n", b"\r\n", b"\x1b[2J", b"\xff\xfe", "٢٩".encode(), b"%s{level0}",
    b"&lt;", b"<", b'"', b"EVT:", b"DGM:", b"<!DOCTYPE x>", b"&x;",
)  # fmt: skip


def mutated(rng: random.Random, content: bytes, *, text: bool = False, places: Sequence[int] = ()) -> bytes:
    """Return what storage, networks and hostile hands make of a file, of which lengths stand at `places`."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        begin = rng.randrange(len(content) + 1)
        end = min(len(content), begin + rng.randint(1, rng.choice((4, 64, 4096))))
        piece, number = content[begin:end], rng.choice(NUMBERS)
        words = list(re.finditer(rb'[^\s"<>=]+', content))
        what = rng.randrange(8 if text and words else 5)
        if places and rng.random() < 0.5:
            begin, what = rng.choice(places), 0
        if what == 0:
            size = 4 if number < 2**32 else 8
            content = content[:begin] + number.to_bytes(size, "little") + content[begin + size :]
        elif what == 1:
            content = (
                content[:begin]
                + bytes(byte ^ 1 << rng.randrange(8) for byte in piece[:9])
                + content[begin + 9 :]
            )
        elif what == 2:
            content = content[:begin] + rng.choice((b"", content[end:]))  # cut, or a block lost
        elif what == 3:
            content = content[:end] + rng.choice((piece, piece * 20, rng.randbytes(16))) + content[end:]
        elif what == 4:
            content = content[:begin] + bytes(end - begin) + content[end:]
        else:
            word = rng.choice(words)
            content = content[: word.start()] + rng.choice(TEXTS) + content[word.end() :]
    return content
