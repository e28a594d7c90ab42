"""What is known of RetDefs from earlier commands: it spares reading, and is never believed when in doubt."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import halfpipe
from halfpipe import paths
from halfpipe.downlink import known_retdefs
from halfpipe.downlink.known_retdefs import YOUNG_SECONDS, RetDefs
from halfpipe.errors import FormatError, MissingInputError
from halfpipe.formats.retdef import read_content
from halfpipe.ids import DownlinkId
from tests.support.settings import plan_of

DL = DownlinkId("240601001")
RUN_A, RUN_B = "2c2e5787", "2c2e6cc0"


def content(run: str, chunk: int = 1, kind: str = "LSEP") -> str:
    met = int(run, 16)
    return (
        f'<retdef type="{kind}"><arch scid="77">/archive</arch>'
        f'<run runid="{met}" l0key="-1" chunkid="{chunk}" gndid="-1" start="{met}"/>'
        f'<spans><span apid="956" tbeg="1719541771.5" tend="1719541787.0"/></spans></retdef>\n'
    )


@pytest.fixture
def retdef(tmp_path: Path) -> Path:
    """A RetDef on a search path."""
    path = tmp_path / "search" / paths.retdef(DL, "00001")
    path.parent.mkdir(parents=True)
    path.write_text(content(RUN_A))
    return path


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The RetDefs that were read, in order: what is known is read no more."""
    done: list[Path] = []

    def read(path: Path) -> bytes:
        done.append(path)
        return read_content(path)

    monkeypatch.setattr(known_retdefs, "read_content", read)
    return done


def later() -> float:
    """Return a time at which what was written just now is old enough to be remembered."""
    return time.time() + YOUNG_SECONDS + 60


def remember(work: Path, retdef: Path) -> Path:
    """Let a command ask for a RetDef and remember it; return the file that it keeps."""
    known = RetDefs(work, DL)
    known.run(retdef)
    known.remember(later())
    return work / paths.known_retdefs(DL)


def test_what_is_remembered_is_not_read_again(work: Path, retdef: Path, reads: list[Path]) -> None:
    remember(work, retdef)
    assert reads == [retdef]
    again = RetDefs(work, DL)
    assert again.run(retdef) == RUN_A
    assert again.sha256(retdef) == RetDefs(work / "elsewhere", DL).sha256(retdef)
    assert reads == [retdef] * 2  # the second by the one that knows nothing


def test_one_whose_content_alone_was_asked_for_is_read_for_its_run(
    work: Path, retdef: Path, reads: list[Path]
) -> None:
    known = RetDefs(work, DL)
    known.sha256(retdef)
    known.remember(later())
    assert RetDefs(work, DL).run(retdef) == RUN_A
    assert reads == [retdef] * 2


def test_only_what_is_asked_for_stays(work: Path, retdef: Path) -> None:
    file = remember(work, retdef)
    RetDefs(work, DL).remember(later())
    assert str(retdef) not in file.read_text()


def test_what_is_remembered_already_is_not_written_again(work: Path, retdef: Path) -> None:
    file = remember(work, retdef)
    before = file.stat()
    assert (remember(work, retdef).stat().st_ino, file.stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )


def replaced(path: Path) -> None:
    path.unlink()
    path.write_text(content(RUN_B))


def written_over_with_the_old_time(path: Path) -> None:
    stat = path.stat()
    path.write_text(content(RUN_B))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def renamed_over_with_the_old_time(path: Path) -> None:
    stat = path.stat()
    other = path.with_name("other")
    other.write_text(content(RUN_B))
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.rename(path)


@pytest.mark.parametrize("change", [replaced, written_over_with_the_old_time, renamed_over_with_the_old_time])
def test_another_content_is_read_though_size_and_time_are_the_same(
    change: Callable[[Path], None], work: Path, retdef: Path
) -> None:
    remember(work, retdef)
    size = retdef.stat().st_size
    time.sleep(0.02)  # more than a tick of the file system's clock
    change(retdef)
    assert retdef.stat().st_size == size
    assert RetDefs(work, DL).run(retdef) == RUN_B


def test_what_is_young_is_not_remembered(work: Path, retdef: Path) -> None:
    for when in (time.time(), time.time() + YOUNG_SECONDS - 5):
        known = RetDefs(work, DL)
        known.run(retdef)
        known.remember(when)
        assert not (work / paths.known_retdefs(DL)).exists()
    # Neither is one that claims to be old but was changed just now, or one from the future.
    os.utime(retdef, (0, 0))
    known = RetDefs(work, DL)
    known.run(retdef)
    known.remember(time.time())
    assert not (work / paths.known_retdefs(DL)).exists()
    os.utime(retdef, (later(), later()))
    known = RetDefs(work, DL)
    known.run(retdef)
    known.remember(later())
    assert not (work / paths.known_retdefs(DL)).exists()


def test_one_that_changes_while_it_is_read_is_not_remembered(
    work: Path, retdef: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path) -> bytes:
        old = read_content(path)
        path.write_text(content(RUN_B) + "\n")
        return old

    with monkeypatch.context() as patch:
        patch.setattr(known_retdefs, "read_content", read)
        remember(work, retdef)
    assert RetDefs(work, DL).run(retdef) == RUN_B


def test_one_that_changed_while_it_was_read_is_read_again_or_is_missing(
    work: Path, retdef: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path) -> bytes:
        old = read_content(path)
        path.write_text(content(RUN_B))
        return old

    known = RetDefs(work, DL)
    with monkeypatch.context() as patch:
        patch.setattr(known_retdefs, "read_content", read)
        assert known.run(retdef) == RUN_A
    retdef.rename(retdef.with_suffix(".away"))
    with pytest.raises(MissingInputError, match=str(retdef)):
        known.run(retdef)
    retdef.with_suffix(".away").rename(retdef)
    assert known.run(retdef) == RUN_B


def test_a_bad_one_is_read_each_time_and_says_why(work: Path, retdef: Path) -> None:
    retdef.write_text("<retdef>")
    for _ in range(2):
        known = RetDefs(work, DL)
        with pytest.raises(FormatError, match=rf"{retdef}: not XML"):
            known.run(retdef)
        known.sha256(retdef)  # its content can be compared all the same
        known.remember(later())
    retdef.unlink()
    with pytest.raises(MissingInputError, match=str(retdef)):
        RetDefs(work, DL).run(retdef)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def emptied(_: bytes) -> bytes:
    return b""


def zeroed(content: bytes) -> bytes:
    return bytes(len(content))


def other_run(content: bytes) -> bytes:
    return content.replace(RUN_A.encode(), RUN_B.encode())


def unsealed(content: bytes) -> bytes:
    return content.split(b"\n", 1)[1]


def not_what_it_should_be(_: bytes) -> bytes:
    return known_retdefs._seal(b"[1, 2]") + b"\n[1, 2]"


def other_types(content: bytes) -> bytes:
    body = json.dumps({name: [1, 2, 3] for name in json.loads(content.split(b"\n", 1)[1])}).encode()
    return known_retdefs._seal(body) + b"\n" + body


def no_run_id(content: bytes) -> bytes:
    body = content.split(b"\n", 1)[1].replace(RUN_A.encode(), b"../../..")
    return known_retdefs._seal(body) + b"\n" + body


def nested(_: bytes) -> bytes:
    body = b"[" * 100_000
    return known_retdefs._seal(body) + b"\n" + body


def huge(content: bytes) -> bytes:
    return content + b" " * known_retdefs.MAX_SIZE


DAMAGES = [
    cut, emptied, zeroed, other_run, unsealed, not_what_it_should_be, other_types, no_run_id, nested, huge
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_not_believed_and_is_mended(
    damage: Callable[[bytes], bytes], work: Path, retdef: Path, reads: list[Path]
) -> None:
    file = remember(work, retdef)
    good = file.read_bytes()
    file.write_bytes(damage(good))
    assert RetDefs(work, DL).run(retdef) == RUN_A
    assert len(reads) == 2
    remember(work, retdef)
    assert file.read_bytes() == good


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_what_is_no_file_in_its_place_stops_nobody(
    make: Callable[[Path], None], work: Path, retdef: Path
) -> None:
    file = remember(work, retdef)
    file.unlink()
    make(file)
    assert RetDefs(work, DL).run(retdef) == RUN_A
    remember(work, retdef)
    assert [path.name for path in file.parent.iterdir()] == [DL]


def test_where_nothing_can_be_written_nothing_fails(tmp_path: Path, retdef: Path) -> None:
    work = tmp_path / "a-file"
    work.write_text("")
    remember(work, retdef)
    assert work.read_text() == ""


def test_another_version_believes_nothing(
    work: Path, retdef: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(work, retdef)
    monkeypatch.setattr(halfpipe, "__version__", "0.0.0")
    RetDefs(work, DL).run(retdef)
    assert len(reads) == 2


def test_a_plan_is_the_same_with_and_without_it(work: Path, tmp_path: Path, reads: list[Path]) -> None:
    search = tmp_path / "search"
    for home, suffix in ((work, ""), (search, ""), (search, "again")):
        for chunk, run in ((1, RUN_A), (2, RUN_B), (3, RUN_A)):
            path = home / paths.retdef(DL, f"{chunk:05d}")
            path.parent.mkdir(parents=True, exist_ok=True)
            if suffix != "again" or chunk == 2:
                path.write_text(content(run, chunk) + suffix)

    def planned() -> tuple[object, ...]:
        plan = plan_of(work, search)
        of = plan.of(DL)
        found = (of.runs, of.runs_of, of.complaints(), plan.reissued(DL))
        of.known.remember(later())
        return found

    first = planned()
    assert len(reads) == 6
    assert planned() == first
    assert len(reads) == 6
    assert len(first) == 4
    assert "chunk 00002" in str(first[3])
    (work / paths.known_retdefs(DL)).unlink()
    assert planned() == first
