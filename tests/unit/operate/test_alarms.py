"""Alarms: which messages are due, by properties over random histories, and by hand."""

import json
import shlex
import sys
import time
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import settings as of_test
from hypothesis import strategies as st

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.decisions import Decisions, What, decide, open_problems
from halfpipe.errors import Remedy
from halfpipe.operate.alarms import (
    MOST_CAUSES,
    Alarms,
    Message,
    Occasion,
    due_messages,
    send,
    site_subject,
    subject_of,
    text_of,
)
from halfpipe.settings import Alarm, Paths, Settings
from halfpipe.status.overview import Told, read_told, write_told
from tests.support.harness import Messages

DAY = 86400.0
TURN = 600.0
SUBJECTS = ("230401001", "230401002", site_subject("silence"))
BAD = (("failed", "decode_chunk 00001: bad"), ("failed", "receipt: bad"), ("level1-refuses", "held"))
CAUSES = [Cause(code, Verdict.ACTION, text, Remedy(first="do this")) for code, text in BAD]
turns = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(SUBJECTS), st.lists(st.sampled_from(CAUSES), max_size=3)),
        st.sets(st.sampled_from(SUBJECTS)),
    ),
    max_size=30,
)


def flat(found: dict[str, list[Cause]]) -> list[tuple[str, Cause]]:
    return [(subject, cause) for subject, causes in found.items() for cause in causes]


@given(turns)
@of_test(max_examples=40)
def test_readers_of_all_mails_know_the_state(
    history: list[tuple[dict[str, list[Cause]], set[str]]],
) -> None:
    state: dict[str, Told] = {}
    heard: dict[str, list[str]] = {}  # the state for a reader of all mails
    last_told: dict[str, float] = {}
    now = 0.0
    for found, unknown in history:
        now += TURN
        before = dict(heard)
        messages, state = due_messages(state, flat(found), now, 10 * TURN, unknown)
        assert len({message.subject for message in messages}) == len(messages), "one message for each"
        for message in messages:
            heard[message.subject] = sorted(cause.code for cause in message.causes)
            if message.occasion is Occasion.LASTS:
                assert now - last_told[message.subject] >= 10 * TURN
            last_told[message.subject] = now
            was = before.get(message.subject, [])
            now_has = heard[message.subject]
            expected = Occasion.CHANGED if was != now_has else Occasion.LASTS
            if not (was and now_has):
                expected = Occasion.OVER if was else Occasion.NEW
            assert message.occasion is expected
            assert was or now_has
        for subject in SUBJECTS:
            there = sorted(cause.code for cause in found.get(subject, []))
            if there or subject not in unknown:
                assert heard.get(subject, []) == there
            if there:
                assert now - last_told[subject] < 10 * TURN
        assert {subject for subject, codes in heard.items() if codes} == set(state)


def test_a_problem_changes_with_its_codes_and_not_with_its_words() -> None:
    def kinds(before: list[str], now: list[str]) -> list[Occasion]:
        causes = [Cause(code, Verdict.ACTION, f"{len(before)} of these, for 3 h") for code in now]
        told = {SUBJECTS[0]: Told(before, 0.0, 0.0)}
        return [message.occasion for message in due_messages(told, flat({SUBJECTS[0]: causes}), TURN, DAY)[0]]

    assert kinds(["failed"], ["failed"]) == []
    assert kinds(["failed"], ["level1-refuses"]) == [Occasion.CHANGED]
    assert kinds(["level1-refuses"], ["level1-refuses", "level1-refuses"]) == [Occasion.CHANGED], (
        "a second one is held"
    )


def test_what_a_person_works_on_is_not_repeated_until_it_changes(tmp_path: Path) -> None:
    settings = Settings(Paths(tmp_path, tmp_path), alarm=Alarm(remind_hours=1e-12))
    said = Messages()

    def missing(events: int) -> Cause:
        return Cause(
            "events-missing", Verdict.ACTION, "lost", Remedy(accept=[f"230401001/00003 events={events}"])
        )

    def report(*found: Cause) -> list[str]:
        """Return the mails of a turn."""
        before = len(said)
        Alarms(settings, said).report([("230401001", cause) for cause in found])
        return said[before:]

    def acknowledge(*found: Cause) -> None:
        for problem, number in open_problems(("230401001", cause) for cause in found).items():
            assert decide(tmp_path, What.SEEN, problem, number, "archive called")

    failed = CAUSES[0]
    assert [len(report(failed, missing(12))) for _ in range(2)] == [1, 1]
    acknowledge(failed)
    (mail,) = report(failed, missing(12))
    assert (mail.count("seen: archive called ("), ", still (since " in mail) == (1, True)
    acknowledge(missing(12))
    assert report(failed, missing(12)) == []
    (mail,) = report(failed, missing(13))
    assert (mail.count("seen: "), ", changed (since " in mail) == (1, True), "more events are lost"
    assert report(failed, missing(13)), "the others are not noted"
    assert len(report(failed, failed)) == 1, "a second one"
    assert Decisions.read(tmp_path).in_force == {}
    acknowledge(failed, failed)
    assert report(failed, failed) == []
    Alarms(settings, said).report_site("silence", CAUSES[:1])
    Alarms(settings, said).report([], {"230401001"})
    assert report(failed, failed) == [], "a turn that does not know the downlink changes nothing"
    (mail,) = report()
    assert ": over; " in mail
    assert len(report(failed, failed)) == 1, "it comes again"
    acknowledge(missing(12))
    Alarms(settings, said, tmp_path / "elsewhere").report([])
    assert len(Decisions.read(tmp_path).in_force) == 1
    report(failed, failed)
    assert Decisions.read(tmp_path).in_force == {}, "no mail had told it"


def test_a_clock_that_was_set_back_does_not_stop_reminders() -> None:
    _, state = due_messages({}, [("230401001", CAUSES[0])], 100 * DAY, DAY)
    messages, _ = due_messages(state, [("230401001", CAUSES[0])], 2 * DAY, DAY)
    assert [message.occasion for message in messages] == [Occasion.LASTS]


def test_a_mail_begins_with_what_is_new() -> None:
    many = tuple(Cause("x", Verdict.ACTION, f"{'y' * 99} {number}") for number in range(MOST_CAUSES + 2))
    messages = [
        Message(Occasion.LASTS, "230401001", (CAUSES[2],), 0.0),
        Message(Occasion.NEW, "230401002", (CAUSES[0], CAUSES[1]), 0.0),
        Message(Occasion.OVER, "230401003", (), 0.0, ["decoder decode_chunk 00001"]),
    ]
    assert subject_of(messages) == (
        "HalfPipe: downlink 230401002: failed: decode_chunk 00001: bad (and 2 more)"
    )
    assert len(subject_of([Message(Occasion.NEW, "230401001", many, 0)])) <= 100
    long = Cause("decoder", Verdict.ACTION, f"decode_chunk 1: {'/long' * 30}", failed="decode_chunk 1")
    begin = "HalfPipe: downlink 230401001: decoder: /long/long"
    assert subject_of([Message(Occasion.NEW, "230401001", (long,), 0)]).startswith(begin)
    assert subject_of(messages[2:]) == "HalfPipe: downlink 230401003: decoder: over"
    of_site = Message(Occasion.OVER, site_subject("ledger"), (), 0.0, ["ledger"])
    assert subject_of([of_site]) == "HalfPipe: the site (ledger): over"
    assert text_of(messages) == (
        "downlink 230401001, still (since 1970-01-01 00:00:00 UTC)\n  held\n    do this\n"
        "downlink 230401002\n  decode_chunk 00001: bad\n    do this\n  receipt: bad\n    do this\n"
        "downlink 230401003: over; it began 1970-01-01 00:00:00 UTC\n  decoder decode_chunk 00001"
    )
    text = text_of([Message(Occasion.NEW, "230401001", many, 0)])
    assert (text.count("yy "), "and 2 more" in text) == (MOST_CAUSES, True)


MISSPELT = json.dumps({"sent": {"x": {"fact": ["failed"], "since": 1.0, "at": 2.0}}})


def test_sent_messages_are_remembered_and_a_damaged_file_repeats_them(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "told.json"
    told = {"230401001": Told(["failed"], 1.0, 2.0)}
    write_told(path, told)
    assert read_told(path) == told
    for damage in ("", "[]", "{}", '{"sent": 1}', json.dumps({"sent": {"x": {}}}), MISSPELT):
        path.write_text(damage)
        assert read_told(path) == {}


@pytest.mark.parametrize("fails", [False, True])
def test_the_command_gets_the_message_and_its_failure_loses_nothing(tmp_path: Path, fails: bool) -> None:
    program = tmp_path / "mail.py"
    program.write_text(
        "import pathlib, sys\n"
        f"pathlib.Path({str(tmp_path / 'mail.txt')!r}).write_text(sys.argv[1] + '|' + sys.stdin.read())\n"
        + ("sys.exit('no mail today')\n" if fails else "")
    )
    command = shlex.join([sys.executable, str(program), "{subject}"])
    settings = Settings(Paths(tmp_path, tmp_path), alarm=Alarm(command=command))
    printed = Messages()
    assert send(settings, "It's bad", "a\nb", printed)
    assert (tmp_path / "mail.txt").read_text() == "It's bad|a\nb\n"
    if not fails:
        assert printed == []
        return
    (said,) = printed
    assert said.startswith(
        'It\'s bad\n\na\nb\n\nalarm.command ended with exit status 1, saying: "no mail today".'
    )
    assert send(Settings(Paths(tmp_path, tmp_path)), "x", "y", lambda _: False) is False


def test_two_processes_at_once_remember_both_messages(tmp_path: Path) -> None:
    """A turn reports, and another one, which cannot begin, reports that meanwhile."""
    settings = Settings(Paths(tmp_path, tmp_path))
    said = Messages()
    other = Thread(target=lambda: Alarms(settings, said).report_site("silence", CAUSES[:1]))

    def meanwhile(text: str) -> bool:
        other.start()
        time.sleep(0.5)
        return said(text)

    Alarms(settings, meanwhile).report([("240601001", CAUSES[0])])
    other.join()
    known = read_told(settings.paths.work / paths.ALERT_STATE)
    assert (set(known), len(said)) == ({"240601001", site_subject("silence")}, 2)


def test_a_message_that_was_not_sent_is_repeated(tmp_path: Path) -> None:
    printed = Messages(missed=1)
    for _ in range(3):
        note = Cause("closed", Verdict.NOTE, "x")
        found = [("230401001", CAUSES[0]), ("230401002", note)]
        Alarms(Settings(Paths(tmp_path, tmp_path)), printed).report(found)
    assert len(printed) == 2
    assert not any("230401002" in text for text in printed)
    told = tmp_path / paths.ALERT_STATE
    told.unlink()
    told.mkdir()
    Alarms(Settings(Paths(tmp_path, tmp_path)), printed).report(found)
    assert str(told) in printed[-1], "it cannot be remembered"
