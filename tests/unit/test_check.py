"""`check`: every file that a receipt vouches for is named when it is missing or differs, and nothing else."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from halfpipe.ids import DownlinkId
from halfpipe.reports.check import Finding, check, downlinks
from tests.golden_cases import GOLDEN
from tests.workflow import Site

DL = DownlinkId("240601001")
SOURCE = GOLDEN / "multi3" / "in"
LCI = "r0741240000"
MANIFEST = f"runs/2c2e6cc0/{DL}/manifest.json"


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site on which the case multi3 was processed; every test leaves it as it was."""
    site = Site(tmp_path_factory.mktemp("site"))
    site.replay(SOURCE)
    site.add_retdefs(SOURCE, DL)
    site.by_hand(DL)
    return site


def found(site: Site, *, checksums: bool = True) -> list[Finding]:
    return check(site.work, site.stage, DL, checksums=checksums)


def files(site: Site) -> Iterator[Path]:
    """Yield every file of the site, but tokens: Level-1 removes these one by one."""
    for name in site.tree():
        if not name.startswith("stage/chunktokens/"):
            yield site.home / name


def test_nothing_is_wrong(delivered: Site) -> None:
    assert found(delivered) == []
    assert downlinks(delivered.work) == [DL]


def test_every_missing_file_is_named(delivered: Site, tmp_path: Path) -> None:
    every = list(files(delivered))
    assert len(every) == 49
    aside = tmp_path / "aside"
    for path in every:
        path.rename(aside)
        (finding,) = found(delivered)
        aside.rename(path)
        # What a clean-up may remove is no fault where it is missing.
        large = path.suffix in {".evt", ".idx"} and path.parent.name == "chunks"
        assert (finding.what, finding.path) == ("missing", path)
        assert finding.note is (large or path.name == "events.npy")
        assert str(finding).startswith(f"missing: {path}")
    assert found(delivered) == []


def test_every_other_byte_is_found_where_a_checksum_is_known(delivered: Site) -> None:
    checked = [
        path
        for path in files(delivered)
        if path.suffix in {".xml", ".evt"}
        or path.parent.name in {"chunks", "receipts"}
        or path.suffix == ".txt"
    ]
    assert len(checked) == 5 + 3 + 15 + 1 + 5
    for path in checked:
        content = path.read_bytes()
        path.write_bytes(content + b"x")
        assert [finding.path for finding in found(delivered)] == [path]
        if content and path.suffix != ".json":
            path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
            (finding,) = found(delivered)
            assert str(finding) == f"differs: {path} (its checksum is another one)"
            if path.suffix != ".xml":  # a receipt knows no size of a RetDef
                assert found(delivered, checksums=False) == []
        path.write_bytes(content)
    assert found(delivered) == []


def test_a_size_is_told(delivered: Site) -> None:
    path = next((delivered.stage / DL / LCI).iterdir())
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    (finding,) = found(delivered, checksums=False)
    assert str(finding) == f"differs: {path} ({len(content) - 1} bytes, {len(content)} expected)"
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (MANIFEST, '"known": 40', '"known": 41', "differs: {} (from what the receipt says: known)"),
        (MANIFEST, "{", "", "damaged: {} ("),
        (f"{DL}/chunks/00003.json", '"events": 40', '"events": 6', "differs: {} (from what the receipt says: files)"),
        ("runs/2c2e6cc0/journal.jsonl", '"events": 40', '"events": 41', "differs: {} (what it records of downlink"),
        ("runs/2c2e6cc0/journal.jsonl", "{", "", "damaged: {} ("),
    ],
)  # fmt: skip
def test_what_the_receipt_does_not_agree_with(
    delivered: Site, name: str, old: str, new: str, said: str
) -> None:
    path = delivered.work / name
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
    (finding,) = found(delivered)
    path.write_text(content)
    assert str(finding).startswith(said.format(path))


def test_a_damaged_receipt_is_a_finding_and_stops_nothing(delivered: Site) -> None:
    path = delivered.work / f"dl={DL}"
    content = path.read_bytes()
    path.write_bytes(content[:100])
    (finding,) = found(delivered)
    ended = delivered.script("check", f"dl={DL}", "240601009")
    path.write_bytes(content)
    assert (finding.what, finding.path) == ("damaged", path)
    assert ended.status == 1
    lines = ended.said.splitlines()
    assert lines[0] == f"downlink {DL}: 1 faults"
    assert lines[1].startswith(f"  damaged: {path} (")
    assert lines[2] == "downlink 240601009: 1 faults"
    assert lines[3].startswith(f"  missing: {delivered.work}/dl=240601009 (the downlink is outstanding)")
    assert lines[-1] == "2 downlinks, 2 faults"


def test_what_level_1_has_taken_is_no_fault(delivered: Site, tmp_path: Path) -> None:
    aside = tmp_path / "aside"
    shutil.move(delivered.stage / DL, aside)
    (finding,) = found(delivered)
    ended = delivered.script("check")
    shutil.move(aside, delivered.stage / DL)
    assert finding.note
    assert str(finding) == f"not in the stage: {delivered.stage}/{DL} (Level-1 has taken the hand-off)"
    assert ended.status == 0
    assert ended.said.splitlines()[0] == f"downlink {DL}: good"


def test_a_token_that_keeps_level_1_waiting(delivered: Site) -> None:
    halt = delivered.stage / "chunktokens" / LCI / f"haltCleanup-{DL}"
    halt.touch()
    (finding,) = found(delivered)
    halt.unlink()
    assert str(finding).startswith(f"left behind: {halt} (Level-1 cannot retire the run")


def test_with_nothing_done_yet(tmp_path: Path) -> None:
    site = Site(tmp_path)
    assert downlinks(site.work) == []
    ended = site.script("check")
    assert (ended.status, ended.said) == (0, "0 downlinks, 0 faults\n")
