"""What a chunk should have against what it has, through the real jobs: level-0 hours, events, damage, times."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest
import yaml

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.decode import shortfall
from halfpipe.ids import DownlinkId
from halfpipe.status.account import Survey, account
from halfpipe_simulator.scenario import Scenario
from tests.support.golden_cases import GOLDEN, build
from tests.support.leases import held_by_another, time_passes
from tests.support.workflow import Site

DL, LATER = DownlinkId("230401001"), DownlinkId("230401002")
GOLDEN_DL = DownlinkId("240601001")


def troubles(site: Site, downlink: DownlinkId) -> list[Cause]:
    return list(shortfall.troubles(site.settings, downlink, site.receipt(downlink)["chunks"]))


def test_a_level_0_hour_that_is_missing_is_named_and_told_when_it_arrives(site: Site, tmp_path: Path) -> None:
    scenario = Scenario(seed=7, downlinks=(DL,)).lpa_run(events=450, rate=0.4)
    level0 = site.simulate(scenario).level0  # of two archive hours
    _, second = sorted(level0.glob("src0077/*/*/*/utc*"))
    away = second.rename(tmp_path / second.name)
    site.process(DL)
    entry = site.receipt(DL)["chunks"][0]["level0"]
    hour = str(second.relative_to(level0))
    assert entry == {"needed": 2, "missing": [{"hour": hour, "apid": 956}]}
    chunk = json.loads((site.work / paths.chunk(DL, "00001")).read_text())
    assert chunk["level0"] == entry
    found = troubles(site, DL)
    wanting = {(cause.code, *cause.remedy.do) for cause in found if cause.verdict is Verdict.ACTION}
    assert wanting == {("level0-missing", f"snakemake dl={DL} -R decode_chunk")}
    for words in ([], ["--check"]):
        ended = site.halfpipe("status", *words, f"dl={DL}")
        assert (ended.status, hour in ended.said) == (1, True), ended.said
    groups = site.told("explain", DL)["groups"]
    assert {group["do"] for group in groups} == {f"snakemake dl={DL} -R decode_chunk"}
    assert all("was decoded without 1 level-0 hour of EPU 95" in " ".join(group["why"]) for group in groups)

    away.rename(second)
    assert {cause.code for cause in troubles(site, DL)} == {"decoder-exceptions", "level0-arrived"}
    assert shortfall.arrived_since(site.settings, DL, {}) == [], "no RetDef is looked for"
    assert shortfall.arrived_since(site.settings, DL, chunk) == [{"hour": hour, "apid": 956}]
    site.snakemake(f"dl={DL}", "-R", "decode_chunk").good()
    assert troubles(site, DL) == site.told("explain", DL)["groups"] == []
    assert site.receipt(DL)["runs"][0]["delivered"] == 450


def test_level_0_that_was_being_copied_is_told_once_it_has_grown(site: Site) -> None:
    scenario = Scenario(seed=7, downlinks=(DL,)).lpa_run(events=200, rate=0.4)
    level0 = site.simulate(scenario).level0
    first = min(level0.glob("src0077/*/*/*/utc*/*a0956*"))
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) * 2 // 3])
    site.snakemake(f"dl={DL}").good()
    read = json.loads((site.work / paths.chunk(DL, "00001")).read_text())["read"]
    status = first.stat()
    assert read[str(first.relative_to(level0))] == [status.st_size, int(status.st_mtime)]
    events = site.receipt(DL)["runs"][0]["known"]
    codes = {cause.code for cause in account(Survey(site.settings), DL).causes}
    assert ("level0-grown" in codes, "decoder-exceptions" in codes) == (False, True), codes
    first.write_bytes(whole)
    (cause,) = [one for one in account(Survey(site.settings), DL).causes if one.code == "level0-grown"]
    assert (cause.verdict, str(cause.remedy)) == (Verdict.ACTION, f"snakemake dl={DL} -R decode_chunk")
    assert "level0-grown" not in {
        one.code for one in account(Survey(site.settings, time.time() + 15 * 86400), DL).causes
    }
    decoded = json.loads((site.work / paths.chunk(DL, "00001")).read_text())
    told = [list(shortfall.grown(site.settings, DL, decoded, since)) for since in (0.0, time.time() + 60)]
    assert told == [[cause], []]
    site.snakemake(*cause.remedy.do[0].split()[1:]).good()
    codes = {cause.code for cause in account(Survey(site.settings), DL).causes}
    assert codes.isdisjoint({"level0-grown", "decoder-exceptions"})
    assert site.receipt(DL)["runs"][0]["known"] == 200 > events


def test_an_archive_that_cannot_be_seen_is_not_looked_at(site: Site) -> None:
    build("complete_basic", site)
    site.process(GOLDEN_DL)
    assert {chunk["level0"]["missing"] for chunk in site.receipt(GOLDEN_DL)["chunks"]} == {None}
    assert troubles(site, GOLDEN_DL) == []


def test_events_that_are_announced_and_not_there_are_told(site: Site) -> None:
    build("complete_basic", site)
    site.misbehave(GOLDEN / "complete_basic" / "in", f"--fault={GOLDEN_DL}-00001=line-less")
    site.process(GOLDEN_DL)
    (index,) = [file for file in site.receipt(GOLDEN_DL)["chunks"][0]["files"] if file["kind"] == "idx"]
    assert index["missing_events"] == 1
    (cause,) = troubles(site, GOLDEN_DL)
    assert (cause.code, cause.verdict) == ("events-missing", Verdict.ACTION)
    site.configure(decoder={"max_missing_events": 0})
    site.snakemake(f"dl={GOLDEN_DL}", "-F").bad("decoder.max_missing_events (0)")


def flip(site: Site, downlink: str) -> list[Path]:
    """Flip 40 bytes of the EBF of the last record of each evt file of a downlink, which nothing else looks at."""
    files = sorted((site.work / paths.chunks(downlink)).glob("*.evt"))
    for path in files:
        index = path.with_suffix(".idx").read_text().splitlines()
        last = max(int(line.split()[13]) for line in index if line.startswith("EVT:"))
        content = bytearray(path.read_bytes())
        for at in range(last + 312, last + 352):
            content[at] ^= 0xFF
        path.write_bytes(content)
    return files


def test_damage_to_kept_orphans_is_found_before_they_are_delivered(site: Site) -> None:
    case = build("split2", site)
    first, second = case.downlinks
    site.process(first)
    flipped = flip(site, first)
    ended = site.snakemake(f"dl={second}").bad("mv ")
    assert not site.has_receipt(second)
    assert site.staged(second) == {}
    command = next(line for line in ended.said.splitlines() if "mv " in line)
    _, old, new, *_ = command[command.index("mv ") :].replace(";", "").split()
    assert Path(old) in flipped
    Path(old).rename(new)
    site.process(second)
    assert site.staged(second) == case.steps[1].expected.files


def test_a_person_who_says_that_events_are_gone_is_not_asked_again_unless_more_are(site: Site) -> None:
    chunk = {
        "chunk": "00003",
        "files": [
            {"run": "29d7d35d", "apid": "0956", "missing_events": 12, "announced": 60, "uncovered_bytes": 0}
        ],
        "said": {"exceptions": {}},
    }

    def found() -> Cause:
        (cause,) = shortfall.troubles(site.settings, DL, [chunk])
        return cause

    first = found()
    assert first.verdict is Verdict.ACTION
    wanted = re.search(r"in the config: (ignore: .*\]\}); else ", first.remedy.first)
    assert wanted is not None
    key = yaml.safe_load(wanted[1])["ignore"]["events"]
    assert key == [{"dl": DL, "chunk": "00003", "events": 12, "reason": "..."}]
    key[0]["reason"] = "lost in the decoder, says N. N., 2026-11-26"
    site.configure(ignore={"events": key})
    assert found() == Cause(
        "events-missing",
        Verdict.NOTE,
        f"{first.text}; gone for good: lost in the decoder, says N. N., 2026-11-26",
    )
    chunk["files"][0]["missing_events"] = 13  # type: ignore[index]
    assert found().verdict is Verdict.ACTION
    chunk["chunk"] = "00004"
    assert found().verdict is Verdict.ACTION


def test_late_events_need_action_who_delivers_them_or_does_without(site: Site) -> None:
    case = build("third_epu_late_again", site)
    for step in case.steps[:-1]:
        site.process(step.downlink)

    def told(downlink: str) -> list[Cause]:
        causes = account(Survey(site.settings), DownlinkId(downlink)).causes
        return [cause for cause in causes if cause.code == "late-events"]

    late = {dl: run["late"] for dl in case.downlinks for run in site.receipt(dl)["runs"] if run["late"]}
    assert {dl for dl in case.downlinks if told(dl)} == set(late)
    ((downlink, events),) = late.items()
    (cause,) = told(downlink)
    assert (cause.verdict, cause.text.startswith(f"{events} late event")) == (Verdict.ACTION, True)
    entry = re.search(r"in the config: ignore: (\{.*\}); ", cause.remedy.first)
    assert entry is not None
    ignore = yaml.safe_load(entry[1])
    site.configure(ignore=ignore)
    (cause,) = told(downlink)
    assert (cause.verdict, cause.text.endswith("; not delivered: ...")) == (Verdict.NOTE, True)
    ignore["late"][0]["events"] -= 1
    site.configure(ignore=ignore)
    assert told(downlink)[0].verdict is Verdict.ACTION, "there are more of them"
    (do,) = {group["do"] for group in site.told("explain", downlink)["groups"] if group["kind"] == "late"}
    assert do.startswith(f"snakemake dl={case.downlinks[0]} -R ")
    site.snakemake(*do.split()[1:]).good()
    assert not any(map(told, case.downlinks)), "what was done helps"


def test_a_lease_of_a_dead_host_hides_nothing(site: Site) -> None:
    build("complete_basic", site)
    with held_by_another(site.work, paths.downlink_lease(GOLDEN_DL), silent=1e4):
        assert account(Survey(site.settings), GOLDEN_DL).state == "cut off"
    site.process(GOLDEN_DL)
    shutil.rmtree(site.stage / GOLDEN_DL)

    def codes() -> set[str]:
        return {cause.code for cause in account(Survey(site.settings, time.time()), GOLDEN_DL).causes}

    with held_by_another(site.work, paths.downlink_lease(GOLDEN_DL)):
        assert codes() == {"in-work"}, "its files come and go"
        time_passes(site.work)
        assert codes() >= {"stage-gone"}


@pytest.fixture
def made(site: Site) -> Site:
    """A site with a run of two downlinks, and a copy of its archive beside the archive."""
    scenario = Scenario(seed=2, downlinks=[DL, LATER])
    simulation = site.simulate(scenario.lpa_run(events=400, parts=2, rate=0.5))
    shutil.copytree(simulation.level0, site.home / "copy")
    site.configure(
        level0={
            "fetch": f"sh -c 'cp {site.home}/copy/{{hour}}/s* {{out}}'",
            "cache": str(site.home / "cache"),
        },
    )
    return site


def hand_off(site: Site) -> dict[str, bytes]:
    return {name: content for name, content in site.tree().items() if name.startswith(("stage/", "work/dl="))}


def test_with_level_0_that_is_fetched_the_hand_off_is_the_same(made: Site, tmp_path: Path) -> None:
    gone = made.clone(tmp_path / "gone")
    shutil.rmtree(gone.home / "simulated" / "level0" / "src0077")
    for site in (made, gone):
        site.process(DL)
        if site is gone:
            # What a merge needs of another downlink is decoded again, from the cache as well.
            for path in (site.work / paths.chunks(DL)).glob("*.evt"):
                path.unlink()
        site.process(LATER)
    assert not (made.home / "cache").exists()
    assert list((gone.home / "cache").glob("src0077/*/*/*/utc*"))
    assert hand_off(gone) == hand_off(made)
    shutil.rmtree(gone.home / "cache")
    assert gone.outstanding(DL, LATER) == frozenset()
