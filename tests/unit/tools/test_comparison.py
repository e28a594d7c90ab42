"""`compare`: golden cases and legacy trees with known defects, and differences that were put in."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from halfpipe import paths
from halfpipe.errors import FormatError
from halfpipe.formats import evt
from halfpipe.ids import DownlinkId, RunId
from halfpipe.tools.comparison import compare
from halfpipe.tools.comparison_sides import side_of
from halfpipe_simulator.scenario import Scenario
from tests.support.compared import BothSides, defects
from tests.support.golden_cases import GOLDEN, case_names, read_case
from tests.support.legacy_merge import Legacy, spans_of
from tests.support.verbs import halfpipe
from tests.support.workflow import Site

TAKEOVER = Path(__file__).resolve().parents[2] / "takeover"
FIRST, SECOND = "240601001", "240601002"

# By step: events that are delivered here only, and the defects that explain what differs. The cases that are not here
# differ by none, but for counts of the last span only (1).
KNOWN: dict[str, list[tuple[int, set[int]]]] = {
    "close_abort": [(1, {5})],
    "dup_two_previous": [(0, {3}), (0, {3}), (0, set())],
    "edge_equal_last": [(35, {20})],
    "eventless_edges": [(1, {22})],
    "gap_quiet_filled": [(0, set()), (15, {4})],
    "lci_gap_filled": [(0, set()), (17, {9})],
    "min_epus_one": [(0, {7})],
    "moot_default_alias": [(0, {25})],
    "one_epu_then_other": [(0, {3}), (0, set())],
    "order_reversed": [(0, {3}), (0, {3}), (0, set())],
    "runid_small": [(40, {35})],
    "tail_partner_exhausted": [(40, {20})],
    "third_epu_late_again": [(0, set()), (67, {3}), (18, {3})],
    "three_epus": [(110, {3})],
    "withheld_lone": [(0, set()), (0, {11, 39})],
    "zero_handlers": [(0, {26})],
}
IN_SHORT = {"split3", *KNOWN}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in IN_SHORT else pytest.mark.workflow) for n in case_names()]
)
def test_golden_case(name: str, site: Site, tmp_path: Path) -> None:
    case = read_case(GOLDEN / name)
    found = BothSides(case, tmp_path, site).process()
    expected = KNOWN.get(name, [(0, set())] * len(case.steps))
    for one, (events, numbers) in zip(found, expected, strict=True):
        assert one.unexplained == 0, one
        assert sum(group.events for group in one.groups if group.where == "here") == events
        assert [group for group in one.groups if group.where == "there"] == []
        assert defects(one) - {1} == numbers
        assert one.status == bool(one.groups)


TREES = [path.parent.name for path in sorted(TAKEOVER.glob("*/case.yaml"))]


def test_all_legacy_trees_are_there() -> None:
    assert len(TREES) == 9


@pytest.mark.parametrize("name", TREES)
def test_the_models_spans_are_those_of_the_legacy(name: str, tmp_path: Path) -> None:
    home = TAKEOVER / name
    case = read_case(home)
    steps = yaml.safe_load((home / "case.yaml").read_text())["taken_over"]
    model = Legacy(case, tmp_path)
    for step in case.steps[:steps]:
        model.process(step)
    recorded = {path.parent.parent.name: path for path in home.glob("legacy/*/*/r*-spans.txt")}
    spans = next(iter(model.spans.values()))
    assert recorded.keys() <= spans.keys()
    for downlink, path in recorded.items():
        assert spans[downlink] == spans_of(path)
    for path in home.glob("legacy/*/delivered_events_*.txt"):
        ours = tmp_path / path.parent.name / path.name
        assert sorted(ours.read_text().split("\n")) == sorted(path.read_text().split("\n"))


GONE = {"split3_cleaned": {1, 2}, "split3_died": {2}}  # steps of which the legacy has no records of events


@pytest.mark.parametrize("name", TREES)
def test_what_the_legacy_left(name: str, site: Site, tmp_path: Path) -> None:
    home = TAKEOVER / name
    case = read_case(home)
    steps = yaml.safe_load((home / "case.yaml").read_text())["taken_over"]
    sides = BothSides(case, tmp_path, site)
    for number, step in enumerate(case.steps[:steps], 1):
        sides.site.by_hand(step.downlink)
        found = sides.compared(step.downlink, home / "legacy")
        gone = number in GONE.get(name, set())
        assert found.unexplained == 0, found
        assert {group.kind for group in found.groups} == ({"gone"} if gone else set())
        (run,) = found.runs
        assert run.same == (0 if gone else run.here)
        assert gone or run.here or name == "one_epu"


def test_chunks_that_the_legacy_has_cleaned_up(site: Site, tmp_path: Path) -> None:
    sides = BothSides(read_case(TAKEOVER / "split2"), tmp_path, site)
    sides.site.by_hand(FIRST)
    tree = tmp_path / "tree"
    shutil.copytree(TAKEOVER / "split2" / "legacy", tree)
    min((tree / FIRST).glob("*.evt")).unlink()
    found = sides.compared(FIRST, tree)
    assert [(group.kind, group.events) for group in found.groups] == [("gone", 51)]
    assert (found.unexplained, found.status) == (0, 1)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "EVT: 1 2 3\n",
        f"EVT: 741234567 x 956 0 start continue 176 {FIRST}/a.evt\n",
        "EVT: 741234567 1 956 0 start continue 176 ../../a.evt\n",
    ],
)
def test_an_index_of_the_legacy_that_is_none(line: str, tmp_path: Path) -> None:
    tree = tmp_path / "legacy"
    shutil.copytree(TAKEOVER / "split2" / "legacy", tree)
    (index,) = (tree / FIRST / "741234567").glob("r*-e*.idx")
    index.write_text(line)
    with pytest.raises(FormatError, match=f"{index.name}: no merged index of the legacy: "):
        side_of(tree, DownlinkId(FIRST)).delivered(DownlinkId(FIRST), RunId("2c2e5787"))


def only_file(stage: Path, downlink: str) -> Path:
    (path,) = (stage / downlink).glob("*/*.evt")
    return path


@pytest.fixture
def sides(site: Site, tmp_path: Path) -> BothSides:
    """A complete run, the same on both sides."""
    both = BothSides(read_case(GOLDEN / "complete_basic"), tmp_path, site)
    (found,) = both.process()
    assert (found.status, found.groups, found.runs[0].same) == (0, [], 130)
    return both


def records(path: Path) -> tuple[bytes, list[bytes], list[int]]:
    """Return the header of an event file, its records and their sequences."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    offsets = evt.walk(data, "")
    ends = [*offsets[1:].tolist(), len(data)]
    cut = [data[a:b].tobytes() for a, b in zip(offsets, ends, strict=True)]
    return (
        data[: evt.HEADER_SIZE].tobytes(),
        cut,
        evt.context_column(data, offsets, "scalers_sequence").tolist(),
    )


def cut_out(path: Path, *numbers: int) -> list[int]:
    """Take events out of an event file; return their sequences."""
    header, every, sequences = records(path)
    path.write_bytes(header + b"".join(record for n, record in enumerate(every) if n not in numbers))
    return [sequences[number] for number in numbers]


def test_what_was_put_in_is_found(sides: BothSides) -> None:
    path, ours = only_file(sides.legacy.stage, FIRST), only_file(sides.site.stage, FIRST)
    good = path.read_bytes()
    header, every, sequences = records(path)

    def found(content: bytes) -> tuple[int, list[tuple[str, int, str, int | None]]]:
        path.write_bytes(content)
        result = sides.compared(FIRST)
        return result.status, [(g.where, g.events, g.kind, g.defect) for g in result.groups]

    flipped = bytearray(every[7])
    flipped[312] ^= 4  # in the payload of the event
    flipped_in = header + b"".join([*every[:7], bytes(flipped), *every[8:]])
    assert found(flipped_in) == (3, [("both", 1, "unexplained", None)])
    assert sides.compared(FIRST).groups[0].first == sequences[7]
    assert found(good + every[-1]) == (3, [("there", 0, "unexplained", None)]), "an event twice"
    other_header = bytearray(good)
    other_header[12] ^= 1  # secs_beg
    assert found(bytes(other_header)) == (3, [])
    fields = [(one.field, one.defect) for one in sides.compared(FIRST).runs[0].headers]
    assert fields == [("secs_beg", None), ("moot_key", 24), ("moot_alias", 24)]
    status, groups = found(good[:-100])  # cut by a full disk
    assert (status, {group[3] for group in groups}, sum(group[1] for group in groups)) == (1, {31}, 130)

    path.write_bytes(good)
    gone = cut_out(path, 11, 60)
    groups_found = sides.compared(FIRST).groups
    assert [(g.first, g.where, g.kind) for g in groups_found] == [(s, "here", "unexplained") for s in gone]
    path.write_bytes(header + b"".join(every[:50]))  # another cut is no other event
    rest = path.with_name(paths.event_file("r0741234567", sequences[50]))
    rest.write_bytes(header + b"".join(every[50:]))
    result = sides.compared(FIRST)
    assert (result.status, result.groups) == (0, [])
    rest.unlink()
    path.write_bytes(good)
    (sequence,) = cut_out(ours, 11)  # what is gone from the stage here is not called an orphan
    (group,) = sides.compared(FIRST).groups
    assert (group.first, group.where, group.kind) == (sequence, "there", "unexplained")


def test_after_level1_took_the_stage_the_chunks_are_read(sides: BothSides) -> None:
    sides.site.take(FIRST)
    found = sides.compared(FIRST)
    assert (found.status, found.runs[0].same) == (0, 130)
    assert found.runs[0].headers == [], "the files are gone"
    shutil.rmtree(sides.site.work / paths.chunks(FIRST))
    found = sides.compared(FIRST)
    assert found.status == 3
    assert "no such event file" in found.groups[0].text


def test_without_the_events_that_are_known_here_no_reason_is_sought(sides: BothSides) -> None:
    (sides.site.work / paths.events("2c2e5787", FIRST)).unlink()
    assert sides.compared(FIRST).status == 0
    cut_out(only_file(sides.legacy.stage, FIRST), 11)
    (group,) = sides.compared(FIRST).groups
    assert (group.events, group.kind) == (1, "unexplained")
    assert group.text.endswith(f"were cleaned up: snakemake -F dl={FIRST} makes them again")
    sides.site.take(FIRST)
    (group,) = sides.compared(FIRST).groups
    assert (group.where, group.events, group.kind) == ("there", 129, "unexplained")


@pytest.mark.parametrize(
    ("name", "line", "run", "status"),
    [
        ("retired_runs", "r0000000001 COMPLETE", "r0000000001", 3),  # a run that nobody has
        ("delivered_events", "r0741234567 131 0 LPA", "r0741234567", 3),
        ("delivered_events", "r0741234567 99 0 LPA", "r0741234567", 0),  # of the last span only
        ("delivered_events", "r0741234567 130 9 LPA", "r0741234567", 0),
        ("delivered_events", "r0741234567 x 0 LPA", "r0741234567", 3),
        ("event_gaps", "r0741234567 1 2", "r0741234567", 3),
    ],
)
def test_a_text_that_differs(sides: BothSides, name: str, line: str, run: str, status: int) -> None:
    text = sides.legacy.stage / FIRST / f"{name}_{FIRST}.txt"
    others = [one for one in text.read_text().splitlines() if not one.startswith(run)]
    text.write_text("\n".join([*others, line]) + "\n")
    found = sides.compared(FIRST)
    (other,) = (one for one in found.texts if one.text == name)
    assert (other.run, other.there, found.status) == (run, (line,), status)
    assert (other.reason.kind == "unexplained") == bool(status)


def test_with_an_archive_and_another_working_directory(sides: BothSides, tmp_path: Path) -> None:
    archive = tmp_path / "deliveries" / FIRST[:4]
    archive.mkdir(parents=True)
    shutil.copytree(sides.legacy.stage / FIRST, archive / FIRST)
    assert sides.compared(FIRST, archive.parent).runs[0].same == 130
    other = sides.site.clone(tmp_path / "other")
    found = sides.compared(FIRST, other.work)
    assert (found.status, found.runs[0].same, found.runs[0].headers) == (0, 130, [])


def test_a_run_that_another_downlink_completes_as_the_order_was_another_one(
    site: Site, tmp_path: Path
) -> None:
    made = Scenario(seed=3, downlinks=(FIRST, SECOND), magic7=False)
    out = made.lci_run(events=40, parts=2, per_datagram=5).write(tmp_path / "simulated").path
    site.configure(paths={"level0": str(out / "level0")}, magic7={"command": None})
    site.add_retdefs(out / "downlinks", FIRST, SECOND)
    other = site.clone(tmp_path / "other")
    for one, order in ((site, (FIRST, SECOND)), (other, (SECOND, FIRST))):
        for downlink in order:
            one.by_hand(downlink)
    for where in (other.work, other.stage):
        for downlink in (FIRST, SECOND):
            found = compare(site.settings, DownlinkId(downlink), where)
            assert [text.text for text in found.texts if text.reason.kind == "elsewhere"] == ["retired_runs"]
            assert (found.status, found.unexplained, found.groups) == (0, 0, [])
    for place in other.stage.glob("*/retired_runs_*"):
        place.write_text("")
    found = compare(site.settings, DownlinkId(SECOND), other.stage)
    assert found.unexplained == 1, "nobody says it there"


def test_delivered_with_another_downlink_there(site: Site, tmp_path: Path) -> None:
    both = BothSides(read_case(GOLDEN / "split2"), tmp_path, site)
    both.process()
    # The legacy's second downlink has what the first one delivers here.
    moved = both.legacy.stage / FIRST / "r0741234567"
    for path in moved.glob("*.evt"):
        path.rename(both.legacy.stage / SECOND / moved.name / path.name)
    here, there = (both.compared(downlink) for downlink in (FIRST, SECOND))
    assert {(g.kind, g.where, g.events) for g in here.groups} == {("elsewhere", "here", 51)}
    assert {(g.kind, g.where, g.events) for g in there.groups} == {("elsewhere", "there", 51)}
    assert (here.status, there.status) == (1, 1)


def test_an_orphan_that_was_delivered_there(site: Site, tmp_path: Path) -> None:
    both = BothSides(read_case(GOLDEN / "split2"), tmp_path, site)
    (found,) = both.process(1)
    assert found.status == 0
    step = both.case.steps[0]
    _, events = both.legacy.known(step.runs[0], step.downlink)
    shutil.rmtree(both.legacy.stage / FIRST / "r0741234567")
    both.legacy.write(events, both.legacy.stage / FIRST / "r0741234567", "r0741234567", int(FIRST))
    found = both.compared(FIRST)
    assert {(g.kind, g.where) for g in found.groups} == {("orphan", "there")}
    assert sum(g.events for g in found.groups) == 9


def test_the_verb(sides: BothSides) -> None:
    def status(*words: str) -> int:
        return halfpipe("compare", *words, configfile=sides.site.configfile).exit_code

    stage = str(sides.legacy.stage)
    assert status(FIRST, "--with", stage) == 0
    cut_out(only_file(sides.legacy.stage, FIRST), 11)
    assert status(FIRST, "--with", stage) == 3
    assert status(FIRST, SECOND, "--with", stage) == 2, "the second has no receipt"
    assert status(FIRST, "--with", str(sides.site.retdefs / "nothing")) == status("--with", stage) == 2
    ended = halfpipe("compare", FIRST, "--with", stage, "--json", configfile=sides.site.configfile)
    (one,) = json.loads(ended.stdout)["downlinks"]
    (group,) = one["runs"][0]["groups"]
    assert (one["status"], group["events"], group["kind"]) == (3, 1, "unexplained")
