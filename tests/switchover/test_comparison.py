"""`compare`: golden cases and legacy trees with known defects, and differences that were put in."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from halfpipe import paths
from halfpipe.errors import FormatError, MissingInputError
from halfpipe.files.pointers import point
from halfpipe.files.reading import sha256
from halfpipe.files.typed import values
from halfpipe.ids import DownlinkId, RunId
from halfpipe.state.deliveries import Deliveries
from halfpipe.state.hand_offs import Receipt, series
from halfpipe_switchover.comparison import UNLIKE
from tests.support.golden_cases import case_names
from tests.support.harness import records_of
from tests.support.workflow import Site
from tests.switchover.support.compared import BothSides, event_file, sequence_of, write_event_file
from tests.switchover.support.takeover_cases import TAKEOVER, taken_over

FIRST, SECOND = "240601001", "240601002"
RUN = "2c2e5787"

# By step: how many events only HalfPipe delivers, and why; no events differ in the other cases.
KNOWN: dict[str, list[tuple[int, set[int | str]]]] = {
    "close_abort": [(1, {"spans"})], "edge_equal_last": [(35, {"spans"})],
    "eventless_edges": [(1, {"spans"})], "gap_quiet_filled": [(0, set()), (15, {4})],
    "lci_gap_filled": [(0, set()), (17, {9})], "runid_small": [(40, {35})],
    "tail_partner_exhausted": [(40, {"spans"})], "third_epu_late_again": [(0, set()), (67, {3}), (18, {3})],
    "three_epus": [(110, {3})], "zero_handlers": [(0, {26})],
}  # fmt: skip
# Cases in which only texts, files or headers differ.
IN_SHORT = {"split3", "order_reversed", "seq_over_32bit", "moot_default_alias", "withheld_lone", *KNOWN}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in IN_SHORT else pytest.mark.workflow) for n in case_names()]
)
def test_golden_case(name: str, site: Site) -> None:
    found = BothSides(name, site).process()
    expected = KNOWN.get(name, [(0, set())] * len(found))
    for one, (events, reasons) in zip(found, expected, strict=True):
        assert one.unexplained == 0, one
        assert sum(group.events for group in one.groups if group.where == "here") == events
        assert [group for group in one.groups if group.where == "there"] == []
        assert {group.defect or group.kind for group in one.groups} == reasons
        assert one.status == bool(one.groups)


def test_a_difference_shows_both_sides(site: Site) -> None:
    (found,) = BothSides("edge_equal_last", site).process()
    first, last = "r0741234567-e00000000000000001000.evt", "r0741234567-e00000000000000001117.evt"
    assert [(one.what, one.here, one.there) for one in found.findings if one.what != "events"] == [
        ("files", f"{first} (51 events, MOOT 2959)", f"{first} (51 events, MOOT 4294967280)"),
        ("files", f"{last} (35 events, MOOT 2959)", ""),
        ("text delivered_events", "r0741234567 86 0 LPA", "r0741234567 51 35 LPA"),
        ("text event_gaps", "r0741234567 1087 1117", ""),
    ]


GONE = {"split3_cleaned": {1, 2}, "split3_died": {2}}  # steps of which the legacy has no records of events


@pytest.mark.parametrize("name", case_names(TAKEOVER))
def test_tree_of_the_legacy(name: str, site: Site) -> None:
    sides = BothSides(TAKEOVER / name, site)
    for number, step in enumerate(sides.case.steps[: taken_over(sides.case)], 1):
        sides.site.by_hand(step.downlink)
        found = sides.compared(step.downlink, sides.case.directory / "legacy")
        gone = number in GONE.get(name, set())
        assert found.unexplained == 0, found
        assert {group.kind for group in found.groups} == ({"gone"} if gone else set())
        (run,) = found.runs
        assert run.same == (0 if gone else run.here)
        assert gone or run.here or name == "one_epu"


def test_incomplete_trees_are_refused(site: Site, tmp_path: Path) -> None:
    sides = BothSides(TAKEOVER / "split2", site)
    sides.site.by_hand(FIRST)
    tree = Path(shutil.copytree(TAKEOVER / "split2" / "legacy", tmp_path / "tree"))
    chunk = next((tree / FIRST).glob("*-00001.evt"))
    chunk.unlink()
    with pytest.raises(FormatError, match=f"{chunk.name}: missing"):
        sides.compared(FIRST, tree)
    for text in (tree / FIRST).glob(f"*s_{FIRST}.txt"):
        text.unlink()
    with pytest.raises(MissingInputError, match="not handed off there"):
        sides.compared(FIRST, tree)


@pytest.mark.parametrize(
    ("column", "name"),
    [*enumerate(["sequence", "apid", "datagram", "opening", "closing"], 2)],
)
def test_a_wrong_column_of_an_index_is_told(column: int, name: str, site: Site, tmp_path: Path) -> None:
    sides = BothSides(TAKEOVER / "split2", site)
    sides.site.by_hand(FIRST)
    tree = Path(shutil.copytree(TAKEOVER / "split2" / "legacy", tmp_path / "tree"))
    index = next((tree / FIRST).glob("*/r*-e*.idx"))
    first, *others = index.read_text().splitlines()
    words = first.split()
    words[column] = str(int(words[column]) + 1) if words[column].isdigit() else "stop"
    index.write_text("\n".join([" ".join(words), *others, ""]))
    found = sides.compared(FIRST, tree)
    assert found.status == UNLIKE
    assert any(f"other in the chunks: {name}" in one.text for one in found.findings)


def cut_out(path: Path, number: int) -> int:
    """Take an event out of an event file, whose header is made anew; return its sequence."""
    records = records_of(path.read_bytes())
    write_event_file(path, records[:number] + records[number + 1 :])
    return sequence_of(records[number])


@pytest.fixture
def sides(site: Site) -> BothSides:
    """A complete run, the same on both sides."""
    both = BothSides("complete_basic", site)
    (found,) = both.process()
    assert (found.status, found.groups, found.runs[0].same) == (0, [], 130)
    return both


def flip_a_bit(path: Path) -> int:
    """Change the payload of an event in an event file; return its sequence."""
    records = records_of(path.read_bytes())
    before, changed, behind = records[7][:312], records[7][312] ^ 4, records[7][313:]
    records[7] = before + bytes([changed]) + behind
    write_event_file(path, records)
    return sequence_of(records[7])


def test_difference_is_located_without_chunk_products(sides: BothSides) -> None:
    path = event_file(sides.legacy.stage, FIRST)
    content = path.read_bytes()
    for known in (True, False):
        sequence = flip_a_bit(path)
        group, *others = sides.compared(FIRST).groups
        assert (group.first, group.last, group.events, group.where) == (sequence, sequence, 1, "both")
        assert group.kind == "unexplained"
        assert [other.kind for other in others] == ["unexplained"] * (not known)
        path.write_bytes(content)
        sequence = cut_out(path, 11)
        group, *others = sides.compared(FIRST).groups
        assert (group.first, group.where, group.kind) == (sequence, "here", "unexplained")
        assert len(others) == (not known)
        path.write_bytes(content)
        if known:
            next((sides.site.work / paths.chunks(FIRST)).glob("*-2c2e5787-*.rows")).unlink()
    assert sides.compared(FIRST, sides.site.stage).status == 0, "as ours, whatever the legacy does"


def record_anew(site: Site, path: Path, events: int) -> None:
    """Record a hand-off of the only run of `FIRST` with the bytes that its event file has now."""
    recorded = Deliveries(site.work, RunId(RUN))
    made = recorded.latest()[DownlinkId(FIRST)]
    file = replace(made.files[0], events=events, size=path.stat().st_size, sha256=sha256(path))
    delivered = recorded.publish(replace(made, files=(file,)))
    receipts = series(site.work, DownlinkId(FIRST))
    last = receipts.typed(receipts.records[-1], Receipt)
    run = replace(last.runs[0], delivery=delivered.seal)
    point(site.work / paths.receipt(FIRST), receipts.publish(values(replace(last, runs=(run,)))))


@pytest.mark.parametrize(
    ("harm", "events", "where"), [(flip_a_bit, 130, "both"), (lambda path: cut_out(path, 11), 129, "there")]
)
def test_what_is_wrong_here_is_not_the_legacys(
    harm: Callable[[Path], int], events: int, where: str, sides: BothSides
) -> None:
    path = event_file(sides.site.stage, FIRST)
    sequence = harm(path)
    record_anew(sides.site, path, events)
    found = sides.compared(FIRST)
    (group,) = found.groups
    assert (group.first, group.events, group.where) == (sequence, 1, where)
    assert (group.kind, group.defect, found.unexplained) == ("unexplained", None, 1)


def test_event_missing_in_our_stage_is_unexplained(sides: BothSides) -> None:
    sequence = cut_out(event_file(sides.site.stage, FIRST), 11)
    (group,) = sides.compared(FIRST).groups
    assert (group.first, group.where, group.kind) == (sequence, "there", "unexplained")
    assert group.text.startswith("HalfPipe ")
    sides.site.take(FIRST)
    with pytest.raises(MissingInputError):
        sides.compared(FIRST)


def test_archive_of_deliveries(sides: BothSides, tmp_path: Path) -> None:
    archive = tmp_path / "deliveries" / FIRST[:4]
    archive.mkdir(parents=True)
    shutil.copytree(sides.legacy.stage / FIRST, archive / FIRST)
    assert sides.compared(FIRST, archive.parent).runs[0].same == 130


def test_other_order_of_downlinks(site: Site) -> None:
    both = BothSides("split2", site)
    for step in both.case.steps:
        both.site.by_hand(step.downlink)
    for step in reversed(both.case.steps):
        both.legacy.process(step)
    for downlink, where in ((FIRST, "there"), (SECOND, "here")):
        found = both.compared(downlink)
        assert (found.status, {(g.kind, g.where) for g in found.groups}) == (1, {("elsewhere", where)})
        assert "text retired_runs" in {one.what for one in found.findings}
    (both.legacy.stage / FIRST / f"retired_runs_{FIRST}.txt").write_text("")
    assert both.compared(FIRST).status == 3, "no order gives that"


@pytest.mark.parametrize("case", ["min_epus_one", "gap_quiet_filled"])
def test_missing_event_that_the_rule_delivers_is_unexplained(case: str, site: Site) -> None:
    both = BothSides(case, site)
    (found, *_) = both.process(1)
    assert found.unexplained == 0
    sequence = cut_out(event_file(both.legacy.stage, FIRST), 5)
    found = both.compared(FIRST)
    assert [(group.first, group.kind) for group in found.groups] == [(sequence, "unexplained")]
    assert "the legacy's rule delivers" in found.groups[0].text


def test_exit_status_and_json(sides: BothSides) -> None:
    stage = str(sides.legacy.stage)

    def status(*words: str) -> int:
        return sides.site.halfpipe("compare", *words).status

    assert [status(*words, "--with", stage) for words in ([FIRST], [FIRST, SECOND], [SECOND], [])] == [
        0, 1, 2, 2,
    ]  # fmt: skip
    cut_out(event_file(sides.legacy.stage, FIRST), 11)
    assert status(FIRST, SECOND, "--with", stage) == 3
    (sides.legacy.stage / FIRST / f"retired_runs_{FIRST}.txt").write_text("")
    (one,) = sides.site.told("compare", FIRST, "--with", stage)["downlinks"]
    (group,) = (each for each in one["findings"] if each["what"] == "events")
    assert group.keys() >= {"run", "first", "last", "events", "kind", "defect"}
    assert (one["status"], group["events"], group["kind"]) == (3, 1, "unexplained")
    (run,), said = one["runs"], sides.site.halfpipe("compare", FIRST, SECOND, "--with", stage).out
    head, _, row, line, foot = said.splitlines()
    assert re.findall(r"\d+", head)[1:] == [str(run[side]) for side in ("here", "there", "same")]
    assert row.split()[:4] == [str(group[name]) for name in ("run", "first", "last", "events")]
    (other,) = (each for each in one["findings"] if each != group)
    assert line.startswith(f"  text retired_runs of {other['run']}: {other['here']} here, nothing there: ")
    assert foot.startswith("1 downlink: ")
