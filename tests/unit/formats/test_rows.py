"""The rows of a chunk's index as they are written for merges: the same rows, or an error that names the file."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfpipe.errors import FormatError
from halfpipe.files.reading import sha256
from halfpipe.formats.idx import Events, Rows
from halfpipe.formats.rows import read_rows, write_rows


def rows(count: int) -> Rows:
    rng = np.random.default_rng(count)
    events = rng.integers(0, 256, count * Events.row.itemsize, np.uint8).view(Events.row).view(Events)
    return Rows((b"DGM: one", b"DGM: \xfftwo")[: count % 3], events, ("a.evt", "b.evt")[: count % 4])


def plain(read: Rows) -> tuple[object, ...]:
    return read.lines, read.files, read.events.dtype, read.events.tobytes()


def refused(path: Path, checksum: str = "") -> bool:
    with pytest.raises(FormatError, match=f"^{path}: ") as caught:
        read_rows(path, checksum)
    return caught.value.remedy.do == (f"mv {path} {path}.aside",)


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_written_rows_are_read_back(count: int, tmp_path: Path) -> None:
    path = tmp_path / "x.rows"
    checksum = write_rows(path, rows(count))
    assert checksum == sha256(path)
    assert plain(read_rows(path, checksum)) == plain(rows(count))
    assert list(tmp_path.iterdir()) == [path]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(data=st.data())
def test_damaged_rows_are_refused(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "x.rows"
    checksum = write_rows(path, rows(5))
    good = path.read_bytes()
    content = bytearray(good)
    match data.draw(st.sampled_from(["cut", "longer", "changed", "other"])):
        case "cut":
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        case "longer":
            content += data.draw(st.binary(min_size=1, max_size=2 * Events.row.itemsize))
        case "changed":
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        case "other":
            content = bytearray(data.draw(st.binary(max_size=300)))
    path.write_bytes(content)
    # Less than an event behind them does not count: who looks for products asks for their sizes.
    is_longer = good == content[: len(good)] and len(content) < len(good) + Events.row.itemsize
    assert is_longer or refused(path, checksum)


@pytest.mark.parametrize(
    "header",
    [b"[]", b"null", b"[{}, 0, 1]", b"[" * 60000]
    + [b"[[], 0, %s]" % count for count in (b"-3", b"300000000000", b"1e300", b"Infinity", b'"x"')],
)
def test_bad_header_is_refused_without_allocating_memory(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.rows"
    path.write_bytes(header + b"\n")
    assert refused(path, sha256(path))


def test_directory_and_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.rows"):
        with pytest.raises(FormatError, match=f"^{path} cannot be read") as caught:
            read_rows(path, "")
        assert caught.value.remedy.do == (), "what another process writes at this moment is not to be moved"
