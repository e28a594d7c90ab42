"""Submission, the ledger before it, switches, and kills at any moment: each downlink is submitted once."""

import shlex
import shutil
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, insert

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.config import write_down
from halfpipe.files.leases import all_leases
from halfpipe.files.pointers import resolves
from halfpipe.formats import evt
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.check import site_troubles
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.tables import DEFAULTS, DOWNLINKS
from halfpipe.notify.submissions import submissions
from halfpipe.notify.submit import settle
from halfpipe.settings import Settings
from halfpipe.state.deliveries import MootKey
from halfpipe.status.failed_jobs import failed_jobs, failures
from tests.support import forks, in_process
from tests.support.in_process import ROOT
from tests.support.leases import time_passes
from tests.support.ledger_files import run_rows
from tests.support.level1 import DL, Level1, is_unknown, with_level1
from tests.support.series import noted
from tests.support.workflow import Job, Running, Site

FIRST, SECOND = "240601001", "240601002"
RUN = RunId("2c2e5787")
LEDGER, SUBMIT, RECEIPT = (Job(rule, FIRST) for rule in ("ledger", "submit", "receipt"))
KEY, ALIAS = 2959, "nomSciOps"
# Seconds that the pipeline takes before and after it creates a stream. A command that was left behind is still
# running when the next one checks.
SLOW = 0.1
LIMIT = 1.0  # seconds that the command may take
EVERY = 5  # moments


def submission(level1: Level1, check: bool) -> tuple[Settings, Callable[[], int]]:
    """Hand a downlink off; return the settings, and a function that runs scripts/submit.py in this process."""
    level1.hand_off()
    settings = level1.settings(seconds=LIMIT, **({} if check else {"check": None}))
    file = level1.home / "settings.json"
    file.write_text(settings.as_json())
    words = ["python", ROOT / "scripts" / "submit.py", "--settings", file, "--downlink", FIRST]
    words += ["--log", level1.home / "submit.log"]

    def submit() -> int:
        with in_process.as_in_a_process(level1.work):
            return in_process.program(shlex.join(map(str, words)))

    return settings, submit


@pytest.mark.workflow
@pytest.mark.parametrize("every", [EVERY, pytest.param(1, marks=pytest.mark.long)], ids=["some", "all"])
@pytest.mark.parametrize("check", [True, False], ids=["check", "no-check"])
def test_a_submission_that_is_killed_at_any_moment_happens_once(
    check: bool, every: int, tmp_path: Path
) -> None:
    level1 = Level1(tmp_path / "site")
    settings, submit = submission(level1, check)
    level1.go_wrong(seconds=SLOW)
    before = shutil.copytree(level1.home, tmp_path / "before")
    every_moment = forks.moments(submit, level1.home)
    open_ = 0
    for moment in forks.deaths(submit, level1.home, before, every_moment, every):
        time_passes(level1.work)
        if submissions(level1.work, DL).is_open and not check:
            # This waits until the command that was left behind has ended.
            assert submit() == 1, moment
            assert is_unknown(level1.work, DL)
            settle(settings, DL, bool(level1.commands()))
            open_ += 1
        assert submit() == 0, moment
        assert level1.commands() == ["createStream"], moment
        assert not is_unknown(level1.work, DL)
        confirmed = submissions(level1.work, DL).last_confirmed
        assert confirmed is not None
        assert confirmed.handoff == 1
        assert (level1.work / paths.submitted(DL)).exists()
        assert (paths.submissions(DL), len(level1.recorded())) in noted(level1.stage)
        assert all_leases(level1.work) == []
    assert check or open_


def switch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_a_downlink_is_submitted_once_also_with_forced_targets(tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST)
    site.by_hand(FIRST)
    target = f"submit={FIRST}"
    assert site.snakemake(target).good().jobs == {SUBMIT}
    assert (site.work / paths.receipt(FIRST)).exists(), "a submission withdraws no receipt"
    forced = site.snakemake(target, "-F").good()
    assert {SUBMIT, RECEIPT} < forced.jobs
    assert forced.said.count(f"halfpipe submit {FIRST} --rollback\n") >= 2, "before it and after it"
    assert level1.commands() == ["createStream"]
    # `--rollback` rolls back. The product of the rule is older, and so outstanding.
    assert "key 1002" in site.halfpipe("submit", f"dl={FIRST}", "--rollback").good().said
    assert site.snakemake("-n", target).good().jobs == {SUBMIT}
    site.halfpipe("submit", FIRST).good()
    told = submissions(site.work, FIRST)
    assert told.last_confirmed is not None
    assert told.last_confirmed.handoff == 2
    assert resolves(site.work / paths.submitted(FIRST), told.series.records[-1].seal)
    assert level1.commands() == ["createStream", "rollbackStream"]


def test_a_hand_off_without_files_is_submitted_when_it_has_some(tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST)
    site.configure(submit={"automatic": True}, merge={"min_epus": 3})
    site.snakemake().good()
    assert level1.commands() == [], "it has no event files"
    site.configure(merge={"min_epus": 2})
    site.process(FIRST, again=True)
    assert level1.commands() == []
    assert site.snakemake().good().jobs == {SUBMIT}
    assert level1.commands() == ["createStream"]
    # A later hand-off of a submitted downlink is only reported.
    site.process(FIRST, again=True)
    site.snakemake().good()
    assert level1.commands() == ["createStream"]
    assert site.snakemake("-n").good().jobs == frozenset()


def test_a_failed_command_fails_the_job_once(tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST)
    site.by_hand(FIRST)
    level1.go_wrong(createStream="refuse")
    site.snakemake(f"submit={FIRST}", "--retries", "2").bad("submit.command", "exit status 3")
    assert level1.words() == ["failed"]


@pytest.mark.workflow
def test_two_at_once_submit_once(tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST)
    site.by_hand(FIRST)
    level1.go_wrong(seconds=5 * SLOW)
    words = [sys.executable, str(ROOT / "scripts" / "submit.py"), "--downlink", FIRST]
    words += ["--settings", str(write_down(site.settings))]
    both = [Running(words, tmp_path) for _ in "ab"]
    ended = [one.ended() for one in both]
    assert sorted(one.status for one in ended) == [0, 1], ended
    assert level1.commands() == ["createStream"]


PLACES = pytest.mark.parametrize("place", ["halts", FIRST], ids=["global", "downlink"])


@PLACES
def test_halt_stage_holds_staging_and_nothing_else(place: str, tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST, SECOND)
    site.configure(submit={"automatic": True})
    site.by_hand(SECOND)
    file = switch(site.work / place / "haltStage")
    # A dry run names the switch, and lists the outstanding jobs anyway.
    listed = site.snakemake("-n", f"dl={FIRST}").good()
    assert str(file) in listed.said
    assert RECEIPT in listed.jobs
    # The named downlink is refused, before anything is done.
    before = site.tree()
    named = site.snakemake(f"dl={FIRST}")
    remedy = f"halfpipe hold stage {FIRST} --undo\n" if place == FIRST else "halfpipe hold\n"
    assert (named.status, str(file) in named.said, remedy in named.said) == (1, True, True), named.said
    # So is a chunk as a target, and a downlink that was handed off keeps its receipt.
    for dl in (FIRST,) if place == FIRST else (FIRST, SECOND):
        chunk = site.snakemake("-F", paths.chunk(dl, "00001"))
        assert (chunk.status, str(file) in chunk.said) == (1, True), chunk.said
    assert site.tree() == before
    # The default target leaves it out. What was handed off is submitted.
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
    # A switch in `halts` holds the second downlink, too.
    other = {Job("submit", SECOND)}
    assert processed.jobs == ({RECEIPT} | other if place == FIRST else {RECEIPT})
    assert (level1.commands(FIRST), level1.commands(SECOND)) == ([], ["createStream"] * (place == FIRST))
    assert site.snakemake("-n").good().jobs == frozenset()
    assert site.snakemake("-n", f"submit={FIRST}").good().jobs == {SUBMIT}
    named = site.snakemake(f"submit={FIRST}")
    assert (named.status, str(file) in named.said) == (1, True), named.said
    # The job looks, too, because the switch may be set after the start.
    named = site.halfpipe("submit", FIRST)
    assert (named.status, str(file) in named.said) == (1, True), named.said
    assert not (site.work / paths.submissions(FIRST)).exists()
    file.unlink()
    assert site.snakemake().good().jobs == ({SUBMIT} if place == FIRST else {SUBMIT} | other)
    assert level1.commands(FIRST) == level1.commands(SECOND) == ["createStream"]


def with_tables(url: str) -> Ledger:
    """Return a ledger with the MOOT key of LPA runs."""
    ledger = Ledger(url, waits=())
    ledger.write(lambda _: None)
    row = {"tcompleted": datetime(2024, 6, 28), "moot_key": KEY, "moot_alias": ALIAS}
    ledger.write(lambda connection: connection.execute(insert(DEFAULTS), [row]))
    return ledger


def keys(site: Site) -> set[tuple[int, str]]:
    """Return the MOOT keys and aliases of all event files in the stage."""
    headers = [evt.read_header(path) for path in site.stage.glob(f"{FIRST}/*/*.evt")]
    return {(int(header["moot_key"]), header["moot_alias"].decode()) for header in headers}


def test_a_submission_loads_first_and_again_after_a_new_hand_off(tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST)
    # The path of a database may have braces and blanks.
    (tmp_path / "a {b}").mkdir()
    url = f"sqlite:///{tmp_path}/a {{b}}/ledger.sqlite"
    ledger = with_tables(url)
    site.configure(ledger={"url": url}, moot={"mapping": True}, submit={"automatic": True})
    processed = site.snakemake().good()
    assert {RECEIPT, LEDGER, SUBMIT} < processed.jobs
    assert level1.commands() == ["createStream"]
    assert resolves(site.work / paths.loaded(FIRST), site.receipt(FIRST).seal)
    row = run_rows(ledger)[RUN]
    assert (row["status"], row["moot_key"], row["moot_alias"]) == ("InProgress", KEY, ALIAS)
    # Event files, the text for Level-1 and the receipt have the same key.
    assert keys(site) == {(KEY, ALIAS)}
    assert site.text("moot_keys", FIRST) == [f"{RUN.l1} {KEY} {ALIAS}"]
    assert [run.delivery.moot for run in site.receipt(FIRST).runs] == [MootKey(KEY, ALIAS)]
    assert site.halfpipe("ledger", "check").good().said.startswith("0 differences ")

    site.by_hand(FIRST)
    (cause,) = site.told("status")["downlinks"][0]["causes"]
    assert (cause["code"], f"halfpipe ledger load {FIRST}\n" in cause["do"]) == (
        "handoff-not-submitted",
        True,
    )
    tree = site.tree()
    again = site.snakemake(f"submit={FIRST}").good()
    assert again.jobs == {LEDGER, SUBMIT}
    assert level1.commands() == ["createStream"]
    assert site.receipt(FIRST).number == 2
    assert resolves(site.work / paths.loaded(FIRST), site.receipt(FIRST).seal)
    changed = {name for name, content in site.tree().items() if tree.get(name) != content}
    made = {f"work/{path}" for path in (paths.loaded(FIRST), paths.submitted(FIRST))}
    assert changed == made, "loading withdraws no receipt"
    for line in cause["do"].splitlines():
        site.halfpipe(*line.split()[1:]).good()
    assert level1.commands() == ["createStream", "rollbackStream"]


def test_a_ledger_that_is_down_delays_the_submission_only(tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST)
    good, down = f"sqlite:///{tmp_path}/ledger.sqlite", f"sqlite:///{tmp_path}/no/such/place/ledger.sqlite"
    site.configure(ledger={"url": down})
    site.by_hand(FIRST)
    before = site.tree()
    # The hand-off needs no ledger.
    assert site.outstanding(FIRST) == frozenset()

    failed = site.snakemake(f"submit={FIRST}")
    assert failed.status == 1
    assert failed.jobs == {LEDGER}
    assert level1.commands() == []
    assert site.tree() == before
    codes = {each["code"]: each["verdict"] for each in site.told("status")["downlinks"][0]["causes"]}
    assert codes["ledger"] == "action"

    site.configure(ledger={"url": good})
    repaired = site.snakemake(f"submit={FIRST}").good()
    assert repaired.jobs == {LEDGER, SUBMIT}
    assert level1.commands() == ["createStream"]
    assert run_rows(Ledger(good))[RUN]["status"] == "InProgress"


@pytest.mark.parametrize("lost", ["file", "rows"])
def test_lost_rows_of_the_ledger_stop_the_submission(lost: str, tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST)
    file = tmp_path / "ledger.sqlite"
    site.configure(ledger={"url": f"sqlite:///{file}"})
    site.by_hand(FIRST)
    site.snakemake(paths.loaded(FIRST)).good()
    if lost == "file":
        file.unlink()
    else:
        Ledger(f"sqlite:///{file}").write(lambda connection: connection.execute(delete(DOWNLINKS)))
    ended = site.snakemake(f"submit={FIRST}").bad(f"halfpipe ledger load {FIRST}")
    assert ended.jobs == {SUBMIT}
    assert level1.commands() == []
    (failed,) = failures(DownlinkId(FIRST), failed_jobs(site.work, DownlinkId(FIRST)), after=0.0)
    assert (failed.code, failed.verdict) == ("ledger-lacks", Verdict.ACTION)
    looked_for = {DownlinkId(FIRST): site.receipt(FIRST).seal}
    of_the_site = [(each.code, *each.remedy.do) for each in site_troubles(site.settings, looked_for)]
    assert of_the_site == [("ledger-lacks", f"halfpipe ledger load {FIRST}")]
    site.halfpipe("ledger", "load", FIRST).good()
    assert list(site_troubles(site.settings, looked_for)) == []
    site.snakemake(f"submit={FIRST}").good()
    assert level1.commands() == ["createStream"]


def test_an_older_copy_of_the_ledger_is_told(tmp_path: Path) -> None:
    site, _ = with_level1(tmp_path, FIRST)
    file = tmp_path / "ledger.sqlite"
    site.configure(ledger={"url": f"sqlite:///{file}"})
    site.snakemake(f"submit={FIRST}").good()
    older = file.read_bytes()
    site.by_hand(FIRST)
    for verb in (("ledger", "load", FIRST), ("submit", FIRST, "--settle", "submitted")):
        site.halfpipe(*verb).good()

    def of_the_ledger() -> list[str]:
        return [cause["do"] for cause in site.told("status")["site"] if cause["code"] == "ledger-lacks"]

    assert of_the_ledger() == []
    file.write_bytes(older)
    (do,) = of_the_ledger()
    site.halfpipe(*do.split()[1:]).good()
    assert of_the_ledger() == []
