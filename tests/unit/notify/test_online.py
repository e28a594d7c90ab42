"""The hand-off to Online: which runs are whole, the content of their file, and the state of their command."""

import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.errors import HalfPipeError, StateError
from halfpipe.files import typed
from halfpipe.files.reading import sha256
from halfpipe.files.records import Series
from halfpipe.formats import evt, idx
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.notify import online_handoff
from halfpipe.notify.online_handoff import OnlineOutcome, OnlineResult
from halfpipe.state.attempts import (
    Action,
    Answer,
    Attempt,
    By,
    Outcome,
    Signed,
    UnknownOutcomeError,
    signature,
)
from halfpipe.state.deliveries import EventFile
from halfpipe.state.merged_index import MergedIndex
from halfpipe.state.online_record import Made, Making, OnlineRecord, OnlineState
from halfpipe.status.account import account
from halfpipe.status.survey import Survey
from tests.support import online_site
from tests.support.harness import events_of
from tests.support.leases import held_by_another
from tests.support.online_site import FIRST, GID, NAME, RUN, SECOND, Online, on_site, rewrite, staged
from tests.support.series import damage, forget, values
from tests.support.workflow import Site

LPA = (RunKind.LPA,)
waits = partial(OnlineResult, RUN, OnlineOutcome.WAITS)
OTHER_NAME = f"{7799000:08x}-{RUN}.evt"
CRASHES = "kill -SEGV $$"
MAKING = Making(*signature(), NAME)
MADE = Made(
    *signature(),
    file=EventFile(NAME, 2, (1, 2), (3, 4), 500, "ab"),
    ground_id=0x77014D,
    key=7,
    alias="x",
    datagrams={965: ((0, 3),)},
    brought={DownlinkId(FIRST): 9},
    missing="",
    tell=True,
)
COMMAND = ("a b", "é")
ATTEMPT = Attempt(*signature(), 2, COMMAND, 0.0, Action.START, 0, "", Outcome.OPEN, None)
TOLD = Answer(*signature(), 1, Outcome.SUBMITTED, By.ANSWER, 0, ("said",))


def lower_ground_id_in_second(home: Path) -> None:
    for path in (home / SECOND).glob("*.idx"):
        path.write_text(path.read_text().replace(" 7799117 ", " 7799000 "))


@pytest.mark.parametrize("case", ["lci_acd", "latc_lci"])
def test_the_file_is_the_event_file_except_for_the_run_id(case: str, site: Site) -> None:
    online = on_site(site, case, FIRST)
    (event_file,) = staged(case, FIRST)
    assert event_file[online_site.RUNID_AT :][:4] == int(FIRST).to_bytes(4, "little")
    result = online.go()
    expected = {NAME: online_site.without_downlink(event_file)}
    assert (result.what, online.files()) == (OnlineOutcome.MADE, expected)
    assert f"{len(event_file):,} bytes" in result.text
    made = OnlineRecord(site.work, RUN).made
    assert made is not None
    assert (made.file.sha256, made.file.size) == (sha256(online.home / NAME), len(event_file))


def test_two_downlinks_and_their_files_become_one(site: Site) -> None:
    """One lacks two datagrams in the middle, which the other contains."""
    online = on_site(site, "lci_gap_filled", FIRST)
    assert online.go() == waits("waits: datagrams 6 to 7 of EPU 965 are missing")
    assert online.files() == {}
    site.by_hand(SECOND)
    assert online.go().what is OnlineOutcome.MADE
    one, other = staged("lci_gap_filled", FIRST)
    (middle,) = staged("lci_gap_filled", SECOND, 2)
    content = online.files()[NAME]
    assert content[evt.HEADER_SIZE :] == b"".join(part[evt.HEADER_SIZE :] for part in (one, middle, other))
    header = evt.read_header(online.home / NAME)
    assert (header["runid"], header["evtcnt"]) == (0, len(events_of(content)))


def test_the_lowest_ground_id_names_it_and_a_file_of_another_name_goes(site: Site) -> None:
    online = on_site(site, "lci_gap_filled", FIRST, change=lower_ground_id_in_second)
    site.abandon(RUN)
    OnlineRecord(site.work, RUN).attempts.publish(replace(MAKING, name=f"00770888-{RUN}.evt"))
    online.home.mkdir()
    (online.home / f"00770888-{RUN}.evt").write_text("whole, and its process was killed")
    online.go()
    assert list(online.files()) == [NAME]
    site.by_hand(SECOND)
    assert online.go(again=True).what is OnlineOutcome.MADE
    assert list(online.files()) == [OTHER_NAME]


def test_missing_products_are_an_error_or_are_left_out_and_reported(site: Site) -> None:
    online = on_site(site, "lci_acd", FIRST)
    (site.work / paths.chunks(FIRST) / f"{GID}-{RUN}-0965-00002.evt").unlink()
    shutil.rmtree(site.home / "golden")
    result = online.go()
    assert (result.what, online.files()) == (OnlineOutcome.FAILED, {})
    assert "needs chunk 00002 of downlink 240601001" in result.text
    result = online.go(online.settings(without_context=True))
    assert result.what is OnlineOutcome.MADE
    assert "without: run 2c2e5787 needs chunk 00002" in result.text
    index = idx.read_index(site.work / paths.chunks(FIRST) / f"{GID}-{RUN}-0965-00001.idx")
    assert [s for s, _ in events_of(online.files()[NAME])] == sorted(index.events.sequence.tolist())


def test_of_a_run_of_another_kind_only_the_delivery_is_read(site: Site) -> None:
    online = on_site(site, "complete_basic", FIRST)
    datagrams = site.work / paths.datagrams(RUN, FIRST)
    datagrams.write_text("damaged\n")
    assert online.go() == OnlineResult(RUN, OnlineOutcome.OTHER, "LPA: not for Online (online.types)")
    assert not (site.work / paths.online_record(RUN)).exists()
    assert datagrams.read_text() == "damaged\n", "a reader would repair it"
    assert online.go(online.settings(types=LPA)).what is OnlineOutcome.MADE


def counted_from_3(text: str) -> str:
    for before in (r"DGM: +\S+ +\S+", r"EVT:(?: +\S+){5}"):
        datagram = rf"^({before} +77 +965 +)(\d+)"
        text = re.sub(datagram, lambda m: f"{m[1]}{int(m[2]) + 3}", text, flags=re.MULTILINE)
    return text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace(" stop", "abort"), "its stop, because datagram 14 ends with abort"),
        (counted_from_3, "datagrams 0 to 2, before the one that opens it"),
    ],
)
def test_complete_for_level_1_may_not_be_whole(change: Callable[[str], str], said: str, site: Site) -> None:
    online = on_site(site, "lci_acd", FIRST, change=rewrite(change))
    assert site.receipt(FIRST).runs[0].delivery.complete
    assert online.go() == waits(f"waits: EPU 965: {said}")


def test_the_file_of_an_abandoned_run_has_all_known_events(site: Site) -> None:
    online = on_site(site, "lci_gap_filled", FIRST)
    site.abandon(RUN)
    result = online.go()
    lacks = "datagrams 6 to 7 of EPU 965 are missing"
    assert (result.what, lacks in result.text) == (OnlineOutcome.MADE, True)
    bodies = [part[evt.HEADER_SIZE :] for part in staged("lci_gap_filled", FIRST)]
    assert online.files()[NAME][evt.HEADER_SIZE :] == b"".join(bodies)
    made = OnlineRecord(site.work, RUN).made
    assert made is not None
    assert made.missing == lacks


def test_a_run_without_events_or_datagrams_has_no_file(site: Site) -> None:
    def without_events(home: Path) -> None:
        for path in home.rglob("*.idx"):
            lines = [line for line in path.read_text().splitlines() if line.startswith("DGM")]
            path.write_text("".join(re.sub(r"\d+( +\d+ +\d+)$", r"0\1", line) + "\n" for line in lines))
            path.with_suffix(".evt").unlink()

    assert Online(site).go().what is OnlineOutcome.OTHER, "nothing is known of it"
    assert Online(site).go(Online(site).settings(types=LPA)).what is OnlineOutcome.OTHER
    online = on_site(site, "lci_acd", FIRST, change=without_events)
    assert online.go() == waits("has no events, so there is no file of it")
    MergedIndex(KnownDatagrams.of(()), ()).save(site.work, RUN, DownlinkId(FIRST))
    site.abandon(RUN)
    any_kind = online.settings(types=tuple(RunKind))
    assert online.go(any_kind).what is OnlineOutcome.WAITS, "though it was abandoned"
    assert online.files() == {}


def test_a_file_is_not_made_twice(site: Site) -> None:
    online = on_site(site, "lci_acd", FIRST)
    settings = online.settings(online.command())
    online.go(settings)
    before = values(site.work, paths.online_record(RUN))
    made = (online.home / NAME).stat()
    site.by_hand(FIRST)
    assert online.go(settings).what is OnlineOutcome.BEFORE
    assert (online.home / NAME).stat() == made
    (online.home / NAME).unlink()
    assert online.go(settings).what is OnlineOutcome.BEFORE
    assert online.files() == {}, "Online took it away"
    assert values(site.work, paths.online_record(RUN)) == before
    for home in (paths.online_record(RUN), paths.copies(paths.online_record(RUN))):  # put back from a backup
        shutil.rmtree(site.work / home)
    assert online.go(settings).what is OnlineOutcome.FAILED
    assert (online.files(), len(online.told)) == ({}, 1)


def test_later_data_are_reported_and_used_on_request(site: Site) -> None:
    online = on_site(site, "one_epu_then_other", FIRST)
    settings = online.settings(online.command(), LPA, min_epus=1)
    online.go(settings)
    first = online.files()
    site.by_hand(SECOND)
    result = online.go(settings)
    assert result.what is OnlineOutcome.MORE
    assert "6 datagrams arrived" in result.text
    assert f"halfpipe online --again {RUN}" in result.text
    assert online.files() == first

    assert online.go(settings, again=True).what is OnlineOutcome.MADE
    assert [len(events_of(files[NAME])) for files in (first, online.files())] == [68, 120]
    assert len(online.told) == 2
    assert online.go(settings).what is OnlineOutcome.BEFORE


def test_a_file_of_another_program_is_not_changed(site: Site) -> None:
    """As the legacy left them, whose directory may be taken over."""
    online = on_site(site, "lci_acd", FIRST)
    online.home.mkdir()
    (online.home / f"00000001-{RUN}.evt").write_text("legacy")
    (online.home / "notes-on-runs.evt").touch()
    assert online.go(online.settings(online.command())).what is OnlineOutcome.BEFORE
    assert (len(online.files()), online.told) == (2, [])


def test_a_run_that_fails_does_not_stop_the_next(site: Site) -> None:
    online = on_site(site, "lci_acd", FIRST)
    damaged = RunId("00000001")
    OnlineRecord(site.work, damaged).attempts.publish(MAKING)
    damage(site.work, paths.online_record(damaged))
    one, other = online_handoff.hand_off(online.settings(), [damaged, RUN], StringIO())
    assert (one.what, other.what) == (OnlineOutcome.FAILED, OnlineOutcome.MADE)
    assert f"{paths.online_record(damaged)}/000001.json" in str(one)


def test_the_command_gets_its_values_and_is_run_again_if_it_fails(site: Site) -> None:
    online = on_site(site, "lci_acd", FIRST)
    result = online.go(online.settings(online.command("exit 3")))
    assert (result.what, online.state()) == (OnlineOutcome.FAILED, OnlineState.NOT_STARTED)
    assert "ended with exit status 3" in result.text
    before = (online.home / NAME).stat()
    assert online.go().what is OnlineOutcome.WAITS, "the command was switched off"
    output = StringIO()
    (result,) = online_handoff.hand_off(online.settings(online.command()), [RUN], output)
    assert online.told[1:] == [f"{online.home / NAME} {RUN} {RUN.l1} {GID} 2959 nomSciOps"]
    assert (result.what, output.getvalue()) == (OnlineOutcome.TOLD, "heard\n")
    assert ((online.home / NAME).stat(), online.state()) == (before, OnlineState.DONE)
    last = values(site.work, paths.online_record(RUN))[-1]
    assert last.items() >= {"outcome": "submitted", "by": "answer", "status": 0, "said": ["heard"]}.items()


def test_no_command_is_run_without_the_file(site: Site) -> None:
    online = on_site(site, "lci_acd", FIRST)
    settings = online.settings(online.command("exit 1"))
    online.go(settings)
    (online.home / NAME).unlink()
    assert (online.go(settings).what, len(online.told)) == (OnlineOutcome.FAILED, 1)
    online_handoff.settle(settings, RUN, started=True)  # a person has given it
    assert (online.go(settings).what, online.state()) == (OnlineOutcome.BEFORE, OnlineState.DONE)


def test_a_killed_command_needs_a_person(site: Site) -> None:
    online = on_site(site, "lci_acd", FIRST)
    settings = online.settings(online.command(CRASHES))

    def shown() -> list[tuple[str, Verdict, tuple[str, ...]]]:
        causes = account(Survey(settings), DownlinkId(FIRST)).causes
        return [(one.code, one.verdict, one.remedy.do) for one in causes if one.code in {"online", "damaged"}]

    do = f"halfpipe online {RUN} --settle started"
    assert do in online.go(settings).text
    assert online.go(settings).what is OnlineOutcome.FAILED
    assert online.go(again=True).what is OnlineOutcome.FAILED
    assert len(online.told) == 1
    assert shown() == [("online", Verdict.ACTION, (do,))]
    with held_by_another(site.work, paths.ONLINE_LEASE):
        assert shown() == [], "its command may be running"
    online_handoff.settle(settings, RUN, started=False)
    assert (shown(), online.go(settings).what) == ([], OnlineOutcome.FAILED), "it is run again"
    assert len(online.told) == 2
    online_handoff.settle(settings, RUN, started=True)
    assert shown() == []
    assert online.go(settings).what is OnlineOutcome.BEFORE
    with pytest.raises(HalfPipeError, match="nothing to settle"):
        online_handoff.settle(settings, RUN, started=False)
    damage(site.work, paths.online_record(RUN))
    ((code, verdict, _),) = shown()
    assert (code, verdict) == ("damaged", Verdict.ACTION)


def test_a_command_of_a_killed_process_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    online = on_site(site, "lci_acd", FIRST)
    said = list[str]()
    monkeypatch.setattr(online_handoff.log, "warning", lambda text, *_: said.append(text))
    online.go(online.settings(online.command("exit 1")))
    OnlineRecord(site.work, RUN).attempts.intend(["of a process that was killed"], seconds=1.0)
    with pytest.raises(UnknownOutcomeError, match="Look again"):
        online_handoff.settle(online.settings(), RUN, started=False)
    begun = time.monotonic()
    assert online.go().what is OnlineOutcome.FAILED
    assert time.monotonic() - begun > 0.5
    assert (len(said), online.state()) == (1, OnlineState.OPEN)
    online_handoff.settle(online.settings(), RUN, started=False)
    assert online.state() is OnlineState.NOT_STARTED


@pytest.mark.parametrize("place", ["halts/haltOnline", f"{SECOND}/haltOnline"])
def test_a_switch_holds_runs_and_commands(place: str, site: Site) -> None:
    online = on_site(site, "lci_gap_filled", FIRST, SECOND)
    switch = site.work / place
    switch.parent.mkdir(exist_ok=True)
    switch.touch()
    assert online.go() == OnlineResult(RUN, OnlineOutcome.HELD, f"held by {switch}")
    assert (online.go(again=True).what, online.files()) == (OnlineOutcome.HELD, {})
    switch.unlink()
    (site.work / "240601009").mkdir()
    (site.work / "240601009" / "haltOnline").touch()  # of a downlink that does not bring it
    assert online.go(online.settings(online.command("exit 1"))).what is OnlineOutcome.FAILED
    switch.touch()
    assert online.go(online.settings(online.command())).what is OnlineOutcome.HELD
    assert len(online.told) == 1


def told(work: Path) -> OnlineRecord:
    record = OnlineRecord(work, RUN)
    record.attempts.publish(MAKING)
    record.attempts.publish(MADE)
    record.attempts.intend(COMMAND)
    record.attempts.conclude(Outcome.SUBMITTED, By.ANSWER, 0, ("said",))
    return record


def test_a_run_is_handed_off_once_its_file_is_made(tmp_path: Path) -> None:
    home = tmp_path / "online"
    record = OnlineRecord(tmp_path, RUN)
    assert not online_handoff.is_handed_off(tmp_path, home, RUN)
    home.mkdir()
    (home / f"00000001-{RUN}.evt").touch()
    assert online_handoff.is_handed_off(tmp_path, home, RUN), "a file of another program counts"
    assert not online_handoff.is_handed_off(tmp_path, home, RunId("2c2e5788"))
    record.attempts.publish(MAKING)
    assert not online_handoff.is_handed_off(tmp_path, home, RUN), "it may be made again"
    record.attempts.publish(MADE)
    assert online_handoff.is_handed_off(tmp_path, tmp_path / "empty", RUN), "Online took it away"


def test_records_and_states(tmp_path: Path) -> None:
    for record in (told(tmp_path), OnlineRecord(tmp_path, RUN)):
        assert (record.state, record.made, record.names) == (OnlineState.DONE, MADE, frozenset({NAME}))
        assert record.attempts.every[-1].command == ("a b", "é")
    kinds = [one["kind"] for one in values(tmp_path, paths.online_record(RUN))]
    assert kinds == ["making", "made", "attempt", "answer"]
    states = (OnlineState.OPEN, OnlineState.NOT_STARTED, OnlineState.MAKING, OnlineState.NOTHING)
    for number, state in zip((4, 3, 2, 1), states, strict=True):
        forget(tmp_path, paths.online_record(RUN), number)
        assert OnlineRecord(tmp_path, RUN).state is state


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ([MAKING], OnlineState.MAKING),
        ([MADE], OnlineState.NOT_STARTED),
        ([replace(MADE, tell=False)], OnlineState.DONE),
        ([MADE, replace(ATTEMPT, outcome=Outcome.SUBMITTED, by=By.PERSON)], OnlineState.DONE),
        ([MADE, ATTEMPT], OnlineState.OPEN),
        # A late answer of a suspended process, for the file before.
        ([MADE, TOLD], OnlineState.NOT_STARTED),
    ],
)
def test_the_state_after_two_files(more: list[Signed], state: OnlineState, tmp_path: Path) -> None:
    record = told(tmp_path)
    for one in more:
        record.attempts.publish(one)
    assert OnlineRecord(tmp_path, RUN).state is record.state is state


@pytest.mark.parametrize(
    ("one", "change"),
    [
        (MAKING, {"name": 5}), (MAKING, {"kind": "makes"}), (MADE, {"file": {}}), (MADE, {"file": 1}),
        (MADE, {"more": 1}), (TOLD, {"outcome": "perhaps"}),
    ],
)  # fmt: skip
def test_a_damaged_record_is_named(one: Signed, change: dict[str, Any], tmp_path: Path) -> None:
    told(tmp_path)
    series = Series(tmp_path, paths.online_record(RUN))
    series.read()
    series.publish(typed.values(one) | change)
    with pytest.raises(StateError, match=r"000005\.json"):
        OnlineRecord(tmp_path, RUN)
