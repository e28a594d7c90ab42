"""`status --check`: every file that a receipt vouches for is named when it is missing or differs, and nothing else."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink import submit
from halfpipe.files.records import Series
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.hand_offs import Text
from halfpipe.run.merged_index import MergedIndex
from halfpipe.status.account import COSTS, account
from halfpipe.status.receipt_check import Check
from halfpipe.status.survey import Survey
from tests.support.golden_cases import GOLDEN
from tests.support.harness import path_of
from tests.support.receipts import publish
from tests.support.series import damage, homes, rewrite
from tests.support.workflow import Site

DL = DownlinkId("240601001")
SOURCE = GOLDEN / "multi3" / "in"
LCI = "r0741240000"
RUN = RunId("2c2e6cc0")
RECEIPT = f"dl={DL}"
CHUNK = f"{DL}/chunks/00003"
MANIFEST = f"runs/{RUN}/{DL}/manifest.json"
REPAIR = f"halfpipe status --check --repair {DL}"
MARKS = (paths.FORMAT_MARK, paths.STAGE_MARK, paths.STAGE_MARK_COPY)


@pytest.fixture
def site(worked: Callable[..., Site]) -> Site:
    return worked("multi3", DL)


def found(site: Site, *, checksums: bool = True) -> list[Cause]:
    return list(Check(site.settings, DL, checksums=checksums).causes())


def examined(site: Site) -> list[Cause]:
    return list(account(Survey(site.settings), DL, found(site)).causes)


def codes(site: Site) -> list[str]:
    return [cause.code for cause in examined(site)]


def is_note(cause: Cause) -> bool:
    return cause.verdict is Verdict.NOTE


def test_a_downlink_without_retdefs_waits_for_them(site: Site) -> None:
    other = DownlinkId("240601009")
    (site.retdefs / other).mkdir()
    assert [cause.code for cause in account(Survey(site.settings), other).causes] == ["waits-retdef"]


def test_what_cannot_be_read_is_a_cause(site: Site) -> None:
    shutil.rmtree(site.work / "leases", ignore_errors=True)
    (site.work / "leases").symlink_to("leases")
    assert [cause.code for cause in account(Survey(site.settings), DL).causes] == ["file-system"]


def test_what_a_receipt_records_needs_action(site: Site) -> None:
    last = site.receipt(DL)
    attitude = paths.text("magic7", DL)
    texts = [text for text in last.receipt.texts if text.name != attitude]
    made = last.runs[0].delivery
    books = replace(made.books, known=made.books.known + 1)
    other = replace(made, missing=("chunk 00007 of downlink 240601002",), books=books)
    first, *runs = last.receipt.runs
    record = Deliveries(site.work, first.run).publish(other)
    receipt = replace(
        last.receipt,
        texts=(*texts, Text(0, "", attitude)),
        runs=(replace(first, delivery=record.seal), *runs),
    )
    publish(site.work, receipt)
    causes = account(Survey(site.settings), DL).causes
    action = {cause.code for cause in causes if cause.verdict is Verdict.ACTION}
    assert {"magic7", "merged-without", "books"} <= action


def files(site: Site) -> Iterator[Path]:
    """Yield every file of the site, but tokens, which Level-1 removes one by one, and marks."""
    for name in site.tree():
        if not name.startswith(("stage/chunktokens/", "work/.cache/")) and not name.endswith(MARKS):
            yield site.home / name


def code_of(path: Path, site: Site) -> str:
    return "stage-differs" if path.is_relative_to(site.stage) else "damaged"


def is_record(path: Path) -> bool:
    """Tell whether a file is a copy of a record: a lost one is mended from the other."""
    return path.parent.name in {"receipts", "deliveries"}


def test_every_missing_file_is_named_with_the_command_that_makes_it_again(site: Site, tmp_path: Path) -> None:
    assert found(site) == []
    every = list(files(site))
    assert len(every) == 48
    aside = tmp_path / "aside"
    for path in every:
        path.rename(aside)
        if path.name in {"manifest.json", "datagrams.idx"}:
            # Nothing reads the former; the account tells that the latter is missing.
            told = ["damaged"] if path.name == "datagrams.idx" else []
            assert (found(site), codes(site)) == ([], [*told, "not-submitted"])
            aside.rename(path)
            continue
        if path.name == RECEIPT:
            (outstanding,) = examined(site)
            assert (found(site), outstanding.code) == ([], "outstanding")
            assert outstanding.remedy.do == (f"snakemake dl={DL}",)
            aside.rename(path)
            continue
        (finding,) = found(site)
        if is_record(path):
            assert (finding.code, path_of(finding), is_note(finding)) == ("damaged", path, True)
            assert path.read_bytes() == aside.read_bytes()
            assert found(site) == [], "it is told once"
            continue
        aside.rename(path)
        # What a cleanup may remove is no fault where it is missing.
        large = path.suffix in {".evt", ".idx", ".rows"} and path.parent.name == "chunks"
        assert finding.code in {"cleaned-up" if large else "damaged", "stage-differs", "stage-gone"}
        assert path_of(finding) == path
        assert is_note(finding) is large
        if path.is_relative_to(site.work) and not is_note(finding):
            name = str(path.relative_to(site.work))
            run = re.match(r"runs/\w+/\d+/", name)
            target = f"{run[0]}manifest.json" if run else name
            if path.suffix == ".xml":  # the job that stages a RetDef decodes its chunk
                target = f"{DL}/chunks/{path.stem[-5:]}.json"
            assert str(finding.remedy) == f"snakemake dl={DL} -R {target}"
        assert is_note(finding) or str(finding.remedy)
        if path.suffix == ".txt":
            assert str(finding.remedy) == f"snakemake dl={DL} -R receipt"


@pytest.mark.parametrize("harm", ["cut", "older"])
def test_a_merged_index_that_is_cut_or_older_is_made_again_and_nothing_is_handed_off(
    site: Site, harm: str
) -> None:
    site.halfpipe("ledger", "load", DL).good()
    submit.settle(site.settings, DL, submitted=True)
    path = site.work / paths.datagrams(RUN, DL)
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    if harm == "older":
        MergedIndex(KnownDatagrams.of([]), ()).save(site.work, RUN, DL)
    (finding,) = found(site)
    assert (finding.code, path_of(finding), is_note(finding)) == ("damaged", path, False)
    assert str(finding.remedy) == REPAIR
    (told,) = [cause for cause in examined(site) if cause.code == "damaged"]
    assert COSTS not in told.text
    before = site.receipt(DL).seal
    assert RUN in site.halfpipe(*REPAIR.split()[1:]).good().errors
    assert (path.read_bytes(), site.receipt(DL).seal, found(site)) == (content, before, [])


def test_a_remedy_that_costs_a_roll_back_says_so(site: Site) -> None:
    (site.work / f"{CHUNK}.json").unlink()

    def costs() -> list[bool]:
        return [COSTS in one.text for one in examined(site) if one.code == "damaged"]

    assert costs() == [False]
    submit.settle(site.settings, DL, submitted=True)
    assert costs() == [True]


def test_every_other_byte_is_found_where_a_checksum_is_known(site: Site) -> None:
    checked = [
        path
        for path in files(site)
        if path.suffix in {".xml", ".evt", ".txt"} or path.parent.name == "chunks" or is_record(path)
    ]
    assert len(checked) == 5 + 3 + 20 + 2 * (1 + 3) + 5
    for path in checked:
        content = path.read_bytes()
        path.write_bytes(content + b"x")
        (finding,) = found(site)
        assert path_of(finding) == path
        if is_record(path):
            assert is_note(finding)
            assert path.read_bytes() == content, "it is mended"
            continue
        if path.suffix != ".xml" and path.suffix != ".json":  # a receipt knows no size of a RetDef
            assert [one.code for one in found(site, checksums=False)] == [code_of(path, site)]
        if content and path.suffix != ".json":
            path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
            (finding,) = found(site)
            assert (finding.code, path_of(finding)) == (code_of(path, site), path)
            if path.suffix != ".xml":
                assert found(site, checksums=False) == []
        path.write_bytes(content)
    assert found(site) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "code"),
    [
        (f"{CHUNK}.json", '"events": 40', '"events": 6', "damaged"),
        (RECEIPT, '"number": 1', '"number": 2', "damaged"),
        (RECEIPT, '\n "seal": ', '\n "steal": ', "damaged"),
        (RECEIPT, "{", "", "damaged"),
    ],
)
def test_what_a_hand_or_a_disk_has_changed(site: Site, name: str, old: str, new: str, code: str) -> None:
    path = site.work / name
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
    (finding,) = [one for one in examined(site) if one.code == code]
    assert (finding.code, path_of(finding), is_note(finding)) == (code, path, False)
    assert str(finding.remedy) == f"snakemake dl={DL} -R {'receipt' if name == RECEIPT else name}"


def test_a_chunk_that_is_not_the_one_that_was_handed_off(site: Site) -> None:
    path = site.work / f"{CHUNK}.json"
    rewrite(path, files=[])
    (finding,) = [one for one in examined(site) if one.code == "damaged"]
    assert path_of(finding) == path


def test_what_was_checked_is_counted(site: Site) -> None:
    check = Check(site.settings, DL)
    assert list(check.causes()) == []
    assert check.checked == {"record": 4, "product": 15, "merged index": 3, "staged file": 3}


def test_what_level_1_has_taken_is_no_fault(site: Site, tmp_path: Path) -> None:
    submit.settle(site.settings, DL, submitted=True)
    for place in (LCI, ""):
        shutil.move(site.stage / DL / place, tmp_path / "aside")
        (finding,) = found(site)
        assert codes(site) == ["file-taken"]
        shutil.move(tmp_path / "aside", site.stage / DL / place)
        assert (finding.code, is_note(finding)) == ("file-taken", True)
        assert site.stage / DL / place in (path_of(finding), path_of(finding).parent)


def test_a_token_that_keeps_level_1_waiting(site: Site) -> None:
    halt = site.stage / "chunktokens" / LCI / f"haltCleanup-{DL}"
    halt.touch()
    (finding,) = found(site)
    halt.unlink()
    assert (finding.code, path_of(finding)) == ("token-left", halt)
    assert found(site) == []


@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("place", [paths.receipts(DL), paths.deliveries(RUN), paths.submissions(DL)])
def test_a_record_that_is_damaged_in_both_copies_is_a_fault_and_told_once(
    site: Site, place: str, gap: bool
) -> None:
    submit.settle(site.settings, DL, submitted=True)
    first, second = homes(site.work, place)
    name = "000001.json"
    if gap:  # of the next record one copy is left, which a status without --check does not look for
        name = "000002.json"
        (record,) = (series := Series(site.work, place)).read()
        for _ in range(2):
            series.publish(record.values)
        for path in (first / name, second / name, first / "000003.json"):
            path.unlink()
    else:
        damage(site.work, place)
    (finding,) = [one for one in examined(site) if one.code == "damaged"]
    assert not is_note(finding)
    assert all(str(home / name) in finding.text for home in (first, second))


def test_a_delivery_that_is_not_what_the_receipt_says(site: Site) -> None:
    recorded = Deliveries(site.work, RUN)
    recorded.publish(replace(recorded.latest()[DL], files=()))
    (finding,) = [one for one in examined(site) if one.code == "damaged"]
    assert str(finding.remedy) == f"snakemake dl={DL} -R {MANIFEST}"
    for home in homes(site.work, paths.deliveries(RUN)):  # put back from a backup of before
        shutil.rmtree(home)
    assert "damaged" in codes(site)
    assert site.snakemake(f"dl={DL}", "-R", "deliver_run").status != 0, "the stage knows more, too"


def test_what_level_1_was_told_of_and_is_damaged_now_needs_action(site: Site) -> None:
    submit.settle(site.settings, DL, submitted=True)
    path = next((site.stage / DL).glob("r*/*.evt"))
    content = path.read_bytes()
    for damaged in (content[:-1], content[:-1] + bytes([content[-1] ^ 1])):
        path.write_bytes(damaged)
        (finding,) = found(site)
        assert (finding.code, is_note(finding)) == ("stage-differs", False)


def test_submissions_that_are_damaged_are_told_by_the_account_and_stop_no_check(site: Site) -> None:
    submit.settle(site.settings, DL, submitted=True)
    damage(site.work, paths.submissions(DL))
    assert set(codes(site)) == {"damaged"}


def test_a_file_of_somebody_else_is_one_cause(site: Site) -> None:
    stray = site.stage / DL / LCI / "of-somebody-else.evt"
    stray.write_text("x")
    site.configure(submit={"command": "true {dl} {rawdir}"})
    assert site.snakemake(f"submit={DL}").status == 1, "Level-1 would take it"
    (cause,) = examined(site)
    assert (cause.code, path_of(cause)) == ("stage-foreign", stray)
    assert "older than a minute" in cause.remedy.first, "another host may have staged it just now"
