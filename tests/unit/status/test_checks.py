"""`status --check`: every file that a receipt vouches for is named when it is missing or differs, and nothing else."""

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
from halfpipe.causes import Cause, Verdict
from halfpipe.config import load
from halfpipe.downlink import submit
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.deliveries import Deliveries
from halfpipe.status.account import Site as Looked
from halfpipe.status.checks import check, examine
from halfpipe.tables import names
from tests.support.golden_cases import GOLDEN
from tests.support.harness import path_of
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


def found(site: Site, *, checksums: bool = True) -> list[Cause]:
    return list(check(load([site.configfile]), DL, checksums=checksums))


def is_note(cause: Cause) -> bool:
    return cause.verdict is Verdict.NOTE


def files(site: Site) -> Iterator[Path]:
    """Yield every file of the site, but tokens: Level-1 removes these one by one.

    And but for checksums of blocks and the marks, which it does not ask for.
    """
    for name in site.tree():
        if not name.startswith(("stage/chunktokens/", "work/.cache/")) and not name.endswith(
            (".crc32", *MARKS)
        ):
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
            assert (finding.code, path_of(finding)) == ("record-mended", path)
            assert is_note(finding)
            assert path.read_bytes() == aside.read_bytes()
            continue
        aside.rename(path)
        # What a clean-up may remove is no fault where it is missing.
        large = path.suffix in {".evt", ".idx"} and path.parent.name == "chunks"
        assert finding.code in {"file-missing", "receipt-missing", "stage-partly-gone"}
        assert path_of(finding) == path
        assert is_note(finding) is (large or path.name == "events.npy")
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
            assert path_of(finding) == path
            assert is_note(finding)
            assert path.read_bytes() == content, "it is mended"
            continue
        assert [path_of(finding) for finding in found(delivered)] == [path]
        if content and path.suffix != ".json":
            path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
            (finding,) = found(delivered)
            assert (finding.code, path_of(finding)) == ("file-differs", path)
            if path.suffix != ".xml":  # a receipt knows no size of a RetDef
                assert found(delivered, checksums=False) == []
        path.write_bytes(content)
    assert found(delivered) == []


def test_a_size_is_told(delivered: Site) -> None:
    path = next((delivered.stage / DL / LCI).iterdir())
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    (finding,) = found(delivered, checksums=False)
    assert (finding.code, path_of(finding)) == ("file-differs", path)
    assert f"{len(content) - 1} bytes, {len(content)} " in finding.text
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (MANIFEST, '"known": 40', '"known": 41'),
        (MANIFEST, "{", ""),
        (f"{DL}/chunks/00003.json", '"events": 40', '"events": 6'),
    ],
)
def test_what_is_damaged(delivered: Site, name: str, old: str, new: str) -> None:
    path = delivered.work / name
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
    (finding,) = found(delivered)
    path.write_text(content)
    assert (finding.code, path_of(finding)) == ("file-damaged", path)


@pytest.mark.parametrize(
    ("name", "said"), [(MANIFEST, {"known": 41}), (f"{DL}/chunks/00003.json", {"files": []})]
)
def test_what_says_something_else_than_the_receipt(delivered: Site, name: str, said: dict[str, Any]) -> None:
    path = delivered.work / name
    content = path.read_bytes()
    rewrite(path, **said)
    (finding,) = found(delivered)
    path.write_bytes(content)
    assert (finding.code, path_of(finding)) == ("file-differs", path)
    assert finding.text.endswith(", ".join(said))


def test_a_damaged_receipt_is_a_cause_and_stops_nothing(delivered: Site) -> None:
    path = delivered.work / f"dl={DL}"
    content = path.read_bytes()
    path.write_bytes(content[:100])
    status, by_downlink = told(delivered, DL, "240601009")
    path.write_bytes(content)
    assert status == 1
    assert by_downlink == {DL: ["receipt-damaged"], "240601009": []}


def told(site: Site, *downlinks: str) -> tuple[int, dict[str, list[str]]]:
    """Return how `status --check` ends, and the codes of the causes of each downlink."""
    ended = halfpipe("status", "--check", "--json", *downlinks, configfile=site.configfile)
    said = json.loads(ended.stdout)["downlinks"]
    return ended.exit_code, {one["dl"]: [cause["code"] for cause in one["causes"]] for one in said}


@pytest.fixture
def submitted(delivered: Site, tmp_path: Path) -> Site:
    """A copy of the site, which a person has submitted."""
    site = delivered.clone(tmp_path / "submitted")
    submit.settle(site.settings, DL, submitted=True)
    return site


def test_what_level_1_has_taken_is_no_fault(submitted: Site, tmp_path: Path) -> None:
    for place in (LCI, ""):
        shutil.move(submitted.stage / DL / place, tmp_path / "aside")
        (finding,) = found(submitted)
        status, causes = told(submitted)
        shutil.move(tmp_path / "aside", submitted.stage / DL / place)
        assert (finding.code, is_note(finding)) == ("file-taken", True)
        assert submitted.stage / DL / place in (path_of(finding), path_of(finding).parent)
        assert (status, causes) == (0, {DL: ["file-taken"]})


def test_a_stage_that_was_wiped_before_any_submission_is_a_fault(delivered: Site, tmp_path: Path) -> None:
    aside = tmp_path / "aside"
    shutil.move(delivered.stage / DL, aside)
    (of_files,) = found(delivered)
    found_here = examine(Looked(delivered.settings), DL)
    shutil.move(aside, delivered.stage / DL)
    assert of_files.code == "stage-gone"
    assert [cause.code for cause in found_here.causes] == ["stage-gone", "not-submitted"]
    assert found_here.causes[0].do == f"snakemake dl={DL} -R deliver_run"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('"delivered": 40', '"delivered": 41', "receipt-edited"),
        ('\n "runs": [', '\n "run": [', "receipt-edited"),
        ("{", "", "receipt-damaged"),
    ],
)
def test_a_receipt_that_a_hand_or_a_disk_has_changed(delivered: Site, old: str, new: str, code: str) -> None:
    path = delivered.work / f"dl={DL}"
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
    (finding,) = found(delivered)
    path.write_text(content)
    assert (finding.code, path_of(finding), is_note(finding)) == (code, path, False)
    assert finding.do == f"snakemake dl={DL} -R receipt"


def test_a_token_that_keeps_level_1_waiting(delivered: Site) -> None:
    halt = delivered.stage / "chunktokens" / LCI / f"haltCleanup-{DL}"
    halt.touch()
    (finding,) = found(delivered)
    halt.unlink()
    assert (finding.code, path_of(finding)) == ("token-left", halt)


def test_with_nothing_done_yet(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.work.mkdir()
    assert names.downlinks(site.work) == []
    assert told(site) == (0, {})


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
        assert is_note(finding) or finding.do, path


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
    causes = examine(Looked(delivered.settings), DL).causes
    path.write_text(content)
    switch.unlink()
    assert [cause.code for cause in causes] == ["switch-misspelt", "file-damaged", "not-submitted"]
    assert causes[1].do == f"snakemake dl={DL} -R {MANIFEST}"


def test_what_the_account_tells_is_not_told_twice(delivered: Site) -> None:
    both = [home / "000001.json" for home in homes(delivered.work, DELIVERIES)]
    content = both[0].read_bytes()
    damage(delivered.work, DELIVERIES)
    causes = examine(Looked(delivered.settings), DL).causes
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
    assert (finding.code, is_note(finding)) == ("record-damaged", False)
    assert all(str(path) in finding.text for path in both)


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
    assert finding.code == "delivery-differs"
    assert finding.do == f"snakemake dl={DL} -R {MANIFEST}"


def test_a_copy_that_was_mended_is_told_by_check_and_not_again(delivered: Site) -> None:
    path = delivered.work / "runs/2c2e6cc0/deliveries/000001.json"
    content = path.read_bytes()
    path.unlink()
    first, again = (examine(Looked(delivered.settings), DL).causes for _ in range(2))
    assert [cause.verdict for cause in first if cause.code == "record-mended"] == [Verdict.NOTE]
    assert path.read_bytes() == content
    assert "record-mended" not in {cause.code for cause in again}


def test_records_of_a_run_that_know_less_than_the_receipt(untouched: Site, tmp_path: Path) -> None:
    """Both copies were put back from a backup of before."""
    site = untouched.clone(tmp_path / "site")
    place = paths.deliveries("2c2e6cc0")
    for home in (place, paths.copies(place)):
        (site.work / home / "000001.json").unlink()
    causes = {cause.code: cause for cause in examine(Looked(site.settings), DL).causes}
    assert causes["delivery-differs"].verdict is Verdict.ACTION
    assert "delivery-differs" in {finding.code for finding in found(site)}
    assert site.snakemake(f"dl={DL}", "-R", "deliver_run").status != 0, "the stage knows more, too"
