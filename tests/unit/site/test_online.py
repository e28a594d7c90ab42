"""The hand-off to Online: which runs are whole, what is in their file, and in which state what is run or said."""

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.config import load
from halfpipe.errors import ConfigError, StateError
from halfpipe.files.reading import sha256
from halfpipe.files.records import Series
from halfpipe.formats import evt, idx
from halfpipe.ids import RunId, RunKind
from halfpipe.process.told_once import By, Outcome
from halfpipe.run import event_table, merged_index, run_state
from halfpipe.run.datagrams import dump_datagrams
from halfpipe.run.deliveries import EventFile
from halfpipe.run.moot_keys import Moot
from halfpipe.settings import Online as OnlineSettings
from halfpipe.site import online_handoff
from halfpipe.site.online_handoff import OnlineError, Result, What
from halfpipe.site.online_records import Made, Record, State, is_handed_off
from tests.support.online_site import (
    FIRST,
    GID,
    NAME,
    RUN,
    RUNID_AT,
    SECOND,
    Online,
    events_of,
    force,
    on_site,
    other_epu,
    rewrite,
    staged,
    without_downlink,
)
from tests.support.series import damage, forget, values
from tests.support.workflow import Site

MADE = Made(
    EventFile(NAME, 2, (1, 2), (3, 4), 500, "ab"),
    0x77014D,
    Moot(7, "x"),
    {965: ((0, 3),)},
    {FIRST: 9},
    "",
    True,
)

SEALS = {"sha256", "previous", "when", "who"}
GIVEN: dict[str, Any] = {"attempt": 2, "command": [], "seconds": 0.0}
RECORDS: list[dict[str, Any]] = [
    {"making": NAME},
    {
        "made": {
            "file": {
                "name": NAME,
                "events": 2,
                "sequences": [1, 2],
                "seconds": [3, 4],
                "size": 500,
                "sha256": "ab",
            },
            "ground_id": 0x77014D,
            "moot": {"key": 7, "alias": "x"},
            "datagrams": {"965": [[0, 3]]},
            "brought": {FIRST: 9},
            "missing": "",
            "tell": True,
        }
    },
    {"attempt": 1, "command": ["a b", "é"], "seconds": 0.0},
    {"attempt": 1, "outcome": "started", "by": "answer", "status": 0, "said": ["said"]},
]


class TestFile:
    @pytest.mark.parametrize("case", ["lci_acd", "latc_lci"])
    def test_it_is_the_event_file_but_for_the_run_id_of_its_header(self, case: str, site: Site) -> None:
        online = on_site(site, case, FIRST)
        (event_file,) = staged(case, FIRST)
        assert event_file[RUNID_AT : RUNID_AT + 4] == int(FIRST).to_bytes(4, "little")
        result = online.go()
        assert (result.what, online.files()) == (What.MADE, {NAME: without_downlink(event_file)})
        assert re.search(rf"{NAME} made, \d+ events, {len(event_file):,} bytes$", str(result))

    def test_two_downlinks_and_their_files_become_one(self, site: Site) -> None:
        """One lacks two datagrams in the middle, which the other brings."""
        online = on_site(site, "lci_gap_filled", FIRST)
        assert online.go() == Result(RUN, What.WAITS, "waits: datagrams 6 to 7 of EPU 965 are missing")
        assert online.files() == {}
        site.by_hand(SECOND)
        assert online.go().what is What.MADE
        one, other = staged("lci_gap_filled", FIRST)
        (middle,) = staged("lci_gap_filled", SECOND, 2)
        content = online.files()[NAME]
        assert content[evt.HEADER_SIZE :] == b"".join(
            part[evt.HEADER_SIZE :] for part in (one, middle, other)
        )
        header = evt.read_header(online.home / NAME)
        assert (header["runid"], header["evtcnt"]) == (0, len(events_of(content)))

    def test_events_of_two_epus_in_order_each_once(self, site: Site) -> None:
        online = on_site(site, "lci_acd", change=other_epu)
        site.by_hand(SECOND)
        site.by_hand(FIRST)
        online.go()
        events = events_of(online.files()[NAME])
        of_one = [sequence for sequence, _ in events_of(staged("lci_acd", FIRST)[0])]
        assert events == [(sequence, apid) for sequence in of_one for apid in (965, 966)]

    def test_more_events_than_an_event_file_may_have(self, site: Site) -> None:
        online = on_site(site, "lci_acd")
        site.configure(merge={"max_events": 7})
        site.by_hand(FIRST)
        assert len(site.staged(FIRST)) > 10
        online.go()
        assert online.files() == {NAME: without_downlink(staged("lci_acd", FIRST)[0])}

    def test_the_lowest_ground_id_names_it(self, site: Site) -> None:
        def in_second(home: Path) -> None:
            for path in (home / SECOND).glob("*.idx"):
                path.write_text(path.read_text().replace(" 7799117 ", " 7799000 "))

        online = on_site(site, "lci_gap_filled", FIRST, SECOND, change=in_second)
        result = online.go()
        assert list(online.files()) == [f"{7799000:08x}-{RUN}.evt"]
        assert "its ground id is the lowest of 2" in result.text

    def test_products_that_were_cleaned_up_are_decoded_again(self, site: Site) -> None:
        online = on_site(site, "lci_gap_filled", FIRST, SECOND)
        for path in [*site.work.glob("*/chunks/*.evt"), *site.work.glob("runs/*/*/events.npy")]:
            path.unlink()
        output = StringIO()
        (result,) = online_handoff.hand_off(online.settings(), [RUN], output)
        assert result.what is What.MADE
        assert "getLSEChunk: processing" in output.getvalue()
        assert not (site.work / paths.context(RUN)).exists()
        whole = online.files()
        shutil.rmtree(online.home)
        assert online_handoff.again(online.settings(), RUN, StringIO()).what is What.MADE
        assert online.files() == whole

    @pytest.mark.parametrize("gone", [False, True])
    def test_each_downlink_is_read_once(
        self, gone: bool, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A run may have hundreds of them."""
        online = on_site(site, "lci_gap_filled", FIRST, SECOND)
        read: list[str] = []

        def spied(original: Callable[..., object]) -> Callable[..., object]:
            def called(*arguments: object) -> object:
                read.append(original.__name__)
                return original(*arguments)

            return called

        monkeypatch.setattr(run_state, "load_events", spied(event_table.load_events))
        monkeypatch.setattr(merged_index, "build", spied(merged_index.build))
        for path in site.work.glob("runs/*/*/events.npy") if gone else []:
            path.unlink()
        assert online.go().what is What.MADE
        assert read == ["build" if gone else "load_events"] * 2

    def test_what_cannot_be_had_is_an_error_or_left_out_and_said(self, site: Site) -> None:
        online = on_site(site, "lci_acd", FIRST)
        gone = f"{GID}-{RUN}-0965-00002.evt"
        (site.work / paths.chunks(FIRST) / gone).unlink()
        shutil.rmtree(site.home / "golden")
        result = online.go()
        assert result.what is What.FAILED
        assert "run 2c2e5787 needs chunk 00002 of downlink 240601001" in result.text
        assert online.files() == {}
        result = online.go(online.settings(without_context=True))
        assert result.what is What.MADE
        assert "without: run 2c2e5787 needs chunk 00002" in result.text
        index = idx.read_index(site.work / paths.chunks(FIRST) / f"{GID}-{RUN}-0965-00001.idx")
        assert [s for s, _ in events_of(online.files()[NAME])] == sorted(index.events["sequence"].tolist())


class TestWhole:
    def test_the_kind_decides(self, site: Site) -> None:
        online = on_site(site, "complete_basic", FIRST)
        assert online.go() == Result(RUN, What.OTHER, "LPA: not for Online (online.types)")
        assert not (site.work / paths.online_record(RUN)).exists()
        (site.work / paths.manifest(RUN, FIRST)).unlink()
        assert online.go().what is What.OTHER, "its datagrams tell the same"
        assert online.go(online.settings(types=(RunKind.LPA, RunKind.LCI))).what is What.MADE

    def test_a_run_of_another_type_is_not_read(self, site: Site) -> None:
        online = on_site(site, "complete_basic", FIRST)
        (site.work / paths.datagrams(RUN, FIRST)).write_text("damaged\n")
        assert online.go().what is What.OTHER
        # It is made again of the chunks by whoever reads it.
        assert online.go(online.settings(types=(RunKind.LPA,))).what is What.MADE

    @pytest.mark.parametrize("closing", ["abort", "pause"])
    def test_only_stop_ends_a_run(self, closing: str, site: Site) -> None:
        online = on_site(site, "lci_acd", FIRST, change=rewrite(lambda text: text.replace(" stop", closing)))
        assert site.receipt(FIRST)["runs"][0]["complete"], "it is for Level-1"
        said = f"waits: EPU 965: its stop, for datagram 14 ends with {closing}"
        assert online.go() == Result(RUN, What.WAITS, said)

    def test_datagrams_count_from_0(self, site: Site) -> None:
        def shifted(text: str) -> str:
            for before in (r"DGM: +\S+ +\S+", r"EVT:(?: +\S+){5}"):
                datagram = rf"^({before} +77 +965 +)(\d+)"
                text = re.sub(datagram, lambda m: f"{m[1]}{int(m[2]) + 3}", text, flags=re.MULTILINE)
            return text

        online = on_site(site, "lci_acd", FIRST, change=rewrite(shifted))
        said = "waits: EPU 965: datagrams 0 to 2, before the one that opens it"
        assert online.go() == Result(RUN, What.WAITS, said)

    def test_given_up_it_is_made_of_what_is_there(self, site: Site) -> None:
        online = on_site(site, "lci_gap_filled", FIRST)
        force(site, f"{GID}-{RUN}")
        result = online.go()
        assert result.what is What.MADE
        assert "abandoned, though it lacks datagrams 6 to 7 of EPU 965 are missing" in result.text
        bodies = [part[evt.HEADER_SIZE :] for part in staged("lci_gap_filled", FIRST)]
        assert online.files()[NAME][evt.HEADER_SIZE :] == b"".join(bodies)
        made = Record(site.work, RUN).made
        assert made is not None
        assert made.missing == "datagrams 6 to 7 of EPU 965 are missing"

    def test_a_run_without_events_has_no_file(self, site: Site) -> None:
        def without_events(home: Path) -> None:
            for path in home.rglob("*.idx"):
                lines = [line for line in path.read_text().splitlines() if line.startswith("DGM")]
                path.write_text("".join(re.sub(r"\d+( +\d+ +\d+)$", r"0\1", line) + "\n" for line in lines))
                path.with_suffix(".evt").unlink()

        online = on_site(site, "lci_acd", FIRST, change=without_events)
        assert online.go() == Result(RUN, What.WAITS, "has no events, so there is no file of it")
        assert online.files() == {}

    def test_a_run_without_datagrams_waits_though_given_up(self, site: Site) -> None:
        online = on_site(site, "complete_basic", FIRST)
        (site.work / paths.datagrams(RUN, FIRST)).write_bytes(dump_datagrams(()))
        force(site, RUN)
        settings = online.settings(types=(RunKind.LPA,))
        assert online.go(settings) == Result(RUN, What.WAITS, "waits: no datagram is known")

    def test_a_run_of_which_nothing_is_known(self, site: Site) -> None:
        assert Online(site).go() == Result(RUN, What.OTHER, "no downlink has brought anything of it")


class TestOnce:
    def test_it_is_not_made_twice(self, site: Site) -> None:
        online = on_site(site, "lci_acd", FIRST)
        online.go(online.settings(online.command()))
        before = values(site.work, paths.online_record(RUN))
        (online.home / NAME).unlink()
        result = online.go(online.settings(online.command()))
        assert result == Result(RUN, What.BEFORE, f"{NAME} was made before")
        assert online.files() == {}, "Online took it away"
        assert values(site.work, paths.online_record(RUN)) == before
        assert len(online.told) == 1

    def test_processing_the_downlink_again_changes_nothing(self, site: Site) -> None:
        online = on_site(site, "lci_acd", FIRST)
        online.go()
        before = (online.home / NAME).stat()
        site.by_hand(FIRST)
        assert online.go().what is What.BEFORE
        assert (online.home / NAME).stat() == before

    def test_what_comes_later_is_said_and_taken_by_name(self, site: Site) -> None:
        online = on_site(site, "lci_acd", FIRST, change=other_epu)
        online.go(online.settings(online.command()))
        first = online.files()
        site.by_hand(SECOND)
        result = online.go()
        assert result.what is What.MORE
        assert f"{NAME} was made before 15 datagrams came (15 of APID 966)" in result.text
        assert f"halfpipe online --again {RUN}" in result.text
        assert online.files() == first

        result = online_handoff.again(online.settings(online.command()), RUN, StringIO())
        assert result.what is What.MADE
        assert len(events_of(online.files()[NAME])) == 2 * len(events_of(first[NAME]))
        assert len(online.told) == 2
        assert online.go().what is What.BEFORE

    def test_made_again_under_another_name_the_old_one_goes(self, site: Site) -> None:
        def in_second(home: Path) -> None:
            for path in (home / SECOND).glob("*.idx"):
                path.write_text(path.read_text().replace(" 7799117 ", " 7799000 "))

        online = on_site(site, "lci_gap_filled", FIRST, change=in_second)
        force(site, RUN)
        online.go()
        assert list(online.files()) == [NAME]
        site.by_hand(SECOND)
        online_handoff.again(online.settings(), RUN, StringIO())
        assert list(online.files()) == [f"{7799000:08x}-{RUN}.evt"]

    def test_killed_before_it_was_recorded_under_another_name_the_old_one_goes(self, site: Site) -> None:
        online = on_site(site, "lci_gap_filled", FIRST, SECOND)
        record = Record(site.work, RUN)
        online.home.mkdir()
        names = [f"{ground_id}-{RUN}.evt" for ground_id in ("00770999", "00770888")]
        for name in names:
            record.making(name)
            (online.home / name).write_text("whole")
        assert online.go().what is What.MADE
        assert list(online.files()) == [NAME]

    def test_a_file_of_somebody_else_is_left_alone(self, site: Site) -> None:
        """As the legacy left them, whose directory may be taken over."""
        online = on_site(site, "lci_acd", FIRST)
        online.home.mkdir()
        (online.home / f"00000001-{RUN}.evt").write_text("legacy")
        (online.home / "notes-on-runs.evt").touch()
        result = online.go(online.settings(online.command()))
        assert result.what is What.BEFORE
        assert f"00000001-{RUN}.evt was there and was not made by this program" in result.text
        assert len(online.files()) == 2
        assert online.told == []

    def test_one_that_fails_does_not_stop_the_next(self, site: Site) -> None:
        online = on_site(site, "lci_acd", FIRST)
        damaged = RunId("00000001")
        Record(site.work, damaged).making(NAME)
        damage(site.work, paths.online_record(damaged))
        one, other = online_handoff.hand_off(online.settings(), [damaged, RUN], StringIO())
        assert (one.what, other.what) == (What.FAILED, What.MADE)
        assert f"{paths.online_record(damaged)}/000001.json" in str(one)


class TestCommand:
    def test_it_is_given_what_it_asks_for(self, site: Site) -> None:
        online = on_site(site, "lci_acd", FIRST)
        output = StringIO()
        (result,) = online_handoff.hand_off(online.settings(online.command()), [RUN], output)
        assert online.told == [f"{online.home / NAME} {RUN} {RUN.l1} {GID} 2959 nomSciOps"]
        assert output.getvalue() == "heard\n"
        assert f"; command run for {NAME}" in result.text
        last = values(site.work, paths.online_record(RUN))[-1]
        assert last.items() >= {"outcome": "started", "by": "answer", "status": 0, "said": ["heard"]}.items()

    def test_one_that_fails_is_run_again_and_the_file_stays(self, site: Site) -> None:
        online = on_site(site, "lci_acd", FIRST)
        result = online.go(online.settings(online.command("exit 3")))
        assert result.what is What.FAILED
        assert "online.command ended with exit status 3" in result.text
        assert "heard" in result.text
        before = (online.home / NAME).stat()
        assert online.go(online.settings(online.command())).what is What.TOLD
        assert (online.home / NAME).stat() == before
        assert (len(online.told), online.state()) == (2, State.DONE)

    def test_one_that_cannot_be_started(self, site: Site) -> None:
        online = on_site(site, "lci_acd", FIRST)
        result = online.go(online.settings("/no-such-program {file}"))
        assert "online.command cannot be started: No such file or directory" in result.text
        assert online.state() is State.UNTOLD

    def test_one_that_was_killed_is_for_a_person(self, site: Site) -> None:
        online = on_site(site, "lci_acd", FIRST)
        settings = online.settings(online.command("kill -SEGV $$"))
        result = online.go(settings)
        assert "its command was ended by a crash (SIGSEGV)" in result.text
        assert f"halfpipe online --started {RUN} (or --not-started {RUN})" in result.text
        assert online.go(settings).what is What.FAILED
        with pytest.raises(OnlineError, match="is not known"):
            online_handoff.again(settings, RUN, StringIO())
        assert len(online.told) == 1
        online_handoff.settle(settings, RUN, started=True)
        assert online.go(settings).what is What.BEFORE
        with pytest.raises(OnlineError, match="nothing to settle"):
            online_handoff.settle(settings, RUN, started=False)

    def test_one_that_was_left_behind_is_waited_for_before_a_person_is_asked(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        online, said = on_site(site, "lci_acd", FIRST), list[str]()
        monkeypatch.setattr(online_handoff.log, "warning", lambda text, *_: said.append(text))
        online.go(online.settings(online.command("exit 1")))
        Record(site.work, RUN).intend(["of a process that was killed"], seconds=1.0)
        with pytest.raises(OnlineError, match="Look again"):
            online_handoff.settle(online.settings(), RUN, started=False)
        begun = time.monotonic()
        result = online.go()
        assert time.monotonic() - begun > 0.5
        assert len(said) == 1
        assert "a process ended between its command and the record of its answer" in result.text
        assert online.state() is State.OPEN
        online_handoff.settle(online.settings(), RUN, started=False)
        assert online.state() is State.UNTOLD

    def test_one_that_takes_too_long_is_ended(self, site: Site) -> None:
        online = on_site(site, "lci_acd", FIRST)
        settings = online.settings(online.command("sleep 60"))
        result = online.go(replace(settings, online=replace(settings.online, seconds=0.5)))
        assert "online.command took more than 0.5 s, and was ended" in result.text
        assert online.state() is State.UNTOLD

    def test_one_that_a_person_has_given_counts(self, site: Site) -> None:
        online = on_site(site, "lci_acd", FIRST)
        settings = online.settings(online.command("exit 3"))
        online.go(settings)
        online_handoff.settle(settings, RUN, started=True)
        assert (online.go(settings).what, online.state()) == (What.BEFORE, State.DONE)

    def test_settled_as_not_started_it_is_run_again(self, site: Site) -> None:
        online = on_site(site, "lci_acd", FIRST)
        online.go(online.settings(online.command("kill -SEGV $$")))
        online_handoff.settle(online.settings(), RUN, started=False)
        assert online.go(online.settings(online.command())).what is What.TOLD
        assert len(online.told) == 2

    def test_a_file_that_was_made_without_one_gets_none_later(self, site: Site) -> None:
        """Else the day it is switched on would be the day of all runs there ever were."""
        online = on_site(site, "lci_acd", FIRST)
        online.go()
        assert online.go(online.settings(online.command())).what is What.BEFORE
        assert online.told == []

    def test_one_that_was_switched_off_waits(self, site: Site) -> None:
        online = on_site(site, "lci_acd", FIRST)
        online.go(online.settings(online.command("exit 1")))
        assert "its command waits: online.command is null" in online.go().text

    def test_no_file_no_command(self, site: Site) -> None:
        online = on_site(site, "lci_acd", FIRST)
        online.go(online.settings(online.command("exit 1")))
        (online.home / NAME).unlink()
        assert "is gone and its command was not run yet" in online.go(online.settings(online.command())).text
        assert len(online.told) == 1

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("run 'it {file}", "cannot be split into words"),
            ("run {file} {queue}", "{queue} stands for nothing; what is filled in: {file}, {run}"),
            ("run {run}", "does not use {file}"),
        ],
    )
    def test_one_that_cannot_be_used(self, text: str, said: str, tmp_path: Path) -> None:
        config = {"paths": {"work": str(tmp_path), "stage": str(tmp_path)}, "online": {"command": text}}
        with pytest.raises(ConfigError, match=rf"online\.command: .*{re.escape(said)}"):
            load((), config)


class TestHalts:
    @pytest.mark.parametrize("place", ["halts/haltOnline", f"{SECOND}/haltOnline"])
    def test_a_switch_holds_runs(self, place: str, site: Site) -> None:
        online = on_site(site, "lci_gap_filled", FIRST, SECOND)
        switch = site.work / place
        switch.parent.mkdir(exist_ok=True)
        switch.touch()
        assert online.go() == Result(RUN, What.HELD, f"held by {switch}")
        assert online_handoff.again(online.settings(), RUN, StringIO()).what is What.HELD
        assert online.files() == {}
        switch.unlink()
        assert online.go().what is What.MADE

    def test_it_holds_a_command_too_and_another_downlink_none(self, site: Site) -> None:
        online = on_site(site, "lci_acd", FIRST)
        (site.work / SECOND).mkdir()
        (site.work / SECOND / "haltOnline").touch()
        assert online.go(online.settings(online.command("exit 1"))).what is What.FAILED
        (site.work / FIRST / "haltOnline").touch()
        assert online.go(online.settings(online.command())).what is What.HELD
        assert len(online.told) == 1


class TestHandedOff:
    """What clean-up asks."""

    def test_it_is_from_the_file_on(self, tmp_path: Path) -> None:
        home, record = tmp_path / "online", Record(tmp_path, RUN)
        assert not is_handed_off(tmp_path, home, RUN)
        record.making(NAME)
        home.mkdir()
        (home / NAME).touch()
        assert not is_handed_off(tmp_path, home, RUN), "it may be made again"
        record.has_made(MADE)
        (home / NAME).unlink()
        assert is_handed_off(tmp_path, home, RUN), "Online took it away"

    def test_what_somebody_else_left_counts(self, tmp_path: Path) -> None:
        (tmp_path / f"00000001-{RUN}.evt").touch()
        assert is_handed_off(tmp_path, tmp_path, RUN)
        assert not is_handed_off(tmp_path, tmp_path, RunId("2c2e5788"))


class TestRecord:
    def tell(self, work: Path) -> Record:
        record = Record(work, RUN)
        record.making(NAME)
        record.has_made(MADE)
        record.intend(["a b", "é"])
        record.conclude(Outcome.TOLD, By.ANSWER, 0, ("said",))
        return record

    def test_what_is_recorded_comes_back(self, tmp_path: Path) -> None:
        record = self.tell(tmp_path)
        again = Record(tmp_path, RUN)
        for one in (record, again):
            assert (one.state, one.made, one.names) == (State.DONE, MADE, frozenset({NAME}))
            assert one.attempts[-1].command == ("a b", "é")

    def test_the_records_are_these(self, tmp_path: Path) -> None:
        self.tell(tmp_path)
        assert [
            {key: one[key] for key in one.keys() - SEALS}
            for one in values(tmp_path, paths.online_record(RUN))
        ] == RECORDS

    @pytest.mark.parametrize(
        ("more", "state"),
        [
            ([{"making": NAME}], State.MAKING),
            ([{"made": MADE.as_json()}], State.UNTOLD),
            ([{"made": MADE.as_json() | {"tell": False}}], State.DONE),
            ([{"made": MADE.as_json()}, GIVEN | {"outcome": "started", "by": "person"}], State.DONE),
            ([{"made": MADE.as_json()}, GIVEN], State.OPEN),
            # The answer of a process that stood still, for the file before.
            ([{"made": MADE.as_json()}, {"attempt": 1, "outcome": "started", "by": "answer"}], State.UNTOLD),
        ],
    )
    def test_after_a_file_that_was_made_anew(
        self, more: list[dict[str, object]], state: State, tmp_path: Path
    ) -> None:
        record = self.tell(tmp_path)
        for one in more:
            record.append(one)
        assert Record(tmp_path, RUN).state is record.state is state

    def test_without_its_last_records_it_is_as_it_was_before(self, tmp_path: Path) -> None:
        self.tell(tmp_path)
        for number, state in ((4, State.OPEN), (3, State.UNTOLD), (2, State.MAKING), (1, State.NOTHING)):
            forget(tmp_path, paths.online_record(RUN), number)
            assert Record(tmp_path, RUN).state is state

    @pytest.mark.parametrize(
        "one", [{}, {"made": {}}, {"made": 1}, {"attempt": 1, "outcome": "perhaps", "by": "answer"}]
    )
    def test_what_cannot_be_a_record_is_named(self, one: dict[str, Any], tmp_path: Path) -> None:
        self.tell(tmp_path)
        series = Series(tmp_path, paths.online_record(RUN))
        series.read()
        series.publish(one)
        with pytest.raises(StateError, match=r"000005\.json"):
            Record(tmp_path, RUN)


def test_the_record_has_the_files_checksum(site: Site) -> None:
    online = on_site(site, "lci_acd", FIRST)
    online.go()
    made = Record(site.work, RUN).made
    assert made is not None
    assert made.file.sha256 == sha256(online.home / NAME)
    assert made.file.size == (online.home / NAME).stat().st_size


def test_a_record_put_back_from_a_backup_tells_online_nothing_twice(site: Site) -> None:
    online = on_site(site, "lci_acd", FIRST)
    settings = online.settings(online.command())
    assert online.go(settings).what is What.MADE
    (online.home / NAME).unlink()  # Online has taken it
    for home in (paths.online_record(RUN), paths.copies(paths.online_record(RUN))):
        shutil.rmtree(site.work / home)
    result = online.go(settings)
    assert (result.what, len(online.told)) == (What.FAILED, 1)
    assert online.files() == {}


def test_switched_off_nothing_is_handed_off(site: Site) -> None:
    settings = load([on_site(site, "lci_acd", FIRST).site.configfile])
    with pytest.raises(ConfigError, match=r"paths\.online is null"):
        online_handoff.again(settings, RUN, StringIO())
    with pytest.raises(ConfigError, match=r"paths\.online is null"):
        list(online_handoff.hand_off(settings, [RUN], StringIO()))


def test_the_config(tmp_path: Path) -> None:
    where = {"paths": {"work": "w", "stage": "s"}}
    settings = load((), where)
    assert (settings.paths.online, settings.online) == (None, OnlineSettings((RunKind.LCI,), None))
    where["paths"]["online"] = str(tmp_path / "evt")
    settings = load((), {**where, "online": {"types": ["LPA"], "command": "start {file}"}})
    assert settings.paths.online == tmp_path / "evt"
    assert settings.online == OnlineSettings((RunKind.LPA,), "start {file}")
    with pytest.raises(ConfigError, match=r"online\.types\.0: 'TKR': "):
        load((), {**where, "online": {"types": ["TKR"]}})
