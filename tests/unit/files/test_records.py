"""Numbered records: the union of two copies, repair, and exclusive publication."""

import errno
import hashlib
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from halfpipe.errors import HalfPipeError, StateError
from halfpipe.files import records
from halfpipe.files.durable import publish
from halfpipe.files.records import DamagedError, Series, TakenError, sealed

PLACE = "runs/29d7d35d/deliveries"


def series(work: Path) -> Series:
    return Series(work, PLACE)


def published(work: Path, count: int) -> Series:
    one = series(work)
    one.read()
    for number in range(1, count + 1):
        one.publish({"value": number})
    return one


def values(work: Path) -> list[int]:
    return [record.values["value"] for record in series(work).read()]


def files(work: Path) -> list[Path]:
    return sorted(work.glob("**/[0-9]*.json"))


DEEP = b'"a": ' + b"[" * 1_000_000 + b"\n"


@pytest.mark.parametrize("harm", ["removed", "emptied", "cut", "changed", "a directory", "deep", "huge"])
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("home", [PLACE, f"copies/{PLACE}"])
def test_a_lost_or_damaged_copy_is_repaired(tmp_path: Path, home: str, number: int, harm: str) -> None:
    published(tmp_path, 3)
    path = tmp_path / home / f"{number:06d}.json"
    content = path.read_bytes()
    if harm == "removed":
        path.unlink()
    elif harm == "a directory":
        path.unlink()
        path.mkdir()
    elif harm == "huge":
        os.truncate(path, 1 << 40)  # a hole: no disk
    else:
        cut = {"emptied": b"", "cut": content[:-9], "changed": content.replace(b'"value": ', b'"value": 1')}
        cut["deep"] = b'{\n "sha256": "%s",\n' % hashlib.sha256(b"{\n" + DEEP).hexdigest().encode() + DEEP
        path.write_bytes(cut[harm])
    looked = series(tmp_path)
    assert [copy for copy, _ in looked.verify()] == [path]
    assert [record.values["value"] for record in looked.records] == [1, 2, 3]
    assert path.read_bytes() == content
    assert list(series(tmp_path).verify()) == []


def test_a_copy_that_cannot_be_repaired_is_reported_and_stops_nothing(tmp_path: Path) -> None:
    published(tmp_path, 3)
    home = tmp_path / "copies" / PLACE
    shutil.rmtree(home)
    home.touch()  # nothing can be written there
    assert values(tmp_path) == [1, 2, 3]
    said = list(series(tmp_path).verify())
    assert len(said) == 3
    assert all(copy.parent == home and "cannot be repaired" in what for copy, what in said)


@pytest.mark.parametrize("number", [1, 2])
def test_a_record_without_copies_is_an_error_with_both_names(tmp_path: Path, number: int) -> None:
    published(tmp_path, 3)
    gone = [path for path in files(tmp_path) if path.name == f"{number:06d}.json"]
    for path in gone:
        path.unlink()
    with pytest.raises(DamagedError) as error:
        series(tmp_path).read()
    assert all(str(path) in str(error.value) for path in gone)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_broken_file_server_is_named(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    published(tmp_path, 1)

    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fails)
    with pytest.raises(StateError, match=f"{os.strerror(number)}. The (disk|file server) "):
        values(tmp_path)
    monkeypatch.setattr(os, "listdir", fails)
    with pytest.raises(StateError, match=os.strerror(number)):
        values(tmp_path)


def test_different_copies_are_an_error(tmp_path: Path) -> None:
    one = published(tmp_path, 2)
    assert one.records[0].previous is None
    (tmp_path / "copies" / PLACE / "000001.json").write_bytes(sealed({"value": 9}, None))
    with pytest.raises(DamagedError):
        list(series(tmp_path).verify())


@pytest.mark.parametrize("number", [1, 2])
def test_a_record_of_another_series_does_not_follow(tmp_path: Path, number: int) -> None:
    published(tmp_path, number)
    foreign = sealed({"value": 9}, "0" * 64)
    for home in (PLACE, f"copies/{PLACE}"):
        (tmp_path / home / f"{number:06d}.json").write_bytes(foreign)
    with pytest.raises(DamagedError):
        series(tmp_path).read()


@pytest.mark.parametrize("later", [0, 1])
def test_a_late_record_in_place_of_a_lost_first_copy_does_not_count(
    later: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suspended process publishes its first copy, although another record has this number."""
    published(tmp_path, 1)
    slow = series(tmp_path)
    fast = series(tmp_path)
    slow.read(), fast.read()
    fast.publish({"value": 2})
    for number in range(later):
        fast.publish({"value": 3 + number})
    (tmp_path / PLACE / "000002.json").unlink()
    read = []

    def late(path: Path, content: bytes) -> bool:
        if path.is_relative_to(tmp_path / "copies"):
            monkeypatch.setattr(records, "publish", publish)
            read.append(values(tmp_path))
        return publish(path, content)

    monkeypatch.setattr(records, "publish", late)
    with pytest.raises(TakenError):
        slow.publish({"value": 9})
    assert read == [[1, 2, 3][: 2 + later]]
    assert values(tmp_path) == read[0]


def test_only_look_reads_one_copy_of_the_last_record_unless_it_is_damaged(tmp_path: Path) -> None:
    before = published(tmp_path, 2).records[0]
    path = tmp_path / PLACE / "000002.json"
    for first, seen in ((sealed({"value": 9}, before.seal), 9), (b"", 2)):
        path.write_bytes(first)
        looked = Series(tmp_path, PLACE, only_look=True)
        assert [record.values["value"] for record in looked.read()] == [1, seen]
        assert values(tmp_path) == [1, 2], "a decision reads both, and repairs the first"
        assert [record.values["value"] for record in looked.read()] == [1, 2]


@pytest.mark.parametrize("lost", [(), (3,), (2, 3), (1, 2, 3), (1,)])
def test_only_look_finds_records_whose_first_copies_are_lost(tmp_path: Path, lost: tuple[int, ...]) -> None:
    published(tmp_path, 3)
    for number in lost:
        (tmp_path / PLACE / f"{number:06d}.json").unlink()
    looked = Series(tmp_path, PLACE, only_look=True).read()
    assert [record.values["value"] for record in looked] == [1, 2, 3]


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text("{")], ids=["lost", "damaged"])
def test_only_look_needs_a_copy_of_each(tmp_path: Path, number: int, harm: Callable[[Path], object]) -> None:
    published(tmp_path, 3)
    for home in (PLACE, f"copies/{PLACE}"):
        harm(tmp_path / home / f"{number:06d}.json")
    with pytest.raises(DamagedError, match=f"record {number} "):
        Series(tmp_path, PLACE, only_look=True).read()


def test_a_link_with_a_lost_reply_is_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    published(tmp_path, 2)
    assert values(tmp_path) == [1, 2]


def test_a_record_that_does_not_fit_on_the_disk_does_not_exist(tmp_path: Path) -> None:
    one = published(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(HalfPipeError):
            one.publish({"value": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert values(tmp_path) == [1]


def test_a_first_copy_in_place_of_a_lost_one_is_put_right_at_once(tmp_path: Path) -> None:
    slow = published(tmp_path, 1)
    fast = series(tmp_path)
    fast.read()
    fast.publish({"value": 2})
    first, second = (tmp_path / home / "000002.json" for home in (PLACE, f"copies/{PLACE}"))
    first.unlink()
    with pytest.raises(TakenError):
        slow.publish({"value": 9})
    assert first.read_bytes() == second.read_bytes()
    assert values(tmp_path) == [1, 2]
