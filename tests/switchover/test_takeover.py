"""Runs that the legacy, or a model of it, began are taken over and finished in the workflow."""

import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.decisions import What
from halfpipe.ids import RunId
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.moot_file import UNSET
from halfpipe.state.deliveries import CountedSpan
from halfpipe_switchover.takeover import takeover
from tests.support import forks
from tests.support.golden_cases import build, case_names, cases, check, read_case
from tests.support.harness import events_of
from tests.support.leases import time_passes
from tests.support.ledger_files import content
from tests.support.workflow import Site
from tests.switchover.support.legacy_merge import Legacy
from tests.switchover.support.takeover_cases import TAKEOVER, taken_over


@pytest.mark.parametrize("name", case_names(TAKEOVER))
def test_runs_of_the_legacy_are_finished_here(name: str, site: Site) -> None:
    """Take over the legacy's part of a case, process the rest, and compare with the golden bytes."""
    home, case = legacy(site, name), read_case(TAKEOVER / name)
    theirs, rest = case.steps[: taken_over(case)], case.steps[taken_over(case) :]
    assert take(site, home)["refused"] == {}
    done = {step.downlink for step in theirs}
    assert site.outstanding(*sorted(done)) == frozenset()
    assert not site.stage.exists()
    before = site.tree()
    assert take(site, home)["refused"] == {}
    assert site.tree() == before
    for step in rest:
        site.process(step.downlink, again=step.downlink in done)
        done.add(step.downlink)
        check(site, step)
    assert site.outstanding(*case.downlinks) == frozenset()


FIRST, SECOND, THIRD = "240601001", "240601002", "240602001"
RUN = "2c2e5787"
MET = "741234567"


def tree_of(home: Path) -> dict[str, tuple[bytes, int]]:
    """Return the content and time of each file of the legacy's tree."""
    return {
        str(path.relative_to(home)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(home.rglob("*"))
        if path.is_file()
    }


def legacy(site: Site, name: str) -> Path:
    """Set a site up for a case, and copy the legacy's tree of it."""
    build(TAKEOVER / name, site)
    site.work.mkdir()
    return Path(shutil.copytree(TAKEOVER / name / "legacy", site.home / "legacy"))


def copied(source: Path, to: Path) -> None:
    """Copy the legacy's files of a downlink under another id."""
    shutil.copytree(source, to)
    for path in sorted(to.iterdir()):
        path.rename(path.with_name(path.name.replace(source.name, to.name)))


def take(site: Site, home: Path, *, both: bool = False) -> dict[str, Any]:
    """Take a tree over, and return the report; `both`: of events that both systems delivered."""
    ended = site.halfpipe("takeover", str(home), "--do", "--format", "json")
    report: dict[str, Any] = json.loads(ended.out or ended.said)
    assert ended.status == bool(both or report["refused"])
    return report


def test_without_do_or_of_a_tree_in_which_halfpipe_writes_a_takeover_writes_nothing(site: Site) -> None:
    home = legacy(site, "split3_after2")
    (home / "240601001.rerun").mkdir()
    before = tree_of(home)
    ended = site.halfpipe("takeover", str(home)).good()
    assert "240601001.rerun" in ended.said
    counts = re.findall(r"^ *\d+ (?:downlinks|run [a-z]+)", ended.said, re.MULTILINE)
    assert counts == ["2 downlinks", "  1 run whole"]
    assert f"halfpipe takeover {home} --do" in ended.said
    would = site.told("takeover", str(home))
    assert (would["taken"], would["unchanged"], would["runs"]["whole"]) == (2, 0, [RUN])
    for place in (site.work, site.home, home / "not there"):
        site.halfpipe("takeover", str(place), "--do").bad(str(place))
    site.configure(paths={"stage": str(home / "new")})
    site.halfpipe("takeover", str(home), "--do").bad(str(home / "new"))
    site.configure(paths={"stage": str(site.stage)})
    assert list(site.work.iterdir()) == []
    assert take(site, home)["taken"] == 2
    assert tree_of(home) == before


def test_a_finished_run_is_in_the_ledger_and_cleanup_leaves_the_tree(site: Site) -> None:
    home = legacy(site, "split2")
    site.configure(submit={"command": "true {dl} {rawdir}"}, cleanup={"retention_days": 0})
    before = tree_of(home)
    take(site, home)
    site.snakemake(f"submit={SECOND}").good()
    site.halfpipe("ledger", "check").good()
    site.take(SECOND)
    links = sorted((site.work / FIRST / "chunks").glob("*.evt"))
    assert [link.is_symlink() for link in links] == [True, True]
    site.halfpipe("cleanup", "--do").good()
    assert [link.is_symlink() for link in links] == [True, True], "links use no space of ours"
    assert not list((site.work / FIRST / "chunks").glob("*.rows"))
    assert tree_of(home) == before


def test_downlinks_that_were_taken_over_are_finished(site: Site) -> None:
    home = legacy(site, "split3_cleaned")
    site.configure(submit={"command": "false {dl} {rawdir}", "automatic": True})
    report = take(site, home)
    assert report["runs"]["spans"] == [RUN]
    assert {job.dl for job in site.snakemake("-n").good().jobs} == {THIRD}
    causes = {each["dl"]: each for each in site.told("status", FIRST, SECOND)["downlinks"]}
    assert {each["verdict"] for each in causes.values()} == {"good"}
    assert {each["state"] for each in causes.values()} == {"taken over"}
    site.halfpipe("status", "--check", FIRST, SECOND).good()
    for words in (
        ["show", FIRST],
        ["show", RUN],
        ["show", "--table", "runs", FIRST],
        ["show", "--table", "waiting"],
    ):
        site.halfpipe(*words).good()
    site.halfpipe("find", "--run", RUN).good()
    assert site.halfpipe("ledger", "rebuild").good().out.startswith("0 downlinks "), "only spans are known"
    delivery = site.receipt(SECOND).runs[0].delivery
    assert delivery.counted == (CountedSpan((1073, 1145), None),)
    assert delivery.books.delivered == 35
    site.snakemake(f"dl={FIRST}", "-F").good()
    assert "cannot compare with sequences" in (site.work / paths.done_log(FIRST)).read_text()
    assert site.staged(FIRST).keys() != set()
    assert site.receipt(FIRST).number == 2
    assert take(site, home)["unchanged"] == 2


def test_a_run_with_only_chunks_left_is_known(site: Site) -> None:
    home = legacy(site, "one_epu")
    shutil.rmtree(home / FIRST / MET)
    (home / FIRST / f"r0{MET}_doMerge.txt").unlink()
    assert take(site, home)["runs"]["whole"] == [RUN]


def test_what_shrinks_is_judged_by_the_merged_indexes(site: Site) -> None:
    home = legacy(site, "reprocessed_here")
    source = Path(shutil.copytree(TAKEOVER / "reprocessed_here" / "in", site.home / "less"))
    site.replay(source)
    take(site, home)
    index = next((source / FIRST).glob("*-0957-*.idx"))
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join([lines[0], *lines[2:]]))
    before = (site.work / "runs" / RUN / "deliveries" / "000001.json").read_bytes()
    site.snakemake(f"dl={FIRST}", "-F").bad("1 of 33 delivered events")
    assert (site.work / "runs" / RUN / "deliveries" / "000001.json").read_bytes() == before


def test_a_run_waits_for_a_record_of_the_legacy_that_is_damaged(site: Site) -> None:
    home = legacy(site, "split3_after1")
    spans = home / FIRST / MET / f"r0{MET}-spans.txt"
    good = spans.read_bytes()
    spans.write_bytes(b"cos\nsystem\n(S'touch evil'\ntR.")
    report = take(site, home)
    assert str(spans) in report["refused"][FIRST][0]
    assert report["runs"]["refused"] == [RUN]
    ended = site.snakemake(f"dl={SECOND}")
    ended.bad(str(spans))
    assert site.staged(SECOND) == {}
    said = site.told("status", FIRST)["downlinks"][0]
    assert [cause["code"] for cause in said["causes"]] == ["other-system"]
    spans.write_bytes(good)
    assert take(site, home)["refused"] == {}
    site.snakemake(f"dl={SECOND}").good()
    assert site.staged(SECOND) == read_case(TAKEOVER / "split3_after1").steps[1].expected.files


def test_a_bad_chunk_of_the_legacy_costs_no_other_and_is_tried_again(site: Site) -> None:
    home = legacy(site, "split3_after2")
    damaged, retdef = (
        home / FIRST / "0077014d-2c2e5787-0956-00001.evt",
        home / FIRST / f"RetDef-{FIRST}-00001.xml",
    )
    good = damaged.read_bytes(), retdef.read_bytes()
    damaged.write_bytes(b"torn")
    next((home / SECOND / MET).glob("dgm-*.idx")).write_bytes(b"DGM: garbage\n")
    (home / FIRST / f"moot_keys_{FIRST}.txt").write_text(f"r0{MET} 1 a\nr0{MET} 2 b\n")
    report = take(site, home)
    assert report["refused"].keys() == {FIRST}
    (refused,) = report["refused"][FIRST]
    assert (refused.startswith("chunk 00001: "), str(damaged) in refused) == (True, True)
    assert report["runs"]["whole"] == [RUN]
    deliveries = site.work / paths.deliveries(RunId(RUN))
    assert {path.name for path in deliveries.iterdir()} == {"000001.json", "000002.json"}
    handed = site.receipt(FIRST)
    assert {chunk.chunk for chunk in handed.receipt.chunks if chunk.files} == {"00002", "00003", "00004"}
    assert handed.runs[0].delivery.moot == UNSET
    assert site.outstanding(FIRST) == frozenset()
    damaged.write_bytes(good[0])
    retdef.unlink()
    (refused,) = take(site, home)["refused"][FIRST]
    assert refused.startswith("chunk 00001: ")
    retdef.write_bytes(good[1])
    assert (take(site, home)["refused"], take(site, home)["unchanged"]) == ({}, 2)
    assert all(chunk.files for chunk in site.receipt(FIRST).receipt.chunks)
    (home / "240531001" / "9999999999").mkdir(parents=True)  # no run can start then
    again = take(site, home)
    assert (again["refused"].keys(), again["unchanged"]) == ({"240531001"}, 2)


def test_a_second_takeover_takes_what_arrived_since(site: Site) -> None:
    home = legacy(site, "split3_after1")
    (home / FIRST / "haltOnline").write_text("by hand\n")
    (home / "force").mkdir()
    (home / "force" / "0077014d-2c2e5788").touch()
    assert take(site, home)["abandoned"] == ["2c2e5788"]
    assert (site.work / FIRST / "haltOnline").read_text() == "by hand\n"
    assert "2c2e5788" in site.halfpipe("accept").good().said
    # The legacy cleans up, begins the next downlink, and hands it off.
    for path in home.glob(f"{FIRST}/*.??[tx]"):
        if path.suffix in {".evt", ".idx"}:
            path.unlink()
    shutil.copytree(TAKEOVER / "split3_after2" / "legacy" / SECOND, home / SECOND)
    text = home / SECOND / f"delivered_events_{SECOND}.txt"
    kept = text.read_text()
    text.unlink()
    report = take(site, home)
    assert report["left"] == {"the legacy system has begun it and not handed it off": [SECOND]}
    assert (report["taken"], report["unchanged"], report["abandoned"]) == (0, 1, [])
    text.write_text(kept)
    (home / "lock").mkdir()
    lock = home / "lock" / f"halfpipe-{SECOND}"
    lock.touch()
    os.utime(lock, (2**31, 2**31))
    assert take(site, home)["left"] == {"the legacy system is processing it": [SECOND]}
    os.utime(lock, (1, 1))
    report = take(site, home)
    assert (report["taken"], report["unchanged"], report["left"]) == (1, 1, {})
    site.snakemake(f"dl={THIRD}").good()
    assert site.staged(THIRD) == read_case(TAKEOVER / "split3_after2").steps[2].expected.files
    # Later changes of the legacy to a downlink that was processed here are not taken.
    site.snakemake(f"dl={SECOND}", "-F").good()
    (home / SECOND / MET / f"r0{MET}-spans.txt").write_bytes(b"(lp1\n.")
    (home / SECOND / f"delivered_events_{SECOND}.txt").touch()
    assert take(site, home)["left"] == {"it was processed here": [SECOND]}


def test_a_double_delivery_is_named_and_can_be_undone(site: Site) -> None:
    home = legacy(site, "split3_after1")
    take(site, home)
    site.by_hand(SECOND)
    (span,) = site.receipt(SECOND).runs[0].delivery.spans
    # The legacy goes on: with the downlink that was processed here, and with another one with the same events.
    shutil.copytree(TAKEOVER / "split3_after2" / "legacy" / SECOND, home / SECOND)
    other = "240601005"
    copied(home / SECOND, home / other)
    report = take(site, home, both=True)
    assert (report["taken"], report["left"]) == (1, {"it was processed here": [SECOND]})
    assert report["both"].keys() == {SECOND, other}
    assert all(f"{span[0]} to {span[1]} of run {RUN}" in both for (both,) in report["both"].values())

    def overlaps(dl: str) -> list[tuple[str, str]]:
        said = site.told("status", dl)["downlinks"][0]
        return [
            (cause["first"], cause["do"]) for cause in said["causes"] if cause["code"] == "deliveries-overlap"
        ]

    again = f"snakemake dl={SECOND} -R runs/{RUN}/{SECOND}/manifest.json"
    assert [do for dl in (SECOND, other) for _, do in overlaps(dl)] == [again, again]
    assert overlaps(FIRST) == []
    refused = site.snakemake(f"submit={SECOND}").bad(f"downlinks {SECOND} and {other} both delivered", again)
    assert "-R deliver_run" not in refused.said, "what lies in the stage is as it was handed off"
    site.halfpipe("submit", SECOND, "--settle", "submitted").good()
    assert ["roll" in first for first, _ in overlaps(SECOND)] == [True]
    site.decide(f"{SECOND}/{RUN}", What.SHRUNK)
    site.snakemake(*again.split()[1:]).good()
    assert overlaps(SECOND) == overlaps(other) == []


@pytest.mark.workflow
def test_after_a_kill_at_any_moment_the_next_takeover_ends_the_same(site: Site) -> None:
    home = legacy(site, "split3_after2")
    copied(TAKEOVER / "one_epu" / "legacy" / FIRST, home / "240531001")
    settings = site.settings

    def take_over() -> None:
        assert takeover(settings, home, do=True).refused == {}

    def begin() -> None:
        shutil.rmtree(site.work, ignore_errors=True)
        site.work.mkdir()

    begin()
    moments = len(forks.moments(take_over, site.work))
    assert moments > 100
    expected = site.tree(), content(Ledger.of(settings))
    for number in range(1, moments, max(1, moments // 25)):
        begin()
        assert forks.killed(take_over, site.work, number)
        time_passes(site.work)
        take_over()
        assert (site.tree(), content(Ledger.of(settings))) == expected, (
            f"killed at moment {number} of {moments}"
        )


@pytest.mark.parametrize("name", case_names(TAKEOVER))
def test_the_model_gives_what_the_legacy_wrote(name: str, tmp_path: Path) -> None:
    case, wrote, tree = read_case(TAKEOVER / name), TAKEOVER / name / "legacy", tmp_path / "tree"
    for step in case.steps[: taken_over(case)]:
        Legacy(case, tmp_path).process(step)
    given, mine = (
        {path.relative_to(home): path.read_bytes() for path in home.rglob("*-spans.txt")}
        for home in (wrote, tree)
    )
    assert given.items() <= mine.items()
    assert bool(given) == bool(mine) == (name != "one_epu")
    for path in wrote.rglob("r*-e*.idx"):
        both = (home.read_text().splitlines() for home in (path, tree / path.relative_to(wrote)))
        one, other = ([line.split()[2:4] for line in lines] for lines in both)
        assert one == other


SHARED = [
    (case.name, number)
    for case in cases()
    if len(case.downlinks) == len(case.steps)  # each of them once
    for number in range(1, len(case.steps))
]


Event = tuple[int, int]  # sequence and APID


def by_run(files: dict[str, bytes]) -> Counter[tuple[str, Event]]:
    """Return how often each event is in event files, by run."""
    return Counter(
        (RunId.from_l1(name[:11]), e) for name, content in files.items() for e in events_of(content)
    )


@pytest.mark.workflow
@pytest.mark.parametrize(("name", "number"), SHARED)
def test_every_event_is_delivered_once_except_those_that_the_legacy_loses(
    name: str, number: int, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Site, "typing", False)  # in this process
    case = build(name, site)
    site.work.mkdir()
    legacy = Legacy(case, site.home / "legacy")
    at_level1 = Counter[tuple[str, Event]]()
    spans: dict[str, list[tuple[int, int]]] = {}
    for step in case.steps[:number]:
        for run, merged in legacy.process(step).items():
            at_level1.update((run, (e.sequence, e.apid)) for events in merged.indexes for e in events)
            spans.setdefault(run, []).extend(merged.recorded)
    assert "--do" not in site.halfpipe("takeover", str(legacy.tree), "--do").good().out
    for step in case.steps[number:]:
        site.process(step.downlink)
        at_level1.update(by_run(site.staged(step.downlink)))
    assert {event for event, count in at_level1.items() if count > 1} == set()
    alone = Counter[tuple[str, Event]]()
    for step in case.steps:
        alone.update(by_run(step.expected.files))
    missing = [
        (run, event)
        for run, event in alone.keys() - at_level1.keys()
        if not any(first <= event[0] <= last for first, last in spans.get(run, []))
    ]
    assert missing == []
