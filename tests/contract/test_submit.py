"""Submission and halt switches through the workflow, and death at random moments: once each, none forgotten."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.config import load
from halfpipe.downlink.submission_causes import troubles, warnings_before
from halfpipe.downlink.submissions import Record
from halfpipe.downlink.submit import settle
from halfpipe.ids import DownlinkId
from halfpipe.process.told_once import Outcome
from tests.support.in_process import ROOT
from tests.support.leases import time_passes
from tests.support.level1 import Level1, is_unknown, with_level1
from tests.support.workflow import Job

FIRST, SECOND = "240601001", "240601002"
RUN = "2c2e5787"
SUBMIT, RECEIPT = Job("submit", FIRST), Job("receipt", FIRST)
PATIENCE = 60  # seconds, on a machine that is busy with other tests
WARM_UP = 3  # submissions that are timed and not killed
# What the pipeline takes before and after it creates a stream, seconds: so long that a command which was left
# behind is not done when the next one asks.
SLOW = 0.1
# It may take so long; what is to be seen after that is waited for, if a process was killed meanwhile.
LIMIT = 5.0

# Runs a program again and again, each time in a fork that has everything imported: reads its arguments, says which
# process it is, then how that ended.
REPEATER = """
import json, os, runpy, sys
import halfpipe.process.rule_program, halfpipe.downlink.submit
script = sys.argv[1]
for line in sys.stdin:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        sys.argv = [script, *json.loads(line)]
        os.dup2(2, 1)
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            os._exit(end.code or 0)
        os._exit(99)
    os.close(read)
    os.setpgid(child, child)  # so that its command can be killed with it
    print(child, flush=True)
    os.close(write)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Submitter:
    """Runs scripts/submit.py for one downlink after the other, and kills it."""

    def __init__(self, level1: Level1, *, check: bool) -> None:
        self.level1 = level1
        self.said = level1.home / "said.txt"
        asked = {} if check else {"check": None}
        self.settings = level1.settings(seconds=LIMIT, **asked)
        self.file = level1.home / "settings.json"
        self.file.write_text(self.settings.as_json())
        with self.said.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", REPEATER, str(ROOT / "scripts" / "submit.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                text=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )

    def submit(
        self,
        downlink: str,
        *,
        until: Callable[[], object] | None = None,
        by: signal.Signals = signal.SIGKILL,
        with_command: bool = False,
    ) -> int:
        """Run the program, which is ended `by` a signal when `until` returns, `with_command` or alone.

        Returns
        -------
        int
            How it ended.
        """
        time_passes(self.level1.work)  # of the one before that was killed
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(["--settings", str(self.file), "--downlink", downlink]) + "\n")
        self.process.stdin.flush()
        pid = int(self.process.stdout.readline())
        if until is not None:
            until()
            with suppress(ProcessLookupError):
                (os.killpg if with_command else os.kill)(pid, by)
        return int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def after(seconds: float) -> Callable[[], object]:
    """Return what waits for some seconds."""
    return lambda: time.sleep(seconds)


def at_random(submitter: Submitter, downlink: str, coin: random.Random, longest: float) -> int:
    """Run the program, killed or told to end, alone or with its command, within the `longest` that it takes."""
    moment = after(coin.uniform(0, longest))
    by = coin.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
    ended = submitter.submit(downlink, until=moment, by=by, with_command=coin.random() < 0.3)
    told = {-signal.SIGTERM, 128 + signal.SIGTERM}  # before it hears of signals, and when it does
    assert ended == 0 or ended in ({-signal.SIGKILL} if by is signal.SIGKILL else told), (
        submitter.said.read_text()
    )
    return ended


def handed_off(level1: Level1) -> Iterator[str]:
    """Yield downlinks that were handed off, one after the other."""
    for count in itertools.count(1):
        downlink = f"2406{count:05d}"
        level1.hand_off(downlink=downlink)
        yield downlink


def moments(submitter: Submitter, downlinks: Iterator[str]) -> float:
    """Return how long the program takes if nobody kills it, in seconds: the shortest of some."""
    taken = []
    for _ in range(WARM_UP):
        begin = time.monotonic()
        assert submitter.submit(next(downlinks)) == 0, submitter.said.read_text()
        taken.append(time.monotonic() - begin)
    return min(taken)


def kill_with_check(home: Path, number: int, seed: int) -> None:
    """Kill submissions `number` times, some twice, and give each command again until it is done."""
    coin = random.Random(seed)
    level1 = Level1(home)
    submitter = Submitter(level1, check=True)
    downlinks = handed_off(level1)
    duration = moments(submitter, downlinks)
    found: Counter[str] = Counter()
    kills = 0
    while kills < number:
        downlink = next(downlinks)
        level1.go_wrong(seconds=(seconds := coin.choice([0, SLOW])))
        for _ in range(coin.choice([1, 1, 2])):
            ended = at_random(submitter, downlink, coin, duration + 2 * seconds)
            kills += ended == -signal.SIGKILL
            found[state(level1, downlink) if ended else "not killed"] += 1
        assert submitter.submit(downlink) == 0, submitter.said.read_text()
        assert level1.commands(downlink) == ["createStream"], (seed, downlink)
        assert Record(level1.work, downlink).last_confirmed is not None
        assert (level1.work / paths.submitted(downlink)).exists()
    submitter.close()
    assert found["intended"] + found["there"] > number // 10, found
    print(kills, "kills", dict(found))


def state(level1: Level1, downlink: str) -> str:
    """Say how far a submission came that was killed."""
    record = Record(level1.work, downlink)
    if record.last_confirmed is not None:
        return "recorded"
    if not record.is_open:
        return "untouched"
    return "there" if level1.commands(downlink) else "intended"


def kill_without_check(home: Path, number: int, seed: int) -> None:
    """Kill `number` submissions that nobody can ask about: what is open is listed, and settled by who looks."""
    coin = random.Random(seed)
    level1 = Level1(home)
    submitter = Submitter(level1, check=False)
    downlinks = handed_off(level1)
    duration = moments(submitter, downlinks)
    kills = open_ = 0
    while kills < number:
        downlink = next(downlinks)
        dl = DownlinkId(downlink)
        level1.go_wrong(seconds=(seconds := coin.choice([0, SLOW])))
        ended = at_random(submitter, downlink, coin, duration + 2 * seconds)
        kills += ended == -signal.SIGKILL
        was_open = Record(level1.work, dl).is_open
        # This waits for the command that was left behind, so that after it everybody can see.
        ended = submitter.submit(downlink)
        assert ended == (1 if was_open else 0), submitter.said.read_text()
        assert is_unknown(level1.work, dl) is was_open
        there = level1.commands(downlink)
        assert there in ([], ["createStream"])
        if was_open:
            open_ += 1
            settle(submitter.settings, dl, bool(there))
            assert submitter.submit(downlink) == 0, submitter.said.read_text()
        assert level1.commands(downlink) == ["createStream"], (seed, downlink)
        assert not is_unknown(level1.work, dl)
    submitter.close()
    assert open_ > number // 10
    print(kills, "kills,", open_, "open")


@pytest.mark.workflow
@pytest.mark.parametrize("check", [True, False], ids=["check", "no-check"])
def test_killed_before_its_command_has_done_anything_it_waits_for_that(check: bool, tmp_path: Path) -> None:
    """A check that is asked too early would say that there is no stream, and so would a person."""
    level1 = Level1(tmp_path)
    level1.go_wrong(seconds=10 * SLOW)  # the check is asked before, on a busy machine too
    submitter = Submitter(level1, check=check)
    downlink = next(handed_off(level1))

    def begun() -> None:
        end = time.monotonic() + PATIENCE
        while "createStream of stream" not in submitter.said.read_text():
            assert time.monotonic() < end
            time.sleep(0.001)

    assert submitter.submit(downlink, until=begun) == -signal.SIGKILL
    assert level1.commands(downlink) == []
    assert submitter.submit(downlink) == (0 if check else 1)
    assert level1.commands(downlink) == ["createStream"]
    submitter.close()


@pytest.mark.workflow
def test_killed_at_random_it_is_submitted_once(tmp_path: Path) -> None:
    kill_with_check(tmp_path, 14, 1)


@pytest.mark.workflow
def test_killed_at_random_without_a_check_it_is_submitted_once_or_listed(tmp_path: Path) -> None:
    kill_without_check(tmp_path, 10, 1)


@pytest.mark.long
def test_killed_at_many_random_moments_it_is_submitted_once(tmp_path: Path) -> None:
    kill_with_check(tmp_path, 200, 2)


@pytest.mark.long
def test_killed_at_many_random_moments_without_a_check_it_is_submitted_once_or_listed(tmp_path: Path) -> None:
    kill_without_check(tmp_path, 200, 2)


def switch(path: Path) -> Path:
    """Put a halt switch down."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_a_downlink_is_submitted_once_whatever_is_asked_for(tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST)
    site.by_hand(FIRST)
    target = f"submit={FIRST}"
    assert site.snakemake(target).good().jobs == {SUBMIT}
    assert (site.work / paths.receipt(FIRST)).exists(), "a submission changes nothing that it vouches for"
    forced = site.snakemake(target, "-F").good()
    assert {SUBMIT, RECEIPT} < forced.jobs
    assert forced.said.count(f"halfpipe submit {FIRST} --rollback\n") >= 2, "before it and after it"
    assert level1.commands() == ["createStream"]
    # Asked for by name, it is a roll-back; then the product does not say so yet.
    assert "key 1002" in site.halfpipe("submit", f"dl={FIRST}", "--rollback").good().said
    assert site.snakemake("-n", target).good().jobs == {SUBMIT}
    site.halfpipe("submit", FIRST).good()
    assert json.loads((site.work / paths.submitted(FIRST)).read_text())["submitted"] == 2
    assert level1.commands() == ["createStream", "rollbackStream"]


def test_a_hand_off_that_got_files_later_is_not_forgotten(tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST)
    site.configure(submit={"automatic": True}, merge={"min_epus": 3})
    site.snakemake().good()
    assert level1.commands() == [], "it has no event files"
    site.configure(merge={"min_epus": 2})
    site.process(FIRST, again=True)
    assert level1.commands() == []
    assert site.snakemake().good().jobs == {SUBMIT}
    assert level1.commands() == ["createStream"]
    # Once it was submitted, what is handed off of it later is only said.
    site.process(FIRST, again=True)
    site.snakemake().good()
    assert level1.commands() == ["createStream"]
    assert site.snakemake("-n").good().jobs == frozenset()


@pytest.mark.parametrize("by_hand", [False, True], ids=["command", "by-hand"])
def test_what_comes_late_after_a_submission_wants_a_roll_back(by_hand: bool, tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST)
    submit = {"automatic": True} | ({"rollback": None} if by_hand else {})
    site.configure(submit=submit, merge={"min_epus": 1})
    late = max((site.retdefs / FIRST).iterdir())
    late.rename(tmp_path / late.name)
    site.snakemake().good()
    assert level1.commands() == ["createStream"]
    (tmp_path / late.name).rename(late)
    how = f"halfpipe submit {FIRST} --rollback"
    if by_hand:
        how = f"roll stream {FIRST} back in the pipeline by hand: halfpipe submit {FIRST} --record-rollback"
    downlink = DownlinkId(FIRST)
    (before,) = warnings_before(site.settings, downlink)
    assert before.endswith(how)
    assert f"{how}\n" in site.snakemake().good().said
    assert level1.commands() == ["createStream"]
    (cause,) = troubles(site.settings, downlink, site.receipt(FIRST))
    assert (cause.code, cause.verdict) == ("handoff-not-submitted", Verdict.ACTION)
    assert str(cause.remedy) == how
    assert cause.since == pytest.approx(time.time(), abs=PATIENCE)
    site.halfpipe("submit", FIRST, "--record-rollback" if by_hand else "--rollback").good()
    assert list(troubles(site.settings, downlink, site.receipt(FIRST))) == []
    site.snakemake().good()
    assert json.loads((site.work / paths.submitted(FIRST)).read_text())["submitted"] == 2
    assert level1.commands() == ["createStream", "rollbackStream"][: 1 if by_hand else 2]


def test_a_failed_command_fails_the_job_once(tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST)
    site.by_hand(FIRST)
    level1.go_wrong(createStream="refuse")
    site.snakemake(f"submit={FIRST}", "--retries", "2").bad("submit.command", "exit status 3")
    assert level1.outcomes() == [Outcome.FAILED]


def test_without_a_command_the_line_is_written_down(tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST)
    site.configure(submit={"command": None, "check": None})
    site.by_hand(FIRST)
    said = site.snakemake(f"submit={FIRST}").good().said
    line = (site.work / paths.submit_line(FIRST)).read_text()
    assert line.split()[:5] == ["pipeline", "-m", "PROD", "createStream", "-S"]
    assert line in said
    site.halfpipe("submit", FIRST, "--settle", "submitted").good()
    site.halfpipe("submit", FIRST).good()
    assert json.loads((site.work / paths.submitted(FIRST)).read_text())["state"] == "submitted"
    assert level1.commands() == []


@pytest.mark.workflow
def test_two_at_once_submit_once(tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST)
    site.by_hand(FIRST)
    level1.go_wrong(seconds=5 * SLOW)
    file = tmp_path / "settings.json"
    file.write_text(load([site.configfile]).as_json())
    words = [
        sys.executable,
        str(ROOT / "scripts" / "submit.py"),
        "--downlink",
        FIRST,
        "--settings",
        str(file),
    ]
    both = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in "ab"]
    said = sorted(process.communicate()[0].decode() for process in both)
    assert sorted(process.returncode for process in both) == [0, 1], said
    assert level1.commands() == ["createStream"]


PLACES = pytest.mark.parametrize("place", ["halts", FIRST], ids=["global", "downlink"])


@PLACES
def test_halt_stage_holds_staging_and_nothing_else(place: str, tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST, SECOND)
    site.configure(submit={"automatic": True})
    site.by_hand(SECOND)
    file = switch(site.work / place / "haltStage")
    # A dry run tells, and lists all the same what is outstanding.
    listed = site.snakemake("-n", f"dl={FIRST}").good()
    assert str(file) in listed.said
    assert RECEIPT in listed.jobs
    # Named it is refused, before anything is done.
    before = site.tree()
    named = site.snakemake(f"dl={FIRST}")
    remedy = f"halfpipe hold stage{f' {FIRST}' if place == FIRST else ''} --resume\n"
    assert (named.status, str(file) in named.said, remedy in named.said) == (1, True, True), named.said
    assert site.tree() == before
    # The default target leaves it out; what was handed off goes on.
    for words in (["-n"], []):
        left_out = site.snakemake(*words).good()
        assert left_out.jobs == {Job("submit", SECOND)}
        assert str(file) in left_out.said
    assert level1.commands(SECOND) == ["createStream"]
    file.unlink()
    assert SUBMIT in site.snakemake("-n").good().jobs


@PLACES
def test_halt_l1_holds_submission_and_the_default_target_goes_as_far_as_it_may(
    place: str, tmp_path: Path
) -> None:
    site, level1 = with_level1(tmp_path, FIRST, SECOND)
    site.by_hand(FIRST)
    site.by_hand(SECOND)
    (site.work / paths.receipt(FIRST)).unlink()
    file = switch(site.work / place / "haltL1")
    site.configure(submit={"automatic": True})
    processed = site.snakemake().good()
    # What is in `halts` holds the second one too.
    other = {Job("submit", SECOND)}
    assert processed.jobs == ({RECEIPT} | other if place == FIRST else {RECEIPT})
    assert (level1.commands(FIRST), level1.commands(SECOND)) == ([], ["createStream"] * (place == FIRST))
    assert site.snakemake("-n").good().jobs == frozenset()
    assert site.snakemake("-n", f"submit={FIRST}").good().jobs == {SUBMIT}
    named = site.snakemake(f"submit={FIRST}")
    assert (named.status, str(file) in named.said) == (1, True), named.said
    # The job itself looks too: the switch may come after the start.
    named = site.halfpipe("submit", FIRST)
    assert (named.status, str(file) in named.said) == (1, True), named.said
    assert not (site.work / paths.submissions(FIRST)).exists()
    file.unlink()
    assert site.snakemake().good().jobs == ({SUBMIT} if place == FIRST else {SUBMIT} | other)
    assert level1.commands(FIRST) == level1.commands(SECOND) == ["createStream"]


@pytest.mark.workflow
def test_unattended_leaves_held_downlinks_out_and_submits(tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST, SECOND)
    site.configure(submit={"automatic": True})
    site.by_hand(SECOND)
    switch(site.work / FIRST / "haltStage")
    assert site.halfpipe("unattended", "--cores", "2").good().said == "", "no mail"
    assert not (site.work / paths.receipt(FIRST)).exists()
    assert level1.commands(SECOND) == ["createStream"]
