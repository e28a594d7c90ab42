"""What is kept of a chunk's index between decoding and merging: the same rows, or nothing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfpipe.formats import kept_index
from halfpipe.formats.idx import EVENT, Rows

FILES = {"x.idx": "ab" * 32, "a.evt": "cd" * 32}


def rows(count: int, files: tuple[str, ...] = ("a.evt",)) -> Rows:
    rng = np.random.default_rng(count)
    events = rng.integers(0, 256, count * EVENT.itemsize, np.uint8).view(EVENT)
    events["file"] = 0
    return Rows((b"DGM: one", b"DGM: two")[: count % 3], events, files if count else ())


def same(one: Rows, other: Rows | None) -> bool:
    return other is not None and (
        (one.lines, one.files, one.events.dtype, one.events.tobytes())
        == (other.lines, other.files, other.events.dtype, other.events.tobytes())
    )


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_what_was_kept_comes_back(count: int, tmp_path: Path) -> None:
    path = tmp_path / "new" / "directory" / "x.rows"
    kept_index.keep(rows(count), path, "x.idx", FILES | {"b.evt": "66"})
    assert same(rows(count), kept_index.kept(path, FILES | {"b.evt": "77"}))
    assert [found.name for found in path.parent.iterdir()] == ["x.rows"]


def test_of_other_files_there_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.rows"
    assert kept_index.kept(path, FILES) is None
    kept_index.keep(rows(4), path, "x.idx", FILES)
    assert kept_index.kept(path, FILES | {"x.idx": "ba" * 32}) is None
    assert kept_index.kept(path, FILES | {"a.evt": "44"}) is None
    assert kept_index.kept(path, {"x.idx": "ab" * 32}) is None
    assert kept_index.kept(tmp_path, FILES) is None, "a directory"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(data=st.data())
def test_what_is_damaged_is_the_same_or_nothing(data: st.DataObject, tmp_path: Path) -> None:
    path, kept = tmp_path / "x.rows", rows(5)
    kept_index.keep(kept, path, "x.idx", FILES)
    content = bytearray(path.read_bytes())
    match data.draw(st.sampled_from(["cut", "longer", "changed", "other"])):
        case "cut":
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        case "longer":
            content += data.draw(st.binary(min_size=1, max_size=2 * EVENT.itemsize))
        case "changed":
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        case "other":
            content = bytearray(data.draw(st.binary(max_size=300)))
    path.write_bytes(content)
    found = kept_index.kept(path, FILES)
    assert found is None or same(kept, found)


@pytest.mark.parametrize(
    "header",
    [b"[]", b"null", b"[{}, 0, 1]", b"[" * 60000, b" " * (kept_index.MOST_HEADER + 1)]
    + [b"[{}, 0, %s]" % count for count in (b"-3", b"300000000000", b"1e300", b"Infinity", b'"x"')],
)
def test_another_header_is_nothing_and_takes_no_memory(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.rows"
    path.write_bytes(b"\0\0\0\0" + header + b"\n")
    assert kept_index.kept(path, FILES) is None


def test_where_nothing_can_be_kept_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    kept_index.keep(rows(3), tmp_path / "file" / "x.rows", "x.idx", FILES)
    (tmp_path / "x.rows").mkdir()
    kept_index.keep(rows(3), tmp_path / "x.rows", "x.idx", FILES)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["file", "x.rows"], "no half of it either"
