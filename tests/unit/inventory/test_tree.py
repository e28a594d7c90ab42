"""What each file of a legacy tree is, and what has to be kept."""

import os
from pathlib import Path

import pytest

from halfpipe.inventory.tree import FATES, KEPT, Entry, Fate, Kind, kind_of, take_inventory, walk, year_of
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


def names(root: Path, after: str = "") -> list[str]:
    found = list(walk(root, tuple(after.split("/")) if after else ()))
    return [entry.name for entry in found if isinstance(entry, Entry)]


def test_a_walk_goes_on_behind_any_file() -> None:
    every = names(TAKEOVER / "split3_died" / "legacy")
    assert len(every) > 30
    assert every == sorted(every, key=lambda name: name.split("/"))
    for number, name in enumerate(every):
        assert names(TAKEOVER / "split3_died" / "legacy", name) == every[number + 1 :]


def test_empty_directories_are_seen(tmp_path: Path) -> None:
    for name in ("240601001/741234567", "240601002", "evt", "old"):
        (tmp_path / name).mkdir(parents=True)
    found = take_inventory(tmp_path)
    assert (found.downlinks, found.runs) == (2, 1)
    assert found.odd["empty directory"] == ["240601001/741234567", "240601002", "evt", "old"]
    assert names(tmp_path, "240601002") == ["evt", "old"]


def test_an_inventory(tmp_path: Path) -> None:
    home = tmp_path / "240601001" / "741234567"
    home.mkdir(parents=True)
    (home / "r0741234567-spans.txt").write_bytes(b"12345")
    (home / "dgm-2c2e5787.idx").write_bytes(b"1")
    (home.parent / "0077014d-2c2e5787-0957-00004.evt").write_bytes(b"1" * 100)
    for name in ("RetDef-240601001-00001.xml", "RetDef-240601001-00002.xml"):
        (home.parent / name).write_bytes(b"123")
    for top in ("evt", "stage", "240601001.old"):
        (tmp_path / top).mkdir()
    (tmp_path / "evt" / "0077014d-2c2e5787.evt").write_bytes(b"12")
    (tmp_path / "240601001.old" / "a").write_bytes(b"1")
    (tmp_path / "240601001.old" / "b").write_bytes(b"1")
    (tmp_path / "stage" / "inside").symlink_to(home / "dgm-2c2e5787.idx")
    (tmp_path / "stage" / "nowhere").symlink_to("gone")
    (tmp_path / "stage" / "outside").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "evt" / "pipe")
    found = take_inventory(tmp_path)
    assert (found.downlinks, found.runs, found.unread) == (1, 1, [])
    counted = {kind: (one.files, one.size) for kind, one in found.kinds.items()}
    assert counted[Kind.RETDEF] == (2, 6)
    assert counted[Kind.PRODUCT] == (1, 100)
    assert counted[Kind.RECORD] == (1, 5)
    assert counted[Kind.TRANSIENT] == (2, 2)
    assert counted[Kind.ONLINE] == (2, 2)
    assert found.links == {"inside": 1, "nowhere": 1, "outside": 1}
    assert found.odd[Kind.TRANSIENT] == ["240601001.old"]
    assert found.odd["link, outside"] == ["stage/outside -> /etc/passwd"]
    assert found.odd["neither file nor link"] == ["evt/pipe"]
    assert found.years["2024"][Kind.RETDEF].size == 6
    assert {uid: one.files for uid, one in found.owners.items()} == {os.getuid(): 12}
    assert FATES[Kind.PRODUCT] is Fate.AGAIN
