"""Checksums of blocks: every damage is found, and only that in the blocks that are asked for."""

import os
import random
from pathlib import Path

import numpy as np
import pytest

from halfpipe.files.blocks import BLOCK, Blocks, checksums, save
from halfpipe.files.reading import sha256

SIZE = 3 * BLOCK + 1234


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.evt"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


def damaged(path: Path, sums: list[int], *pieces: tuple[int, int]) -> int | None:
    starts, sizes = np.array(pieces, np.int64).reshape(-1, 2).T
    with path.open("rb") as opened:
        return Blocks(sums).damaged(opened.fileno(), starts, sizes, memoryview(bytearray(BLOCK)))


EVERYTHING = (0, SIZE)


def test_a_good_file_is_good(file: Path) -> None:
    digest, sums = checksums(file)
    assert digest == sha256(file)
    assert len(sums) == 4
    assert damaged(file, sums, EVERYTHING) is None
    assert damaged(file, sums) is None
    assert damaged(file, sums, (SIZE - 1, 1)) is None


def change(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as opened:
        opened.seek(at)
        opened.write(content)


def test_any_flipped_bit_and_any_moved_page_is_found(file: Path) -> None:
    rng, content = random.Random(2), file.read_bytes()
    _, sums = checksums(file)
    for _ in range(100):
        at = rng.randrange(SIZE)
        change(file, at, bytes([content[at] ^ 1 << rng.randrange(8)]))
        assert damaged(file, sums, EVERYTHING) == at // BLOCK * BLOCK
        change(file, at, content[at : at + 1])
    change(file, BLOCK, content[BLOCK + 4096 : BLOCK + 8192] + content[BLOCK : BLOCK + 4096])
    assert damaged(file, sums, EVERYTHING) == BLOCK
    change(file, BLOCK, content[BLOCK : BLOCK + 8192])
    assert damaged(file, sums, EVERYTHING) is None
    change(file, 2 * BLOCK + 100, bytes(512))
    assert damaged(file, sums, EVERYTHING) == 2 * BLOCK


def test_blocks_that_hold_no_piece_are_not_looked_at(file: Path) -> None:
    _, sums = checksums(file)
    change(file, BLOCK + 5, b"damaged")
    assert damaged(file, sums, (10, 100), (2 * BLOCK, BLOCK)) is None
    assert damaged(file, sums, (BLOCK - 1, 2)) == BLOCK
    assert damaged(file, sums, (2 * BLOCK - 1, 1)) == BLOCK


def test_a_file_of_another_size_is_damaged(file: Path) -> None:
    _, sums = checksums(file)
    assert damaged(file, sums, (1 << 62, 100)) == 4 * BLOCK
    os.truncate(file, SIZE - 1)
    assert damaged(file, sums, EVERYTHING) == 3 * BLOCK
    os.truncate(file, 100)
    assert damaged(file, sums, (2 * BLOCK, 10)) == 2 * BLOCK


def test_what_was_kept_comes_back(file: Path, tmp_path: Path) -> None:
    kept = tmp_path / "00001.crc32"
    assert Blocks.load(kept, file.name) is None, "nothing was kept"
    _, sums = checksums(file)
    save(kept, {file.name: sums})
    assert Blocks.load(kept, "other.evt") is None
    loaded = Blocks.load(kept, file.name)
    assert loaded is not None
    change(file, 7, b"damaged")
    with file.open("rb") as opened:
        room = memoryview(bytearray(BLOCK))
        assert loaded.damaged(opened.fileno(), np.array([500]), np.array([1]), room) == 0
    for content in (
        "{}",
        '{"block": 1048576, "files": {"x.evt": ["a"]}}',
        '{"block": 1048576, "files": []}',
        "{",
    ):
        kept.write_text(content)
        assert Blocks.load(kept, "x.evt") is None
