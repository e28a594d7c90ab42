"""Large files and numbers that claim much: refused or read bit by bit, and no memory taken for what is claimed.

The large files are sparse, so that they take no room on the disk.
"""

import hashlib
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from halfpipe import paths
from halfpipe.decode.chunk_products import check_products
from halfpipe.errors import FormatError, StateError
from halfpipe.files.json_files import read_json
from halfpipe.files.records import DamagedError
from halfpipe.formats import evt, level0, met
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.run import merged_index
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.merged_index import ChunkProducts, load_events
from halfpipe_simulator.packets import make_packet
from tests.support.golden_cases import GOLDEN
from tests.support.watch import at_once, watched

pytestmark = pytest.mark.workflow

DL, CHUNK, RUN = DownlinkId("240601001"), ChunkId("00003"), RunId("2c2e6cc0")
SOURCE = GOLDEN / "multi3" / "in" / DL
STEM = f"00770155-{RUN}-0965-{CHUNK}"
GIB = 1 << 30


def sparse(path: Path, size: int, *pieces: tuple[int, bytes]) -> Path:
    """Write a file of `size` bytes, zeros but for `pieces`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for at, content in pieces:
            file.seek(at)
            file.write(content)
        file.truncate(size)
    return path


def test_a_record_of_four_gigabytes_that_is_there_is_refused(tmp_path: Path) -> None:
    source = min((GOLDEN / "latc_lpa" / "in" / DL).glob("*.evt")).read_bytes()
    place = evt.HEADER_SIZE + evt.CONTEXT.itemsize
    place += 4 + struct.unpack_from("<I", source, place)[0] + 4 + evt.LPA_INFO.itemsize
    count = 4 * GIB // evt.LPA_HANDLER.itemsize
    # Zeros are good handlers and good keys, so that all lengths fit the file.
    size = place + 4 + count * evt.LPA_HANDLER.itemsize + evt.LPA_KEYS.itemsize
    path = sparse(tmp_path / "large.evt", size, (0, source[:place]), (place, struct.pack("<I", count)))
    with watched(tmp_path), at_once():
        file = evt.open_evt(path)
        with pytest.raises(FormatError, match=rf"^{path}: .* byte {place} is {count}"):
            evt.record_layout(file.data, np.array([evt.HEADER_SIZE]), str(path))
        with pytest.raises(FormatError, match=str(path)):
            evt.walk(file.data, str(path))


DEEP = b"<retdef>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</retdef>"
WIDE = b"<retdef " + b" ".join(b'a%d="%d"' % (n, n) for n in range(60_000)) + b"/>"
LONG = b"<" + b"r" * 900_000 + b"/>"


@pytest.mark.parametrize("content", [DEEP, WIDE, LONG])
def test_a_retdef_that_is_large_inside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / f"RetDef-{DL}-00001.xml"
    path.write_bytes(content)
    with watched(tmp_path), at_once(), pytest.raises(FormatError, match=f"^{path}: ") as caught:
        read_retdef(path)
    assert len(str(caught.value)) < 1000


def test_a_record_that_is_huge_or_deep(tmp_path: Path) -> None:
    home = tmp_path / paths.deliveries(RUN)
    home.mkdir(parents=True)
    path = sparse(home / "000001.json", GIB, (0, b'{\n "sha256": "' + b"0" * 64 + b'",\n'))
    with watched(tmp_path), at_once(), pytest.raises(DamagedError, match=str(path)):
        Deliveries(tmp_path, RUN)
    deep = b'{\n "a": ' + b"[" * 1_000_000 + b"\n"
    digest = hashlib.sha256(deep).hexdigest().encode()
    path.write_bytes(deep.replace(b"{\n", b'{\n "sha256": "' + digest + b'",\n', 1))
    with watched(tmp_path), at_once(), pytest.raises(DamagedError, match=str(path)):
        Deliveries(tmp_path, RUN)


def test_json_that_is_deep(tmp_path: Path) -> None:
    path = tmp_path / "00001.json"
    path.write_bytes(b'{"a":' * 1_000_000)
    with watched(tmp_path), at_once(), pytest.raises(FormatError, match=f"^{path}: "):
        read_json(path)


def _with_shape(shape: str) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        size = 10 + struct.unpack_from("<H", content, 8)[0]
        header = content[10:size].decode()
        header = header.replace("'shape': (40,)", f"'shape': {shape}").rstrip()
        assert shape in header
        padded = (header + " ").ljust(len(header) + 200) + "\n"
        return content[:8] + struct.pack("<H", len(padded)) + padded.encode() + content[size:]

    return change


@pytest.mark.parametrize(
    "shape", ["(10000000000000,)", "(-1,)", "(2**60,)", "(40, 1)", "()", "(True,)", "(" * 100]
)
def test_an_array_that_claims_more_than_the_file_has(tmp_path: Path, shape: str) -> None:
    files = check_products(_products(tmp_path), CHUNK)
    chunk = ChunkProducts.of({"chunk": CHUNK, "files": files}, RUN)
    merged_index.save(merged_index.build([(chunk, tmp_path / "out")]), tmp_path, RUN, DL)
    path = tmp_path / "runs" / RUN / DL / "events.npy"
    assert len(load_events(tmp_path, RUN, DL).files) == 1
    path.write_bytes(_with_shape(shape)(path.read_bytes()))
    with (
        watched(tmp_path),
        at_once(),
        pytest.raises(StateError, match=f"^{path}: .* halfpipe status --check --mend"),
    ):
        load_events(tmp_path, RUN, DL)


def _products(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    out.mkdir()
    for suffix in ("evt", "idx"):
        shutil.copy(SOURCE / f"{STEM}.{suffix}", out)
    return out


HOUR = 1680318000  # 2023-04-01 03:00 UTC, Unix seconds


def _archive(tmp_path: Path, size: int, *pieces: tuple[int, bytes]) -> Path:
    root = tmp_path / "level0"
    start = int(met.unix_to_met(HOUR))
    sparse(level0.hour_path(root, 77, HOUR) / level0.file_name(77, 956, start, 1), size, *pieces)
    return root


def _packet(seq: int, flags: level0.Flags, body: bytes = b"") -> bytes:
    seconds = int(met.unix_to_met(HOUR)) + 10
    return make_packet(
        apid=956, seq=seq % level0.COUNTER, seconds=seconds, microseconds=seq, flags=flags, body=body
    )


def test_a_level0_file_of_gigabytes_of_nothing(tmp_path: Path) -> None:
    packet = _packet(1, level0.Flags.ALONE, b"x" * 100)
    size = GIB
    root = _archive(
        tmp_path, size, (0, packet), (size - len(packet) - 7, _packet(2, level0.Flags.ALONE, b"y" * 100))
    )
    with watched(tmp_path):
        found = level0.retrieve(root, 77, 956, [(HOUR, HOUR + 60)])
        assert [found.payload(number)[:1] for number in range(len(found))] == [b"x", b"y"]
    assert len(found.faults) == 2  # the hole, and what follows the second packet
    assert all(str(root) in str(fault) for fault in found.faults)
