"""Submission: which commands run in every state of the record, and which errors are raised."""

import json
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from sqlalchemy import insert

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.errors import ConfigError, HalfPipeError, MissingInputError, StageError, StateError
from halfpipe.files import typed
from halfpipe.files.json_files import write_json
from halfpipe.files.pointers import point
from halfpipe.files.records import Series, TakenError
from halfpipe.ids import DownlinkId
from halfpipe.ledger.database import Ledger as Database
from halfpipe.ledger.tables import DOWNLINKS
from halfpipe.notify import submit
from halfpipe.notify.submissions import submissions
from halfpipe.notify.submit import SubmissionError
from halfpipe.settings import SUBMIT_CONTRACT, Decoder, Ledger, Settings, Submit
from halfpipe.state.attempts import Action, Answer, Attempt, By, Outcome, UnknownOutcomeError, ask
from halfpipe.state.halts import HeldError
from halfpipe.status.causes.submission import level1_causes
from halfpipe.status.survey import Survey, read_facts
from tests.support.level1 import DL, RUN, Level1, is_unknown, outcome_of
from tests.support.series import damage, forget, noted
from tests.support.settings import told


def refused(settings: Settings, kind: type[HalfPipeError] = SubmissionError) -> str:
    return raised(lambda: submitted(settings), kind)


def raised(what: Callable[[], object], kind: type[HalfPipeError] = SubmissionError) -> str:
    with pytest.raises(kind) as error:
        what()
    return str(error.value)


def submitted(settings: Settings) -> dict[str, Any]:
    return outcome_of(submit.submit(settings, DL, StringIO()))


def settled(level1: Level1, heard: bool) -> None:
    submit.settle(level1.settings(), DL, heard)


def create(level1: Level1) -> None:
    ask(shlex.split(level1.creates), StringIO())


def fails(mode: str, *says: str, **keys: str) -> Callable[[Level1], None]:
    """Let the command of a submission fail; the message names the record and the next commands."""

    def make(level1: Level1) -> None:
        level1.go_wrong(createStream=mode)
        said = refused(level1.settings(**keys))
        assert [each for each in (SAY, AGAIN) if each in said] == list(says)
        assert str(level1.work / paths.submissions(DL)) in said
        level1.go_wrong()

    return make


def open_and_heard(level1: Level1) -> None:
    level1.leave_open()
    create(level1)


def hand_off_later(level1: Level1) -> None:
    submitted(level1.settings())
    level1.hand_off(2)


def open_roll_back(level1: Level1) -> None:
    hand_off_later(level1)
    submissions(level1.work, DL).intend(("roll",), action=Action.ROLLBACK, handoff=2)


COMMANDS: tuple[Callable[[Level1], object], ...] = (
    lambda one: submitted(one.settings()),
    lambda one: submitted(one.settings(check=None)),
    lambda one: settled(one, heard=True),
    lambda one: settled(one, heard=False),
    lambda one: submit.roll_back(one.settings(), DL, StringIO()),
)
SUBMIT, BLIND, HEARD, UNHEARD, ROLL_BACK = range(len(COMMANDS))
AGAIN, SAY, BACK = f"snakemake submit={DL}", f"halfpipe submit {DL} --settle submitted", f"{DL} --rollback"
T, N = "submitted", "not-submitted"
Cell = list[str] | None
SETTLES: tuple[Cell, ...] = (None, [T], [N], None)  # only a person settles it
# How the state is made; the code of its cause, and the end of its remedies with and without a check; for each command
# the outcomes of all attempts after it. None: the command is refused, and nothing happens.
STATES: dict[str, tuple[Callable[[Level1], object], str, tuple[str, str], tuple[Cell, ...]]] = {
    "not tried": (lambda _: None, "not-submitted", (AGAIN, AGAIN), ([T], [T], [T], None, None)),
    "not there": (
        fails("", command="/no/such/client {dl}"), "not-submitted", (AGAIN, AGAIN),
        ([N, T], [N, T], [N, T], None, None),
    ),
    "submitted": (COMMANDS[SUBMIT], "", ("", ""), ([T], [T], None, None, [T, T])),
    "again": (hand_off_later, "handoff-not-submitted", (BACK, BACK), ([T], [T], [T, T], None, [T, T])),
    "open": (Level1.leave_open, "submission", (AGAIN, SAY), ([N, T], *SETTLES)),
    "open, heard": (open_and_heard, "submission", (AGAIN, SAY), ([T], *SETTLES)),
    "crashed": (fails("crash", AGAIN), "submission", (AGAIN, SAY), ([T], *SETTLES)),
    "refused": (fails("refuse", SAY), "submission", (AGAIN, SAY), ([N, T], *SETTLES)),
    "failed, heard": (fails("fail", SAY), "submission", (AGAIN, SAY), ([T], *SETTLES)),
    "lied": (fails("lie", SAY), "submission", (SAY, SAY), (None, None, [T], [N], None)),
    "written": (
        lambda one: submitted(one.settings(command=None, check=None)), "written-for-person", (SAY, SAY),
        ([N, T], None, [T], [N], None),
    ),
    "rolls back": (
        open_roll_back, "submission", (SAY, SAY), ([T, ""], [T, ""], [T, T], [T, N], None)
    ),
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_each_state_has_a_cause_with_its_command(state: str, level1: Level1) -> None:
    make, code, remedies, _ = STATES[state]
    make(level1)
    for keys, end in zip(({}, {"check": None}), remedies, strict=True):
        causes = [*level1_causes(read_facts(Survey(level1.settings(**keys)), DL))]
        verdict = Verdict.NOTE if state == "not tried" else Verdict.ACTION
        assert [each[:2] for each in told(causes)] == ([(code, verdict)] if code else [])
        assert all(do.endswith(end) for *_, do in told(causes))
        assert all(("(/no/such/client)" in cause.text) == (state == "not there") for cause in causes)


@pytest.mark.parametrize("command", range(len(COMMANDS)), ids=["submit", "blind", "heard", "unheard", "back"])
@pytest.mark.parametrize("state", STATES)
def test_commands_in_each_state_create_at_most_one_stream(state: str, command: int, level1: Level1) -> None:
    """If it is not known whether a stream exists, a check or a person must settle it first."""
    make, _, (_, blind), came = STATES[state]
    make(level1)
    before, streams, product = level1.words(), level1.commands(), level1.work / paths.submitted(DL)
    write_json(product, {})
    if (wanted := came[command]) is None:
        raised(lambda: COMMANDS[command](level1))
        assert (level1.words(), level1.commands()) == (before, streams)
        assert is_unknown(level1.work, DL) == (blind == SAY)
        return
    COMMANDS[command](level1)
    assert level1.words() == wanted
    assert product.exists() == (before == wanted), "an outdated product is removed"
    if command == ROLL_BACK:
        assert level1.commands() == [*streams, "rollbackStream"]
    elif command == UNHEARD and streams and state != "rolls back":
        return  # the person was wrong
    number = 2 if command in {HEARD, ROLL_BACK} and state in {"again", "rolls back"} else 1
    assert submitted(level1.settings(check=None))["submitted"] == number
    if command != ROLL_BACK:
        assert level1.commands() == (streams or ["createStream"] * (command != HEARD))


def test_a_roll_back_that_is_not_possible_or_fails(level1: Level1) -> None:
    submitted(level1.settings())
    raised(lambda: submit.roll_back(level1.settings(rollback=None), DL, StringIO()), ConfigError)
    switch = level1.work / "halts" / "haltL1"
    switch.parent.mkdir()
    switch.touch()
    raised(lambda: COMMANDS[ROLL_BACK](level1), HeldError)
    switch.unlink()
    assert level1.commands() == ["createStream"]
    level1.go_wrong(rollbackStream="refuse")
    assert "submit.rollback ended with exit status 3" in raised(lambda: COMMANDS[ROLL_BACK](level1))
    assert submitted(level1.settings())["submitted"] == 1, "the stream still exists"


def test_a_failing_check_settles_nothing(level1: Level1) -> None:
    level1.leave_open()
    level1.go_wrong(find="refuse")
    for settings in (level1.settings(), level1.settings(check="/no/such/client {dl}")):
        assert "submit.check" in refused(settings)
    assert (level1.words(), level1.commands()) == ([""], [])


def test_a_person_confirms_a_stream_that_was_created_by_hand(level1: Level1) -> None:
    create(level1)
    assert "submit.check finds stream" in refused(level1.settings())
    assert level1.words() == []
    level1.hand_off(3)
    settled(level1, heard=True)
    content = submitted(level1.settings())
    assert (content["handoff"], content["submitted"], content["command"]) == (3, 3, None)
    # A downlink that was never handed off gets no record.
    misspelt = DownlinkId("240601011")
    for heard in (True, False):
        raised(lambda heard=heard: submit.settle(level1.settings(), misspelt, heard), MissingInputError)  # type: ignore[misc]
    assert not (level1.work / misspelt).exists()


def test_the_command_gets_the_variables_of_level_1(level1: Level1) -> None:
    log = StringIO()
    content = outcome_of(submit.submit(level1.settings(), DL, log))
    (line,) = (level1.server / "journal.jsonl").read_text().splitlines()
    variables = {"DOWNLINK_ID": DL, "DOWNLINK_RAWDIR": str(level1.stage / DL)}
    created = {"command": "createStream", "mode": "DEV", "task": "L1Proc", "stream": 240601001}
    assert json.loads(line) == created | {"variables": variables}
    known = {"handoff": 1, "state": "submitted", "submitted": 1}
    assert content == known | {"command": level1.creates}
    assert level1.recorded()[-1]["said"][-1] == "pipeline: stream 240601001, key 1001"
    assert "stream 240601001, key 1001" in log.getvalue()
    # It is never submitted again, with any config, and after Level-1 has taken the files.
    shutil.rmtree(level1.stage)
    for settings in (level1.settings(), level1.settings(check=None), level1.settings(command=None)):
        assert submitted(settings) == content
    assert level1.commands() == ["createStream"]


def test_without_a_command_its_line_is_written_for_a_person(level1: Level1) -> None:
    settings = level1.settings(command=None, check=None)
    line = f"pipeline -m PROD createStream -S {DL} -D DOWNLINK_ID={DL} -D DOWNLINK_RAWDIR={level1.stage / DL} L1Proc"
    expected = {"handoff": 1, "state": "written", "submitted": None, "command": line}
    for keys in ({"check": None}, {}, {}):
        assert submitted(level1.settings(command=None, **keys)) == expected
        assert level1.words() == ["written"], "once"
    level1.hand_off(2)
    assert submitted(settings) == expected | {"handoff": 2}
    assert level1.words() == ["written"] * 2
    moved = level1.stage.rename(level1.home / "moved")
    level1.stage = moved
    settings = level1.settings(command=None, check=None)
    assert f"DOWNLINK_RAWDIR={moved / DL} " in submitted(settings)["command"]
    assert level1.words() == ["written"] * 3
    assert level1.commands() == []


@pytest.mark.parametrize(
    ("command", "verdict"),
    [
        (SUBMIT_CONTRACT, Verdict.ACTION),
        (None, Verdict.NOTE),
        ("/sw/pipeline createStream -S {dl} L1Proc", Verdict.ACTION),  # without -m the mode is PROD
        ("sh -c 'pipeline --mode=PROD createStream -S {dl} L1Proc'", Verdict.ACTION),
        ("pipeline -m DEV createStream -S {dl} L1Proc", None),
        ("true {dl}", None),
    ],
)
@pytest.mark.parametrize("by", ["config", "receipt"])
def test_simulated_data_are_never_offered_to_production(
    level1: Level1, command: str | None, verdict: Verdict | None, by: str
) -> None:
    settings = level1.settings(command=command, check=None)
    (cause,) = level1_causes(read_facts(Survey(settings), DL))
    assert cause.code == "not-submitted", "flight data"
    if by == "config":
        settings = replace(settings, decoder=Decoder())
    else:
        known = Series(level1.work, paths.receipts(DL))
        (first,) = known.read()
        made = known.publish({**first.values, "handoff": 2, "simulated": True})
        point(level1.work / paths.receipt(DL), made)
    (cause,) = level1_causes(read_facts(Survey(settings), DL))
    if verdict is None:
        assert cause.code == "not-submitted"
        return
    assert (cause.code, cause.verdict, cause.remedy.do) == ("simulated", verdict, ())
    with pytest.raises(SubmissionError) as error:
        submitted(settings)
    assert (error.value.code, level1.words()) == ("simulated", [])


def test_simulated_data_are_not_rolled_back_in_production(level1: Level1) -> None:
    submitted(level1.settings())
    level1.hand_off(2)
    rollback = "python scripts/pipeline_stream.py rollback {dl}"
    settings = replace(level1.settings(rollback=rollback), decoder=Decoder())
    with pytest.raises(SubmissionError) as error:
        submit.roll_back(settings, DL, StringIO())
    assert (error.value.code, level1.words()) == ("simulated", ["submitted"])
    submit.roll_back(replace(level1.settings(), decoder=Decoder()), DL, StringIO())
    assert level1.commands() == ["createStream", "rollbackStream"]


def test_a_command_that_was_written_before_is_not_shown_for_simulated_data(level1: Level1) -> None:
    settings = level1.settings(command=None, check=None)
    submitted(settings)
    (cause,) = level1_causes(read_facts(Survey(replace(settings, decoder=Decoder())), DL))
    assert (cause.code, cause.remedy.do) == (
        "written-for-person",
        (f"halfpipe submit {DL} --settle not-submitted",),
    )
    settled(level1, heard=False)
    (cause,) = level1_causes(read_facts(Survey(replace(settings, decoder=Decoder())), DL))
    assert cause.code == "simulated"


@pytest.mark.parametrize("command", ["as it is", None])
def test_a_stage_that_differs_or_lacks_hand_off_is_not_submitted(command: str | None, level1: Level1) -> None:
    file = level1.stage / paths.staged_run(DL, RUN.l1) / paths.event_file(RUN.l1, 1)
    content, token = file.read_bytes(), level1.stage / paths.tokens(RUN.l1) / file.stem
    settings = level1.settings() if command else level1.settings(command=None, check=None)
    for harmed in (None, content[:-1] + b"?"):
        file.unlink()
        if harmed is not None:
            file.write_bytes(harmed)
        assert str(file) in refused(settings, StageError)
        file.write_bytes(content)
    token.unlink()
    assert str(token) in refused(settings, StageError)
    token.touch()
    for foreign in (file.with_name("of-another"), file.parents[1] / "r0000000001"):
        foreign.mkdir()
        assert str(foreign) in refused(settings, StageError)
        foreign.rmdir()
    receipt = level1.work / paths.receipt(DL)
    outstanding = receipt.rename(level1.home / "aside")
    refused(settings, MissingInputError)
    outstanding.rename(receipt)
    assert level1.words() == []
    assert submitted(settings)["handoff"] == 1


def left_behind(level1: Level1, seconds: float = 300.0) -> None:
    """Record an attempt whose process was killed, and whose command may still run."""
    submissions(level1.work, DL).intend(("a", "line"), seconds=seconds, action=Action.SUBMIT, handoff=1)


def test_a_check_counts_only_after_the_leftover_command_has_ended(
    level1: Level1, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The leftover command creates the stream while the next submission waits."""
    left_behind(level1)
    slept: list[float] = []

    def heard(seconds: float) -> None:
        if seconds > 20:
            slept.append(seconds)
            create(level1)
            later = time.time() + seconds
            monkeypatch.setattr("time.time", lambda: later)

    monkeypatch.setattr("time.sleep", heard)
    assert submitted(level1.settings())["state"] == "submitted"
    assert slept == [pytest.approx(300, abs=30)]
    assert level1.words() == ["submitted"]
    assert level1.commands() == ["createStream"]
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 1


def test_a_person_cannot_settle_while_the_command_may_run(level1: Level1) -> None:
    left_behind(level1, seconds=1.0)
    assert "Look again" in raised(lambda: settled(level1, heard=False), UnknownOutcomeError)
    assert level1.words() == [""]
    time.sleep(1.1)
    settled(level1, heard=False)
    left_behind(level1)
    settled(level1, heard=True)
    assert level1.words() == ["not-submitted", "submitted"]


@pytest.mark.parametrize(
    ("check", "harm", "number"),
    [(True, forget, 2), (True, damage, 2), (True, forget, 1), (False, forget, 2), (False, damage, 1)],
)
def test_a_lost_record_never_leads_to_a_second_stream(
    level1: Level1, check: bool, harm: Callable[..., None], number: int
) -> None:
    settings = level1.settings(seconds=1.5, **({} if check else {"check": None}))
    submitted(settings)
    harm(level1.work, paths.submissions(DL), number)
    if check and number == 2 and harm is forget:
        assert submitted(settings)["submitted"] == 1  # as after a killed submission
    else:
        refused(settings, HalfPipeError)
    assert level1.commands() == ["createStream"]


def test_a_submission_is_noted_in_the_stage_before_its_command_runs(level1: Level1) -> None:
    seen = level1.home / f"seen-{DL}"
    submitted(level1.settings(command=f"cp -r {level1.stage} {level1.home}/seen-{{dl}}", check=None))
    assert (paths.submissions(DL), 1) in noted(seen)
    assert (paths.submissions(DL), 2) in noted(level1.stage)


def test_an_outdated_product_is_removed_before_the_roll_back(level1: Level1) -> None:
    """Otherwise a killed rollback would leave it, and nothing would write it again."""
    settings = level1.settings()
    submit.save(settings, submit.submit(settings, DL, StringIO()))
    level1.hand_off(2)
    product = level1.work / paths.submitted(DL)
    submit.roll_back(
        level1.settings(rollback=f"test ! -e {product.with_name('submit={dl}')}"), DL, StringIO()
    )
    assert not product.exists()


def test_a_suspended_process_does_not_submit_after_another_one(
    level1: Level1, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was suspended just before it recorded its intent."""

    def is_suspended(*_: object, **_more: object) -> list[object]:
        monkeypatch.undo()
        submitted(level1.settings())
        return []

    monkeypatch.setattr(submit, "differences", is_suspended)
    refused(level1.settings(), TakenError)
    assert level1.commands() == ["createStream"]
    assert submitted(level1.settings())["state"] == "submitted"
    assert level1.commands() == ["createStream"]


@pytest.mark.parametrize(("by", "code"), [("mark", "restored"), ("ledger", "damaged")])
def test_a_submission_without_any_record_is_still_noticed(
    level1: Level1, by: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = level1.settings(check=None)
    if by == "ledger":
        settings = replace(settings, ledger=Ledger())
        monkeypatch.setattr("halfpipe.ledger.check.lacks", lambda *_, **_more: None)
        row = {"id": int(DL), "indir": "", "outbase": "", "record": 1, "receipt": "0" * 64}
        Database.of(settings).write(lambda connection: connection.execute(insert(DOWNLINKS), [row]))
        (level1.work / paths.loaded(DL)).write_text("{}")
    submit.save(settings, submit.submit(settings, DL, StringIO()))
    forget(level1.work, paths.submissions(DL))
    if by != "mark":
        shutil.rmtree(level1.stage / paths.STAGE_MARK)
        shutil.rmtree(level1.work / paths.STAGE_MARK_COPY)
    (cause,) = level1_causes(read_facts(Survey(settings), DL))
    assert (cause.code, cause.verdict) == ("damaged", Verdict.ACTION)
    for commands in (settings.submit, Submit()):
        with pytest.raises(HalfPipeError) as error:
            submitted(replace(settings, submit=commands))
        assert error.value.code == code
    assert level1.commands() == ["createStream"]
    submit.settle(settings, DL, True)
    assert list(level1_causes(read_facts(Survey(settings), DL))) == []


WRITTEN = datetime(2026, 11, 1, 2, 3, 4, tzinfo=UTC), "shift, process 7 on host"
INTENT = typed.values(Attempt(*WRITTEN, 3, (), 0.0, Action.SUBMIT, 1, "", Outcome.OPEN, None))
ANSWER = typed.values(Answer(*WRITTEN, 2, Outcome.FAILED, By.PERSON, None, ()))


@pytest.mark.parametrize(
    "one",
    [
        {}, ANSWER | {"outcome": "told"}, ANSWER | {"by": "nobody"}, ANSWER | {"attempt": 0},
        ANSWER | {"attempt": 3}, ANSWER | {"more": 1}, INTENT | {"number": 5}, INTENT | {"number": 2},
        INTENT | {"action": "repeat"}, INTENT | {"seconds": "a while"}, INTENT | {"when": "2026-11-01T02:03:04"},
    ],
)  # fmt: skip
def test_an_impossible_record_is_refused_by_name(one: dict[str, Any], level1: Level1) -> None:
    settled(level1, heard=True)
    level1.leave_open(Action.ROLLBACK)
    series = Series(level1.work, paths.submissions(DL))
    series.read()
    series.publish(one)
    with pytest.raises(StateError, match=rf"{series.home}/000003\.json"):
        submissions(level1.work, DL)
