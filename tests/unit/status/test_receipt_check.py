"""`status --check`: every file that a receipt vouches for is named when it is missing or differs, and nothing else."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.files.records import Series
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.notify import submit
from halfpipe.state.deliveries import Deliveries
from halfpipe.state.hand_offs import Text
from halfpipe.state.merged_index import MergedIndex
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


# Each kind of file below the site: how many there are, the codes if one is missing and if it differs, and what its
# remedy reruns. Without a rule: a note, or the product is moved away.
KINDS = {
    r"stage/\d+/.*\.txt": (5, "stage-differs", "stage-differs", "receipt"),
    r"stage/\d+/.*\.evt": (3, "stage-gone", "stage-differs", r"runs/\w+/\d+/manifest\.json"),
    r"work/\d+/RetDef-.*\.xml": (5, "damaged", "damaged", r"\d+/chunks/\d{5}\.json"),
    r"work/\d+/chunks/\d{5}\.json": (5, "damaged", "damaged", r"\d+/chunks/\d{5}\.json"),
    r"work/\d+/chunks/.*-.*": (15, "cleaned-up", "damaged", None),
    r"work/(copies/)?(\d+/receipts|runs/\w+/deliveries)/\d{6}\.json": (8, "damaged", "damaged", None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_file_that_is_missing_or_differs_is_named(site: Site, kind: str) -> None:
    number, missing, differs, rule = KINDS[kind]
    files = [site.home / name for name in site.tree() if re.fullmatch(kind, name)]
    assert (found(site), len(files)) == ([], number)
    is_record = "deliveries" in kind
    knows_size = not is_record and "json" not in kind and "xml" not in kind
    for path in files:
        content = path.read_bytes()
        changed = [None, content + b"x"]
        if content and ".json" not in kind:
            changed.append(bytes([content[0] ^ 1]) + content[1:])
        for new in changed:
            path.unlink()
            if new is not None:
                path.write_bytes(new)
            if new and knows_size:
                by_size = [one.code for one in found(site, checksums=False)]
                assert by_size == ([differs] if len(new) > len(content) else [])
            (finding,) = found(site)
            assert (finding.code, path_of(finding)) == (differs if new else missing, path)
            assert is_note(finding) is (is_record or finding.code == "cleaned-up")
            if rule is not None:
                assert re.fullmatch(f"snakemake dl={DL} -R {rule}", str(finding.remedy))
            if is_record:
                assert path.read_bytes() == content, "it is mended from the other copy"
            path.write_bytes(content)
    assert found(site) == []


def test_the_account_names_a_lost_index_and_no_lost_pointer(site: Site) -> None:
    (site.work / MANIFEST).unlink()  # nothing reads it
    assert codes(site) == ["not-submitted"]
    index = site.work / paths.datagrams(RUN, DL)
    index.unlink()
    assert (found(site), codes(site)) == ([], ["damaged", "not-submitted"])
    assert str(index) in examined(site)[0].text
    (site.work / RECEIPT).unlink()
    (outstanding,) = examined(site)
    assert (found(site), outstanding.code) == ([], "outstanding")
    assert outstanding.remedy.do == (f"snakemake dl={DL}",)


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


@pytest.mark.parametrize(("old", "new"), [('"number": 1', '"number": 2'), ('"seal"', '"steal"'), ("{", "")])
def test_a_receipt_that_a_hand_or_a_disk_has_changed(site: Site, old: str, new: str) -> None:
    path = site.work / RECEIPT
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
    (finding,) = [one for one in examined(site) if one.code == "damaged"]
    assert (path_of(finding), is_note(finding)) == (path, False)
    assert str(finding.remedy) == f"snakemake dl={DL} -R receipt"


def test_a_chunk_that_is_not_the_one_that_was_handed_off(site: Site) -> None:
    path = site.work / f"{CHUNK}.json"
    rewrite(path, files=[])
    (finding,) = [one for one in examined(site) if one.code == "damaged"]
    assert path_of(finding) == path


def test_the_products_of_a_downlink_that_are_gone_are_missed(site: Site) -> None:
    shutil.rmtree(site.work / DL)
    for _ in range(2):  # the first look repairs its records
        assert "damaged" in [cause.code for cause in account(Survey(site.settings), DL).causes]


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
