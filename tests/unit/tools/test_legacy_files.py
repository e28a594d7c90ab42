"""What each file of a legacy tree is, and what has to be kept."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from halfpipe.tools.legacy_files import FATES, KEPT, Kind, kind_of, take_inventory, write_lists, year_of
from tests.support.another_user import somebody_else
from tests.support.golden_cases import GOLDEN

TAKEOVER = GOLDEN.with_name("takeover")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("240601001/RetDef-240601001-00002.xml", Kind.RETDEF),
        ("240601001/0077014d-2c2e5787-0957-00004.evt", Kind.PRODUCT),
        ("090101001/0077014d-dbb9fe9-0957-00004.idx", Kind.PRODUCT),
        ("240601001/741234567/dgm-2c2e5787.idx", Kind.INDEX),
        ("090101001/230401001/evt-dbb9fe9.idx", Kind.INDEX),
        ("240601001/741234567/r0741234567-e00000000000000001002.idx", Kind.INDEX),
        ("240601001/741234567/r0741234567-spans.txt", Kind.RECORD),
        ("240601001/741234567/741234567010d-retired.txt", Kind.ODD),
        ("240601001/r0741234567_doMerge.txt", Kind.TEXT),
        ("240601001/moot_keys_240601001.txt", Kind.TEXT),
        ("240601001/createStream_2c2e5787", Kind.TEXT),
        ("240601001/haltL1", Kind.SWITCH),
        ("240601001/core.1234", Kind.ODD),
        ("240601001/old/RetDef-240601001-00002.xml", Kind.ODD),
        ("240601001/741234567/deep/file", Kind.ODD),
        ("240601001_test/RetDef-240601001-00002.xml", Kind.TRANSIENT),
        ("990000001x/741234567/r0741234567-spans.txt", Kind.TRANSIENT),
        ("evt/0077014d-2c2e5787.evt", Kind.ONLINE),
        ("stage/0077014d-2c2e5787-0957-00004.idx", Kind.WAITING),
        ("force/0077014d-2c2e5787", Kind.FORCE),
        ("lock/halfpipe-240601001", Kind.LOCK),
        ("orphan-events.idx", Kind.TOP),
        ("Downlinks/240601001/RetDef-240601001-00002.xml", Kind.RETDEF),
        ("Downlinks/evt/0077014d-2c2e5787.evt", Kind.ONLINE),
        ("FswDumps/2012/dump", Kind.OTHER),
        ("ISOC-nightly/Downlinks/240601001/x", Kind.OTHER),
    ],
)
def test_kind(name: str, kind: Kind) -> None:
    assert kind_of(tuple(name.split("/"))) is kind


def test_every_kind_has_a_fate_and_what_nobody_knows_comes_too() -> None:
    assert FATES.keys() == set(Kind)
    assert FATES[Kind.ONLINE] in KEPT, "must not be lost"
    assert {kind for kind, fate in FATES.items() if fate not in KEPT} == {
        Kind.PRODUCT,
        Kind.WAITING,
        Kind.LOCK,
        Kind.OTHER,
    }


def test_year() -> None:
    assert year_of(("090101001", "x")) == "2009"
    assert year_of(("Downlinks", "240601001", "x")) == "2024"
    assert year_of(("evt", "x")) == "evt"
    assert year_of(("evt",)) == "other"


def test_an_inventory(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    home = tree / "240601001" / "741234567"
    home.mkdir(parents=True)
    (home / "r0741234567-spans.txt").write_bytes(b"12345")
    (home / "dgm-2c2e5787.idx").write_bytes(b"1")
    (home.parent / "0077014d-2c2e5787-0957-00004.evt").write_bytes(b"1" * 100)
    for name in ("RetDef-240601001-00001.xml", "RetDef-240601001-00002.xml"):
        (home.parent / name).write_bytes(b"123")
    for top in ("evt", "stage", "240601001.old", "240601002/741234567"):
        (tree / top).mkdir(parents=True)
    (tree / "evt" / "0077014d-2c2e5787.evt").write_bytes(b"12")
    (tree / "240601001.old" / "a\tb\nc\\").write_bytes(b"1")
    (tree / "stage" / "inside").symlink_to(home / "dgm-2c2e5787.idx")
    (tree / "stage" / "nowhere").symlink_to("gone")
    (tree / "force").symlink_to(home)
    os.mkfifo(tree / "evt" / "pipe")
    found = take_inventory(tree)
    assert found.unread == ()
    counted = {kind: (row.files, row.bytes) for kind, row in found.by("kind").iterrows()}
    assert counted[Kind.RETDEF] == (2, 6)
    assert counted[Kind.PRODUCT] == (1, 100)
    assert counted[Kind.RECORD] == (1, 5)
    assert counted[Kind.TRANSIENT] == (1, 1)
    assert counted[Kind.ONLINE] == (2, 2)
    assert found.by("kind", "year").loc[(Kind.RETDEF, "2024")].bytes == 6
    assert found.by("owner").files.tolist() == [12]
    assert found.odd == {
        Kind.TRANSIENT: ["240601001.old/a\tb\nc\\"],
        Kind.ODD: ["240601002/741234567"],
        Kind.TOP: ["force"],
        "empty directory": ["240601002/741234567"],
        "link that leads nowhere": ["stage/nowhere"],
        "neither file nor link": ["evt/pipe"],
    }
    lists = tmp_path / "lists"
    assert write_lists(found, lists) == 9
    listed = {path.name: set(path.read_bytes().split(b"\0")[:-1]) for path in lists.iterdir()}
    assert listed.keys() == {"2024.files", "evt.files", "other.files", "rest"}
    assert listed["other.files"] == {b"240601001.old/a\tb\nc\\"}
    assert listed["rest"] == {b"force", b"evt/pipe", b"240601002/741234567"}


def test_a_directory_that_cannot_be_read_is_told() -> None:
    with tempfile.TemporaryDirectory() as place:  # where other users may go
        tree = Path(place)
        tree.chmod(0o755)
        (tree / "240601001").mkdir(mode=0)
        with somebody_else():
            found = take_inventory(tree)
    assert ["240601001" in line for line in found.unread] == [True]


def test_a_copy_by_the_lists_is_whole_and_one_that_is_not_is_told(tmp_path: Path) -> None:
    tree = TAKEOVER / "split3_died" / "legacy"
    lists, copy, sums = tmp_path / "lists", tmp_path / "copy", tmp_path / "sums"
    assert write_lists(take_inventory(tree), lists) > 20
    names = (lists / "2024.files").read_bytes().split(b"\0")[:-1]
    with sums.open("wb") as out:
        subprocess.run(
            ["xargs", "-0", "sha256sum"], input=b"\0".join(names), stdout=out, cwd=tree, check=True
        )
    for name in map(os.fsdecode, names):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tree / name, copy / name)
    check = ["sha256sum", "--check", "--quiet", str(sums)]
    assert subprocess.run(check, cwd=copy, check=False).returncode == 0
    (copy / os.fsdecode(names[0])).write_bytes(b"")
    assert subprocess.run(check, cwd=copy, check=False).returncode == 1
