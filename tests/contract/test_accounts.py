"""Compare what a chunk should have with what it has, in real jobs: level-0 hours, events, damage, times."""

import re
import shutil
import time
from pathlib import Path

from msgspec.structs import replace

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.decisions import Decisions, What
from halfpipe.decode import shortfall
from halfpipe.decode.chunk import Chunk, Gap, Hour, Level0
from halfpipe.formats import met
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import ChunkId, DownlinkId
from halfpipe.status.account import account
from halfpipe.status.survey import Survey
from halfpipe.words import utc
from halfpipe_simulator.packet_reader import read_datagrams
from halfpipe_simulator.packets import make_packet
from halfpipe_simulator.scenario import Scenario
from tests.support.golden_cases import GOLDEN, build
from tests.support.leases import held_by_another, time_passes
from tests.support.workflow import Site

DL, LATER = DownlinkId("230401001"), DownlinkId("230401002")
GOLDEN_DL = DownlinkId("240601001")


def causes(site: Site, later: float = 0.0) -> dict[str, Cause]:
    """Return what the account says of level-0 and of decoding, `later` seconds from now."""
    found = site.causes(DL, later).items()
    return {code: cause for code, cause in found if code.startswith(("level0-", "decoder-"))}


def level0_files(site: Site, l0keys: int = 1) -> list[Path]:
    """Simulate a run of 200 events; return the level-0 files of EPU 956."""
    scenario = Scenario(seed=7, downlinks=(DL,), l0keys=l0keys).lpa_run(events=200, rate=0.4)
    return sorted(site.simulate(scenario).level0.glob("src0077/*/*/*/utc*/*a0956*"))


def check_repaired(site: Site, events: int = 200) -> None:
    """Follow the remedy of level-0 that arrived; then nothing is missing any more."""
    found = causes(site)
    assert found["level0-arrived"].verdict is Verdict.ACTION
    assert "level0-missing" not in found
    (command,) = found["level0-arrived"].remedy.do
    assert command == f"snakemake dl={DL} -R decode_chunk"
    site.snakemake(*command.split()[1:]).good()
    assert causes(site) == {}
    assert site.receipt(DL).runs[0].delivery.books.known == events


def test_a_missing_level_0_hour_is_named_until_it_arrives(site: Site, tmp_path: Path) -> None:
    scenario = Scenario(seed=7, downlinks=(DL,)).lpa_run(events=450, rate=0.4)
    level0 = site.simulate(scenario).level0  # of two archive hours
    _, second = sorted(level0.glob("src0077/*/*/*/utc*"))
    away = second.rename(tmp_path / second.name)
    site.process(DL)
    chunk = site.receipt(DL).receipt.chunks[0]
    hour = str(second.relative_to(level0))
    (span,) = read_retdef(site.work / paths.retdef(DL, ChunkId("00001"))).spans
    gap = Gap(956, chunk.gaps[0].begin, span.end)
    assert chunk.level0 == Level0(2, (Hour(hour, 956),), (gap,))
    cause, command = causes(site)["level0-missing"], f"snakemake dl={DL} -R decode_chunk"
    assert (cause.verdict, *cause.remedy.do) == (Verdict.ACTION, command)
    for words in ([], ["--check"]):
        ended = site.halfpipe("status", *words, f"dl={DL}")
        assert (ended.status, hour in ended.said) == (1, True), ended.said
    for group in site.told("explain", DL)["groups"]:
        assert (group["do"], "without 1 level-0 hour" in " ".join(group["why"])) == (command, True)
    receipt = site.work / paths.receipt(DL)
    aside = receipt.rename(tmp_path / "receipt")
    assert "level0-missing" in causes(site), "before the hand-off, too"
    aside.rename(receipt)

    away.rename(second)
    (file,) = second.glob("*a0956*")
    assert shortfall.arrived_since(site.settings, chunk) == [(hour, 956, file.name)]
    check_repaired(site, events=450)
    assert site.receipt(DL).runs[0].delivery.events == 450
    assert site.told("explain", DL)["groups"] == []


def test_an_hour_that_no_chunk_has_is_one_cause_and_the_hand_off_heals(site: Site, tmp_path: Path) -> None:
    scenario = Scenario(seed=7, downlinks=(DL,)).lpa_run(events=200, rate=0.4)
    level0 = site.simulate(scenario).level0
    (hour,) = level0.glob("src0077/*/*/*/utc*")
    away = hour.rename(tmp_path / hour.name)
    site.configure(submit={"automatic": True, "command": "true {dl}"})
    site.work.mkdir(exist_ok=True)
    site.halfpipe("unattended")
    chunks = site.receipt(DL).receipt.chunks
    assert len([chunk for chunk in chunks if chunk.missing_hours]) == len(chunks) > 1
    assert site.receipt(DL).runs[0].delivery.events == 0

    every = account(Survey(site.settings), DL)
    assert [cause.code for cause in every.causes].count("level0-missing") == 1
    assert every.state == "handed off 1, no event files"
    assert {chunk.chunk for chunk in chunks} <= set(re.findall(r"\d{5}", causes(site)["level0-missing"].text))
    told = site.halfpipe("explain", DL)
    command = f"snakemake dl={DL} -R decode_chunk"
    assert (told.status, command in told.out, told.out.count("level-0 hours")) == (1, True, 1)
    assert [cause["code"] for cause in site.told("explain", DL)["causes"]] == ["level0-missing"]

    away.rename(hour)
    check_repaired(site)
    assert site.receipt(DL).runs[0].delivery.events == 200
    assert site.halfpipe("explain", DL).status == 0
    site.halfpipe("unattended")
    assert account(Survey(site.settings), DL).submitted == 2


def test_a_second_file_of_an_hour_that_arrives_after_decoding_is_reported(site: Site, tmp_path: Path) -> None:
    _, second = level0_files(site, l0keys=2)
    away = second.rename(tmp_path / second.name)
    site.process(DL)
    assert site.receipt(DL).runs[0].delivery.books.known < 200
    assert {code: cause.verdict for code, cause in causes(site).items()} == {
        "level0-missing": Verdict.ACTION,
        "decoder-exceptions": Verdict.NOTE,
    }
    away.rename(second)
    assert second.name in causes(site)["level0-arrived"].text
    # Ingest does not merge into an hour after so long.
    assert "level0-arrived" not in causes(site, 15 * 86400)
    check_repaired(site)


def test_later_packets_in_an_hour_are_not_news_for_a_chunk_that_is_complete(site: Site) -> None:
    first, second = level0_files(site, l0keys=2)
    site.process(DL)
    made = site.tree()
    later = make_packet(apid=956, seconds=int(met.unix_to_met(time.time())))
    part = first.with_name("part")  # ingest writes another file, and moves the old one away
    part.write_bytes(first.read_bytes() + later)
    first.unlink()
    part.rename(first)
    second.with_name(f"{second.name[:-1]}9").write_bytes(later)
    for chunk in site.receipt(DL).receipt.chunks:
        assert shortfall.arrived_since(site.settings, chunk) == []
    assert account(Survey(site.settings), DL).verdict is not Verdict.ACTION
    assert causes(site) == {}
    assert site.outstanding(DL) == frozenset()
    assert site.tree() == made


def test_a_file_that_is_cut_between_two_packets_is_reported(site: Site) -> None:
    file = level0_files(site)[0]
    (span,) = (
        each
        for each in read_retdef(site.retdefs / paths.retdef(DL, ChunkId("00001"))).spans
        if each.apid == 956
    )
    packets = read_datagrams(site.home / "simulated" / "level0", 77, 956, [(span.begin, span.end)])
    whole, cut = file.read_bytes(), int(packets.packets["offset"][packets.begins[len(packets) // 2]])
    file.write_bytes(whole[:cut])
    site.process(DL)
    assert site.receipt(DL).receipt.chunks[0].log.exceptions == {}, "the decoder noticed nothing"
    cause = causes(site)["level0-missing"]
    assert (cause.verdict, *cause.remedy.do) == (Verdict.ACTION, f"snakemake dl={DL} -R decode_chunk")
    told = site.halfpipe("status", f"dl={DL}")
    assert (told.status, utc(span.end)[11:] in told.said) == (1, True), told.said
    assert {group["do"] for group in site.told("explain", DL)["groups"]} == {*cause.remedy.do}
    file.write_bytes(whole)
    check_repaired(site)


def test_events_that_are_gone_for_good_are_accepted_by_their_number(site: Site) -> None:
    """The decoder announces one event more than it writes."""
    build("complete_basic", site)
    site.misbehave(GOLDEN / "complete_basic" / "in", f"--fault={GOLDEN_DL}-00001=line-less")
    site.process(GOLDEN_DL)
    (chunk, *_) = site.receipt(GOLDEN_DL).receipt.chunks
    assert chunk.level0 is not None
    assert chunk.level0.missing is None, "its archive is not there"

    def found(chunk: Chunk = chunk) -> Cause:
        (cause,) = shortfall.shortfall_causes(Decisions.read(site.work), chunk.downlink, [(chunk, [])])
        return cause

    first = found()
    assert (first.code, first.verdict) == ("events-missing", Verdict.ACTION)
    assert first.remedy.accept == (f"{GOLDEN_DL}/00001 {What.EVENTS}=1",)
    site.decide(f"{GOLDEN_DL}/00001", What.EVENTS, 1)
    assert (found().code, found().verdict) == ("events-missing", Verdict.NOTE)
    assert "; lost: a test, says N. N. (" in found().text
    (index,) = chunk.indexes()
    more = replace(index, missing_events=index.missing_events + 1)
    assert found(replace(chunk, files=(more,))).verdict is Verdict.ACTION
    assert found(replace(chunk, chunk=ChunkId("00002"))).verdict is Verdict.ACTION


def test_late_events_are_delivered_or_ignored_by_their_number(site: Site) -> None:
    case = build("third_epu_late_again", site)
    for step in case.steps[:-1]:
        site.process(step.downlink)

    unread = site.clone(site.home / "unread")
    late = {
        dl: run.delivery.books.late
        for dl in case.downlinks
        for run in site.receipt(dl).runs
        if run.delivery.books.late
    }
    assert {dl for dl in case.downlinks if "late-events" in site.causes(dl)} == set(late)
    ((downlink, events),) = late.items()
    cause = site.causes(downlink)["late-events"]
    assert (cause.verdict, cause.text.startswith(f"{events} late event")) == (Verdict.ACTION, True)
    (accept,) = cause.remedy.accept
    subject, _ = accept.split()
    site.decide(subject, What.LATE, events)
    cause = site.causes(downlink)["late-events"]
    assert (cause.verdict, "; not delivered: a test, says N. N. (" in cause.text) == (Verdict.NOTE, True)
    site.decide(subject, What.LATE, events - 1)
    assert site.causes(downlink)["late-events"].verdict is Verdict.ACTION, "there are more of them"
    (listed,) = site.told("accept")["decisions"]
    assert listed["covers"] == f"{events - 1} of {events}"
    (do,) = {group["do"] for group in site.told("explain", downlink)["groups"] if group["kind"] == "late"}
    assert do.startswith(f"snakemake dl={case.downlinks[0]} -R ")
    site.snakemake(*do.split()[1:]).good()
    assert not any("late-events" in site.causes(dl) for dl in case.downlinks)

    # Late events need action though they cannot be counted again.
    for path in unread.work.glob("*/chunks/*.rows"):
        path.unlink()
    unread.configure(merge={"min_events": 7})
    found = unread.causes(downlink)
    assert (found["books"].verdict, found["late-events"].verdict) == (Verdict.NOTE, Verdict.ACTION)


def test_the_lease_of_a_dead_host_hides_nothing(site: Site) -> None:
    build("complete_basic", site)
    with held_by_another(site.work, paths.downlink_lease(GOLDEN_DL), silent=1e4):
        assert account(Survey(site.settings), GOLDEN_DL).state == "cut off"
    site.process(GOLDEN_DL)
    shutil.rmtree(site.stage / GOLDEN_DL)
    with held_by_another(site.work, paths.downlink_lease(GOLDEN_DL)):
        assert site.causes(GOLDEN_DL).keys() == {"in-progress"}, "its files come and go"
        time_passes(site.work)
        assert "stage-gone" in site.causes(GOLDEN_DL)


def test_fetched_level_0_gives_the_same_hand_off(site: Site, tmp_path: Path) -> None:
    """A merge that decodes another downlink again fetches its level-0, too."""
    simulation = site.simulate(Scenario(seed=2, downlinks=[DL, LATER]).lpa_run(events=250, parts=2, rate=0.5))
    shutil.copytree(simulation.level0, site.home / "copy")
    fetch = f"sh -c 'cp {site.home}/copy/{{hour}}/s* {{out}}; echo {{hour}} {{out}} >>{site.home}/fetched'"
    site.configure(level0={"fetch": fetch})
    without = site.clone(tmp_path / "without")
    shutil.rmtree(without.home / "simulated" / "level0" / "src0077")
    site.process(DL)
    site.process(LATER)
    assert not (site.home / "fetched").exists()
    without.process(DL)
    for path in (without.work / paths.chunks(DL)).glob("*.evt"):
        path.unlink()
    without.process(LATER)
    here, there = (
        {name: content for name, content in each.tree().items() if name.startswith(("stage/", "work/dl="))}
        for each in (site, without)
    )
    assert here == there
    assert "/.context/" in (without.home / "fetched").read_text(), "the merge fetched, too"
    assert not list(without.work.rglob("s0077a*")), "fetched files go when the decoder has ended"
    assert without.outstanding(DL, LATER) == frozenset()
