"""The plan of a copy, and a copy compared with it: killed at any file, they go on and end the same."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from halfpipe.errors import FormatError, HalfPipeError, MissingInputError, StateError
from halfpipe.inventory import copying
from halfpipe.inventory.copying import plan, read_sum, sum_line, verify
from halfpipe.storage.reading import sha256
from tests.support.golden_cases import GOLDEN
from tests.support.series import rewrite
from tests.support.verbs import halfpipe


class Killed(BaseException):
    """The process ended here."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of the legacy with links and names of all sorts."""
    root = tmp_path / "tree"
    shutil.copytree(GOLDEN.with_name("takeover") / "split3_after2" / "legacy", root)
    for top in ("evt", "lock", "240601001 (old)", "240601003"):
        (root / top).mkdir()
    (root / "evt" / "0077014d-2c2e5787.evt").write_bytes(b"events")
    (root / "240601001 (old)" / "two\nlines \\ and\rmore").write_text("odd")
    (root / "240601001 (old)" / "link").symlink_to("../240601001")
    (root / "lock" / "halfpipe-240601001").touch()
    return root


def content(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.iterdir() if path.suffix != ".json"}


def killed_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the process end when the file of that number is to be read."""
    left = iter(range(number))
    whole = sha256

    def read(path: Path) -> str:
        if next(left, None) is None:
            raise Killed
        return whole(path)

    monkeypatch.setattr(copying, "sha256", read)


def test_a_plan_killed_at_each_file_ends_the_same(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = plan(tree, tmp_path / "whole")
    assert (whole.done, whole.unread, whole.links) == (True, 0, 1)
    assert whole.files > 20
    for every in (0, 1e9):  # noted after each file, or never
        home = tmp_path / f"killed-{every}"
        for _ in range(50):
            with monkeypatch.context() as patch:
                killed_at(patch, 3)
                try:
                    done = plan(tree, home, every=every)
                except Killed:
                    continue
                break
        else:
            done = plan(tree, home, every=every)
        assert done == whole
        assert content(home) == content(tmp_path / "whole")


def test_what_is_planned(tree: Path, tmp_path: Path) -> None:
    home = tmp_path / "plan"
    plan(tree, home)
    planned = {name for path in home.glob("*.files") for name in path.read_bytes().decode().split("\0")} - {
        ""
    }
    every = {
        str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    left = {name for name in every if "-0956-" in name or "-0957-" in name} | {"lock/halfpipe-240601001"}
    assert planned == every - left | {"240601003"}
    assert len(left) > 8
    assert (home / "evt.files").read_bytes() == b"evt/0077014d-2c2e5787.evt\0"


def test_sha256sum_reads_the_manifests(tree: Path, tmp_path: Path) -> None:
    plan(tree, tmp_path / "plan")
    for manifest in (tmp_path / "plan").glob("*.sha256"):
        subprocess.run(["sha256sum", "--quiet", "-c", manifest], cwd=tree, check=True)


@pytest.mark.parametrize("name", ["a", "a b", "two\nlines", "back\\slash", "\\n", "a\\\\n\rb"])
def test_a_line_of_a_manifest_is_read_as_it_was_written(name: str) -> None:
    assert read_sum(sum_line("0" * 64, name)) == ("0" * 64, name)


def copied(tree: Path, home: Path, copy: Path) -> Path:
    """Copy what is planned."""
    for path in home.glob("*.files"):
        for name in path.read_bytes().decode().split("\0")[:-1]:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            if name == "240601003":
                (copy / name).mkdir()
            else:
                shutil.copy2(tree / name, copy / name, follow_symlinks=False)
    return copy


def test_a_copy(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "plan"
    planned = plan(tree, home)
    copy = copied(tree, home, tmp_path / "copy")
    found = verify(home, copy)
    assert (found.good, found.bad, found.size) == (planned.files + planned.links, 0, planned.size)

    changed = copy / "240601001" / "741234567" / "r0741234567-spans.txt"
    changed.write_bytes(changed.read_bytes()[:-1] + b"!")
    (copy / "evt" / "0077014d-2c2e5787.evt").unlink()
    (copy / "240601001 (old)" / "link").unlink()
    (copy / "240601001 (old)" / "link").symlink_to("elsewhere")
    bad = {b"differs  240601001/741234567/r0741234567-spans.txt\n", b"missing  evt/0077014d-2c2e5787.evt\n"}
    bad |= {b"differs  240601001 (old)/link\n"}
    whole = verify(home, copy)
    assert (whole.missing, whole.differs, whole.good) == (1, 2, found.good - 3)
    named = copying.names_of_bad(home, copy)
    assert set(named.read_bytes().splitlines(keepends=True)) == bad

    for every in (0, 1e9):
        for _ in range(50):
            with monkeypatch.context() as patch:
                killed_at(patch, 3)
                try:
                    verify(home, copy, every=every)
                except Killed:
                    continue
                break
        assert verify(home, copy) == whole
        assert set(named.read_bytes().splitlines(keepends=True)) == bad


def test_what_cannot_be_read_is_named_and_the_others_go_on(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sha256

    def read(path: Path) -> str:
        if path.name == "RetDef-240601001-00001.xml":
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(copying, "sha256", read)
    found = plan(tree, tmp_path / "plan")
    assert (found.unread, found.done) == (1, True)
    said = (tmp_path / "plan" / copying.UNREAD).read_text()
    assert said == "240601001/RetDef-240601001-00001.xml: Permission denied\n"


def test_wrong_calls(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="where nothing is written"):
        plan(tree, tree / "plan")
    assert not (tree / "plan").exists()
    with pytest.raises(MissingInputError, match="no plan"):
        verify(tmp_path, tree)
    plan(tree, tmp_path / "plan")
    (tmp_path / "other").mkdir()
    with pytest.raises(StateError, match="has the plan of"):
        plan(tmp_path / "other", tmp_path / "plan")
    (manifest,) = (tmp_path / "plan").glob("evt.sha256")
    manifest.write_text("nonsense\n")
    with pytest.raises(FormatError, match=r"evt\.sha256: damaged"):
        verify(tmp_path / "plan", tree)
    note = tmp_path / "plan" / copying.STATE
    rewrite(note, done=False)
    with pytest.raises(StateError, match="not whole"):
        verify(tmp_path / "plan", tree)
    note.write_text("[]")
    with pytest.raises(HalfPipeError, match="no plan"):
        verify(tmp_path / "plan", tree)


def test_the_verb(tree: Path, tmp_path: Path) -> None:
    ended = halfpipe("inventory", tree)
    assert ended.exit_code == 0
    assert "3 downlinks, 2 run directories\n" in ended.stdout
    assert "transient directory: 240601001 (old)\n" in ended.stdout
    found = json.loads(halfpipe("inventory", tree, "--json").stdout)
    assert found["years"]["evt"]["evt, of Online"] == {"files": 1, "size": 6}
    home = tmp_path / "plan"
    ended = halfpipe("inventory", tree, "--plan", home)
    assert ended.exit_code == 0
    assert f"--files-from={{}} {tree}/ COPY/" in ended.stdout
    copy = copied(tree, home, tmp_path / "copy")
    assert halfpipe("inventory", copy, "--plan", home, "--verify").exit_code == 0
    (copy / "evt" / "0077014d-2c2e5787.evt").unlink()
    ended = halfpipe("inventory", copy, "--plan", home, "--verify")
    assert ended.exit_code == 1
    assert "1 missing, 0 differ" in ended.stdout
    assert halfpipe("inventory", copy, "--verify").exit_code == 2
    assert halfpipe("inventory", tmp_path / "nothing").exit_code == 2
