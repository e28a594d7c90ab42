"""What each file of a legacy tree is, and what has to be copied."""

import os
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from halfpipe.legacy.legacy_files import AGAIN, COPY, LEFT, UNKNOWN, classify, take_inventory, write_lists
from tests.support.another_user import somebody_else
from tests.support.verbs import halfpipe


@pytest.mark.parametrize(
    ("name", "kind", "becomes", "year"),
    [
        ("240601001/RetDef-240601001-00002.xml", "RetDef", COPY, "2024"),
        ("240601001/0077014d-2c2e5787-0957-00004.evt", "chunk product", AGAIN, "2024"),
        ("090101001/0077014d-dbb9fe9-0957-00004.idx", "chunk product", AGAIN, "2009"),
        ("240601001/741234567/dgm-2c2e5787.idx", "run index", COPY, "2024"),
        ("090101001/230401001/evt-dbb9fe9.idx", "run index", COPY, "2009"),
        ("240601001/741234567/r0741234567-e00000000000000001002.idx", "run index", COPY, "2024"),
        ("240601001/741234567/r0741234567-spans.txt", "run record", COPY, "2024"),
        ("240601001/741234567/741234567010d-retired.txt", "odd file in a downlink", UNKNOWN, "2024"),
        ("240601001/r0741234567_doMerge.txt", "text", COPY, "2024"),
        ("240601001/moot_keys_240601001.txt", "text", COPY, "2024"),
        ("240601001/createStream_2c2e5787", "text", COPY, "2024"),
        ("240601001/haltL1", "switch", COPY, "2024"),
        ("240601001/core.1234", "odd file in a downlink", UNKNOWN, "2024"),
        ("240601001/old/RetDef-240601001-00002.xml", "odd file in a downlink", UNKNOWN, "2024"),
        ("240601001/741234567/deep/file", "odd file in a downlink", UNKNOWN, "2024"),
        ("240601001_test/RetDef-240601001-00002.xml", "transient directory", UNKNOWN, "other"),
        ("990000001x/741234567/r0741234567-spans.txt", "transient directory", UNKNOWN, "other"),
        ("evt/0077014d-2c2e5787.evt", "evt, of Online", UNKNOWN, "evt"),
        ("stage/0077014d-2c2e5787-0957-00004.idx", "stage, of Online", AGAIN, "stage"),
        ("force/0077014d-2c2e5787", "abandoned", COPY, "force"),
        ("lock/halfpipe-240601001", "lock", LEFT, "lock"),
        ("evt", "odd file at the top", UNKNOWN, "other"),
        ("Downlinks/240601001/RetDef-240601001-00002.xml", "RetDef", COPY, "2024"),
        ("Downlinks/evt/0077014d-2c2e5787.evt", "evt, of Online", UNKNOWN, "evt"),
        ("FswDumps/2012/dump", "another tree", LEFT, "other"),
        ("ISOC-nightly/Downlinks/240601001/x", "another tree", LEFT, "other"),
    ],
)
def test_what_a_file_is(name: str, kind: str, becomes: str, year: str) -> None:
    ((*_, found, fate, of),) = classify(pd.DataFrame({"path": [name]})).itertuples(index=False)
    assert (found, fate, of) == (kind, becomes, year)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with files, links and names of many kinds, 12 in all."""
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
    return tree


def test_an_inventory(tree: Path, tmp_path: Path) -> None:
    files, unread = take_inventory(tree)
    assert (len(files), unread) == (12, [])
    sizes = files.groupby("kind")["size"].agg(["size", "sum"])
    counted = {kind: tuple(sizes.loc[kind]) for kind in ("RetDef", "chunk product", "run record")}
    assert counted == {"RetDef": (2, 6), "chunk product": (1, 100), "run record": (1, 5)}
    lists = tmp_path / "lists"
    assert write_lists(files, lists) == 9
    listed = {path.name: set(path.read_bytes().split(b"\0")[:-1]) for path in lists.iterdir()}
    assert listed.keys() == {"2024.files", "evt.files", "other.files", "rest"}
    assert listed["other.files"] == {b"240601001.old/a\tb\nc\\"}
    assert listed["rest"] == {b"force", b"evt/pipe", b"240601002/741234567"}


def test_the_verb_needs_no_site_and_names_what_is_odd(tree: Path, tmp_path: Path) -> None:
    ended = halfpipe("takeover", tree, "--list", "-o", tmp_path / "lists")
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert "odd file at the top: force\n" in ended.stdout
    assert len(list((tmp_path / "lists").iterdir())) == 4
    assert halfpipe("takeover", tree / "gone", "--list").exit_code == 2
    for words in (["-o", tmp_path], ["--list", "--do"]):
        assert halfpipe("takeover", tree, *words).exit_code == 2


def test_a_directory_that_cannot_be_read_is_told() -> None:
    with tempfile.TemporaryDirectory() as place:  # where other users may go
        tree = Path(place)
        tree.chmod(0o755)
        (tree / "240601001").mkdir(mode=0)
        with somebody_else():
            _, unread = take_inventory(tree)
    assert ["240601001" in line for line in unread] == [True]
