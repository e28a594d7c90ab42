"""`check`: every file that a receipt vouches for is named when it is missing or differs, and nothing else."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.config import load
from halfpipe.downlink import submit
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.deliveries import Deliveries
from halfpipe.status.account import Site as Looked
from halfpipe.status.checks import Finding, check, examine
from halfpipe.tables import names
from tests.support.golden_cases import GOLDEN
from tests.support.series import damage, homes, rewrite
from tests.support.verbs import halfpipe
from tests.support.workflow import Site

DL = DownlinkId("240601001")
SOURCE = GOLDEN / "multi3" / "in"
LCI = "r0741240000"
MANIFEST = f"runs/2c2e6cc0/{DL}/manifest.json"
DELIVERIES = paths.deliveries("2c2e6cc0")
MARKS = (paths.format_mark(), paths.stage_mark(), paths.stage_mark_copy())


def processed(home: Path) -> Site:
    """Return a site on which the case multi3 was processed."""
    site = Site(home)
    site.replay(SOURCE)
    site.add_retdefs(SOURCE, DL)
    site.by_hand(DL)
    return site


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site that was processed; every test leaves it as it was, but for times."""
    return processed(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Another one, of which tests take copies: its times say what is outstanding."""
    return processed(tmp_path_factory.mktemp("untouched"))


def found(site: Site, *, checksums: bool = True) -> list[Finding]:
    return check(load([site.configfile]), DL, checksums=checksums)


def files(site: Site) -> Iterator[Path]:
    """Yield every file of the site, but tokens: Level-1 removes these one by one.

    And but for checksums of blocks and the marks, which it does not ask for.
    """
    for name in site.tree():
        if not name.startswith("stage/chunktokens/") and not name.endswith((".crc32", *MARKS)):
            yield site.home / name


def is_record(path: Path) -> bool:
    """Tell whether a file is a copy of a record: a lost one is mended from the other."""
    return path.parent.name in {"receipts", "deliveries"}


def test_nothing_is_wrong(delivered: Site) -> None:
    assert found(delivered) == []
    assert names.downlinks(delivered.work) == [DL]


def test_every_missing_file_is_named(delivered: Site, tmp_path: Path) -> None:
    every = list(files(delivered))
    assert len(every) == 52
    aside = tmp_path / "aside"
    for path in every:
        path.rename(aside)
        (finding,) = found(delivered)
        if is_record(path):
            assert (finding.what, finding.note) == ("mended", True)
            assert str(path) in str(finding)
            assert path.read_bytes() == aside.read_bytes()
            continue
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
        or path.parent.name == "chunks"
        or is_record(path)
        or path.suffix == ".txt"
    ]
    assert len(checked) == 5 + 3 + 15 + 2 * (1 + 3) + 5
    for path in checked:
        content = path.read_bytes()
        path.write_bytes(content + b"x")
        if is_record(path):
            (finding,) = found(delivered)
            assert str(path) in str(finding)
            assert finding.note
            assert path.read_bytes() == content, "it is mended"
            continue
        assert [finding.path for finding in found(delivered)] == [path]
        if content and path.suffix != ".json":
            path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
            (finding,) = found(delivered)
            assert str(finding) == f"differs: {path} (checksum mismatch)"
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
        (MANIFEST, '"known": 40', '"known": 41', "damaged: {} ("),
        (MANIFEST, "{", "", "damaged: {} ("),
        (f"{DL}/chunks/00003.json", '"events": 40', '"events": 6', "damaged: {} ("),
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


@pytest.mark.parametrize(
    ("name", "said"), [(MANIFEST, {"known": 41}), (f"{DL}/chunks/00003.json", {"files": []})]
)
def test_what_says_something_else_than_the_receipt(delivered: Site, name: str, said: dict[str, Any]) -> None:
    path = delivered.work / name
    content = path.read_bytes()
    rewrite(path, **said)
    (finding,) = found(delivered)
    path.write_bytes(content)
    assert str(finding) == f"differs: {path} (from what the receipt says: {', '.join(said)})"


def test_a_damaged_receipt_is_a_finding_and_stops_nothing(delivered: Site) -> None:
    path = delivered.work / f"dl={DL}"
    content = path.read_bytes()
    path.write_bytes(content[:100])
    (finding,) = found(delivered)
    ended = halfpipe("check", f"dl={DL}", "240601009", configfile=delivered.configfile)
    path.write_bytes(content)
    assert (finding.what, finding.path) == ("damaged", path)
    assert ended.exit_code == 1
    lines = ended.stdout.splitlines()
    assert lines[0] == f"downlink {DL}: 1 fault"
    assert lines[1].startswith(f"  action: {path}: not JSON (")
    assert lines[2] == f"  → snakemake dl={DL} -R receipt"
    assert lines[-4:-1] == [
        "downlink 240601009: 1 fault",
        f"  action: missing: {delivered.work}/dl=240601009 (the downlink is outstanding)",
        "  → snakemake dl=240601009",
    ]
    assert lines[-1] == "2 downlinks, 2 faults"


@pytest.fixture
def submitted(delivered: Site, tmp_path: Path) -> Site:
    """A copy of the site, which a person has submitted."""
    site = delivered.clone(tmp_path / "submitted")
    submit.settle(site.settings, DL, submitted=True)
    return site


def test_what_level_1_has_taken_is_no_fault(submitted: Site, tmp_path: Path) -> None:
    aside = tmp_path / "aside"
    shutil.move(submitted.stage / DL, aside)
    (finding,) = found(submitted)
    ended = halfpipe("check", configfile=submitted.configfile)
    shutil.move(aside, submitted.stage / DL)
    assert finding.note
    assert str(finding) == f"not in the stage: {submitted.stage}/{DL} (Level-1 has taken the hand-off)"
    assert ended.exit_code == 0
    assert ended.stdout.splitlines()[0] == f"downlink {DL}: good"


def test_what_level_1_is_taking_is_no_fault(submitted: Site, tmp_path: Path) -> None:
    shutil.move(submitted.stage / DL / LCI, tmp_path / LCI)
    (finding,) = found(submitted)
    shutil.move(tmp_path / LCI, submitted.stage / DL / LCI)
    assert finding.note
    assert str(finding).startswith(f"not in the stage: {submitted.stage}/{DL}/{LCI}/{LCI}-e")
    assert str(finding).endswith(" (Level-1 is taking the hand-off)")


def test_a_stage_that_was_wiped_before_any_submission_is_a_fault(delivered: Site, tmp_path: Path) -> None:
    aside = tmp_path / "aside"
    shutil.move(delivered.stage / DL, aside)
    ended = halfpipe("check", configfile=delivered.configfile)
    shutil.move(aside, delivered.stage / DL)
    assert ended.exit_code == 1
    lines = ended.stdout.splitlines()
    assert lines[0] == f"downlink {DL}: 1 fault"
    assert f"is gone from the stage ({delivered.stage}/{DL}), and was not submitted" in lines[1]
    assert lines[2] == f"  → snakemake dl={DL} -R deliver_run"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"delivered": 40', '"delivered": 41', "edited"),
        ('\n "runs": [', '\n "run": [', "edited"),
        ("{", "", "damaged"),
    ],
)
def test_a_receipt_that_a_hand_or_a_disk_has_changed(delivered: Site, old: str, new: str, what: str) -> None:
    path = delivered.work / f"dl={DL}"
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
    (finding,) = found(delivered)
    path.write_text(content)
    assert (finding.what, finding.path, finding.note) == (what, path, False)
    assert finding.do == f"snakemake dl={DL} -R receipt"


def test_a_token_that_keeps_level_1_waiting(delivered: Site) -> None:
    halt = delivered.stage / "chunktokens" / LCI / f"haltCleanup-{DL}"
    halt.touch()
    (finding,) = found(delivered)
    halt.unlink()
    assert str(finding).startswith(f"left behind: {halt} (Level-1 cannot retire the run")


def test_with_nothing_done_yet(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.work.mkdir()
    assert names.downlinks(site.work) == []
    ended = halfpipe("check", configfile=site.configfile)
    assert (ended.exit_code, ended.stdout) == (0, "0 downlinks, 0 faults\n")


def test_each_fault_has_its_command_and_nothing_else_is_repaired(delivered: Site, tmp_path: Path) -> None:
    """Row 26: what is named is made again, and what is good stays."""
    aside, run, chunk = tmp_path / "aside", f"runs/2c2e6cc0/{DL}", f"{DL}/chunks/00003"
    expected = {
        f"work/dl={DL}": f"snakemake dl={DL}",
        f"work/{DL}/RetDef-{DL}-00003.xml": f"snakemake dl={DL} -R {DL}/RetDef-{DL}-00003.xml",
        f"work/{chunk}.json": f"snakemake dl={DL} -R {chunk}.json",
        f"work/{run}/index.json": f"snakemake dl={DL} -R {MANIFEST}",
        f"work/{MANIFEST}": f"snakemake dl={DL} -R {MANIFEST}",
        f"stage/{DL}/retired_runs_{DL}.txt": f"snakemake dl={DL} -R receipt",
    }
    for name, do in expected.items():
        (delivered.home / name).rename(aside)
        (finding,) = found(delivered)
        aside.rename(delivered.home / name)
        assert finding.do == do, name
    for path in files(delivered):
        path.rename(aside)
        (finding,) = found(delivered)
        aside.replace(path)
        assert finding.note or finding.do, path


@pytest.mark.parametrize(
    "name",
    [
        f"work/{DL}/RetDef-{DL}-00003.xml",
        f"work/{DL}/chunks/00003.json",
        f"work/runs/2c2e6cc0/{DL}/index.json",
        f"work/{MANIFEST}",
        f"stage/{DL}/{LCI}",
        f"stage/{DL}/retired_runs_{DL}.txt",
    ],
)
def test_the_command_of_a_fault_mends_it_and_leaves_other_runs_alone(
    untouched: Site, tmp_path: Path, name: str
) -> None:
    site = untouched.clone(tmp_path / "site")
    others = [
        path
        for path in files(site)
        if re.search("2c2e(5787|8430)|r074124600|r0741234567|-0000[1245]", str(path))
    ]
    assert len(others) > 20
    before = {path: path.stat().st_mtime_ns for path in others}
    (site.home / name).rename(tmp_path / "aside")
    (do,) = {finding.do for finding in found(site)}
    program, *words = shlex.split(do)
    if program == "halfpipe":
        site.halfpipe(*words, *([] if "--do" in words else ["--do"])).good()
    else:
        site.snakemake(*words).good()
    assert found(site) == []
    assert {path: path.stat().st_mtime_ns for path in others} == before


def test_what_the_account_tells_stands_before_what_files_give(delivered: Site) -> None:
    switch = delivered.work / DL / "haltstage"
    switch.touch()
    path = delivered.work / MANIFEST
    content = path.read_text()
    path.write_text(content.replace('"known": 40', '"known": 41', 1))
    causes = examine(Looked(delivered.settings), DL)
    ended = halfpipe("check", "--json", configfile=delivered.configfile)
    path.write_text(content)
    switch.unlink()
    assert [cause.code for cause in causes] == ["switch-misspelt", "file-damaged", "not-submitted"]
    (said,) = json.loads(ended.stdout)["downlinks"]
    assert ended.exit_code == 1
    assert said["faults"] == 2
    assert [(one["code"], one["verdict"]) for one in said["found"]][1] == ("file-damaged", "action")
    assert said["found"][1]["do"] == f"snakemake dl={DL} -R {MANIFEST}"


def test_what_the_account_tells_is_not_told_twice(delivered: Site) -> None:
    both = [home / "000001.json" for home in homes(delivered.work, DELIVERIES)]
    content = both[0].read_bytes()
    damage(delivered.work, DELIVERIES)
    causes = examine(Looked(delivered.settings), DL)
    for path in both:
        path.write_bytes(content)
    assert [cause.code for cause in causes if cause.verdict is Verdict.ACTION] == ["record-damaged"]


@pytest.mark.parametrize("place", [paths.receipts(DL), DELIVERIES])
def test_a_record_that_is_damaged_in_both_copies_is_a_fault(delivered: Site, place: str) -> None:
    both = [home / "000001.json" for home in homes(delivered.work, place)]
    content = both[0].read_bytes()
    damage(delivered.work, place)
    (finding,) = found(delivered)
    for path in both:
        path.write_bytes(content)
    assert (finding.cause.code, finding.note) == ("record-damaged", False)
    assert all(str(path) in str(finding) for path in both)


def test_a_delivery_that_is_not_what_the_receipt_says(delivered: Site, tmp_path: Path) -> None:
    kept = [
        shutil.copytree(home, tmp_path / str(at)) for at, home in enumerate(homes(delivered.work, DELIVERIES))
    ]
    recorded = Deliveries(delivered.work, RunId("2c2e6cc0"))
    recorded.publish(replace(recorded.latest()[DL], files=()))
    (finding,) = found(delivered)
    for of, home in zip(kept, homes(delivered.work, DELIVERIES), strict=True):
        shutil.rmtree(home)
        shutil.copytree(of, home)
    assert (finding.what, finding.cause.code) == ("differs", "delivery-differs")
    assert finding.do == f"snakemake dl={DL} -R {MANIFEST}"


def test_a_copy_that_was_mended_is_told_by_check_and_not_again(delivered: Site) -> None:
    path = delivered.work / "runs/2c2e6cc0/deliveries/000001.json"
    content = path.read_bytes()
    path.unlink()
    causes = [cause for cause in examine(Looked(delivered.settings), DL) if cause.code == "record-mended"]
    assert [cause.verdict for cause in causes] == [Verdict.NOTE]
    assert path.read_bytes() == content
    assert "record-mended" not in {cause.code for cause in examine(Looked(delivered.settings), DL)}


def test_records_of_a_run_that_know_less_than_the_receipt(untouched: Site, tmp_path: Path) -> None:
    """Both copies were put back from a backup of before."""
    site = untouched.clone(tmp_path / "site")
    place = paths.deliveries("2c2e6cc0")
    for home in (place, paths.copies(place)):
        (site.work / home / "000001.json").unlink()
    causes = {cause.code: cause for cause in examine(Looked(site.settings), DL)}
    assert causes["delivery-differs"].verdict is Verdict.ACTION
    assert "delivery-differs" in {finding.code for finding in found(site)}
    assert site.snakemake(f"dl={DL}", "-R", "deliver_run").status != 0, "the stage knows more, too"
