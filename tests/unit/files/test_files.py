"""Complete files: a writer that fails, and a disk that is full."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from halfpipe.errors import HalfPipeError, StateError
from halfpipe.files import durable
from halfpipe.files.advice import advice
from halfpipe.files.durable import MOST_AT_ONCE, flushed_together, replacing, write_bytes, write_whole
from halfpipe.files.reading import is_made
from halfpipe.files.system_calls import reserve
from halfpipe.process.failure_record import Failure


def listing(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir())


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file"
    write_bytes(path, b"old")
    with replacing(path) as out:
        out.write(b"new ")
        out.flush()
        assert path.read_bytes() == b"old"
        out.write(b"content")
    assert path.read_bytes() == b"new content"
    assert listing(path.parent) == ["file"]


def test_two_writers_without_a_lock_both_end_well(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path, locked=False) as one:
        one.write(b"the same")
        with replacing(path, locked=False) as other:
            other.write(b"the same")
        assert path.read_bytes() == b"the same"
    assert path.read_bytes() == b"the same"
    assert listing(tmp_path) == ["file"]


def test_files_of_one_block_are_flushed_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushes: list[object] = []
    monkeypatch.setattr(os, "fsync", flushes.append)
    monkeypatch.setattr(os, "sync", lambda: flushes.append("all"))
    with flushed_together():
        write_bytes(tmp_path / "file", b"content")
        assert not flushes
    assert flushes == ["all"]


@pytest.mark.parametrize(
    ("do", "flushed"),
    [
        (lambda home: durable.write_bytes(home / "new", b""), ["part", "home"]),
        (lambda home: durable.write_bytes(home / "new", b"", lasting=False), []),
        (lambda home: durable.publish(home / "a" / "new", b""), ["part", "a", "home"]),
        (lambda home: durable.publish(home / "new", b"", lasting=False), []),
        (lambda home: durable.make_directory(home, "a/b"), ["a", "home"]),
        (lambda home: durable.remove_file(home / "old"), ["home"]),
        (lambda home: durable.fsync_file(home / "old"), ["old"]),
    ],
)
def test_what_lasts_is_flushed_with_its_directories(
    do: Callable[[Path], object], flushed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home := tmp_path / "home").mkdir()
    (home / "old").touch()
    places = list[Path]()
    monkeypatch.setattr(os, "fsync", lambda handle: places.append(Path(f"/proc/self/fd/{handle}").readlink()))
    do(home)
    assert [place.name.rpartition(".")[2] for place in places] == flushed


@pytest.mark.parametrize("error", [KeyboardInterrupt, StateError])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failure_changes_nothing(error: type[BaseException], old: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if old is not None:
        write_bytes(path, old)

    def fail() -> None:
        with replacing(path) as out:
            out.write(b"half")
            out.flush()
            raise error

    with pytest.raises(error):
        fail()
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [old] * (old is not None)


@pytest.mark.parametrize("below", ["", "b"])
def test_a_path_in_the_way_is_named(below: str, tmp_path: Path) -> None:
    path = tmp_path / "a" / below
    (tmp_path / "a").touch() if below else path.mkdir()
    with pytest.raises(HalfPipeError) as raised:
        write_bytes(path, b"content")
    assert raised.value.code == "file-system"
    assert str(path) in str(raised.value)
    assert not list(tmp_path.glob(".*.part"))


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB; skipped if mounting is not allowed."""
    home = tmp_path / "tiny"
    home.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "halfpipe-test", str(home)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"there is no mount: {error}")
    if done.returncode:
        pytest.skip(f"mounting is refused: {done.stderr.strip()}")
    yield home
    subprocess.run(["umount", str(home)], check=True)


def test_a_full_disk_leaves_nothing_and_is_reported(tiny: Path) -> None:
    write_bytes(tiny / "file", b"old")
    with pytest.raises(HalfPipeError) as raised:
        write_bytes(tiny / "file", bytes(1 << 20))
    assert Failure.of(raised.value).code == "disk-full"
    assert str(tiny / "file") in str(raised.value)
    assert listing(tiny) == ["file"]
    assert (tiny / "file").read_bytes() == b"old"


def test_room_for_a_file_is_reserved_before_anything_is_written(tiny: Path, tmp_path: Path) -> None:
    def kept(path: Path, size: int) -> None:
        with replacing(path, buffering=0) as out:
            reserve(out, size)
            assert out.tell() == 0
            write_whole(out, b"x" * min(size, 3))

    with pytest.raises(HalfPipeError):
        kept(tiny / "large", 1 << 40)
    assert listing(tiny) == []
    kept(tmp_path / "fits", 3)
    kept(tmp_path / "empty", 0)
    assert [(tmp_path / name).read_bytes() for name in ("empty", "fits")] == [b"", b"xxx"]


def test_large_pieces_are_written_whole(tmp_path: Path) -> None:
    content = os.urandom(2 * MOST_AT_ONCE + 77)
    with (tmp_path / "file").open("wb", buffering=0) as out:
        write_whole(out, content)
    assert (tmp_path / "file").read_bytes() == content


def test_a_path_that_vanishes_is_left_out_of_the_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path := tmp_path / "file").touch()
    lstat = Path.lstat

    def vanished(place: Path) -> os.stat_result:
        return lstat(place / "gone" if place == path else place)

    monkeypatch.setattr(Path, "lstat", vanished)
    assert advice(PermissionError(errno.EACCES, "", str(path))).startswith(f"{tmp_path} belongs to ")


def test_a_file_of_the_same_time_counts_as_made(tmp_path: Path) -> None:
    """The clock of a file system has steps."""
    (file := tmp_path / "file").touch()
    os.utime(file, (100.0, 100.0))
    assert [is_made(str(file), since) for since in (99.0, 100.0, 101.0)] == [True, True, False]
