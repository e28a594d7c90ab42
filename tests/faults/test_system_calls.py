"""A program killed right before a system call that changes a file: given again, it ends as if nothing had been."""

import json
import shlex
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.downlink.submissions import Record
from halfpipe.downlink.submit import settle
from halfpipe.files.leases import found
from tests.support import in_process, verbs
from tests.support.crashes import FIRST, SECOND, records
from tests.support.golden_cases import GOLDEN, build, read_case
from tests.support.harness import assert_same, half_written
from tests.support.in_process import ROOT
from tests.support.leases import time_passes
from tests.support.level1 import DL, Level1, is_unknown
from tests.support.system_calls import Call, calls, kill
from tests.support.workflow import Listed, Site

pytestmark = pytest.mark.faults

TAKEOVER = ROOT / "tests" / "takeover" / "split3_after2"
LIMIT = 1.0  # seconds that a submission may take
SLOW = 0.1  # that the pipeline takes before it creates a stream, and after that
DRIFTS = (0, 1, -1, 2, -2, 0)
EVERY = 13  # calls of all that there are


@dataclass
class Sweep:
    """A program that works at a site, in a directory of its own, and is killed again and again.

    `follows` does what comes after its end, good or by a signal (`dead`), and returns what is there then.
    """

    site: Path
    cwd: Path
    command: list[str]
    follows: Callable[[bool], dict[str, bytes]]

    def __post_init__(self) -> None:
        self.home = self.site.parent
        self.before = Path(shutil.copytree(self.site, self.home / "before", symlinks=True))
        self.log = self.home / "calls"

    def restore(self) -> None:
        """Bring the site back to what it was before."""
        shutil.rmtree(self.site)
        shutil.copytree(self.before, self.site, symlinks=True)

    def run(self, every: int) -> Counter[str]:
        """Kill the program at every so many calls, and go on; return how often it was at which."""
        made = calls(self.command, self.cwd, self.site, self.log)
        expected = self.follows(False)
        done: Counter[str] = Counter()
        missed = []
        for call in made[every // 2 :: every]:
            if not self.is_killed_at(call):
                missed.append(str(call))
            time_passes(self.site / "work")
            assert_same(self.follows(True), expected, str(call))
            done[call.name] += 1
        print(
            f"{len(made)} calls, killed at {done.total()}: {dict(done.most_common())}; others than meant: {missed}"
        )
        return done

    def is_killed_at(self, call: Call) -> bool:
        """Kill the program at a call, at another one if it does not come; tell whether it came.

        How often it looks at the file server's clock, and so the number of a call, depends on how fast the machine is.
        """
        for drift in DRIFTS:
            self.restore()
            other = replace(call, number=max(1, call.number + drift))
            if kill(self.command, self.cwd, self.site, self.log, other) == call.what:
                return True
        return False


def by_hand(command: str, cwd: Path) -> int:
    """Give a command in this process; return how it ended."""
    with in_process.as_in_a_process(cwd):
        return in_process.program(command)


def all_there_is(site: Site, *downlinks: str) -> dict[str, bytes]:
    """Return the tree, and what reports say of it, which are good; nobody holds anything any more."""
    assert found(site.work) == []
    assert half_written(site) == []
    tree = site.tree()
    with in_process.as_in_a_process(ROOT):
        checked = verbs.halfpipe("status", "--check", *downlinks, configfile=site.configfile)
        status = verbs.halfpipe("status", "--json", *downlinks, configfile=site.configfile)
    assert checked.exit_code == 0, checked.output
    tree["mark"] = noted(site.stage)
    of_each = json.loads(status.stdout)["downlinks"]
    said = [(each["dl"], [cause["code"] for cause in each["causes"]]) for each in of_each]
    return tree | {"status": json.dumps(said).encode()}


def noted(stage: Path) -> bytes:
    """Return which records the stage's mark knows."""
    marks = sorted((stage / paths.stage_mark()).glob("[0-9]*.json"))
    known = [json.loads(mark.read_bytes())["last"] for mark in marks[-1:]]
    assert len(marks) <= 1, "only the last mark is kept"
    return json.dumps(sorted(entry[:2] for last in known for entry in last)).encode()


def processed(home: Path, again: bool) -> tuple[Site, str, list[Listed]]:
    """Return a site with a downlink that is decoded, and the jobs that follow.

    It is the second one of its run; or the first one `again`, which had delivered events and has grown by a chunk.
    """
    site = Site(home / "site")
    case = GOLDEN / ("split3" if again else "split2")
    site.replay(case / "in")
    site.configure(merge={"min_events": 1})
    site.add_retdefs(case / "in", FIRST, SECOND)
    downlink = FIRST if again else SECOND
    if again:
        late = max((site.retdefs / downlink).iterdir())
        kept = late.rename(home / late.name)
        site.by_hand(downlink)
        assert records(site)
        kept.rename(late)
    else:
        site.by_hand(FIRST)
    jobs = site.listed(f"dl={downlink}")
    *decoded, deliver_run, receipt = jobs
    assert [deliver_run.job.rule, receipt.job.rule] == ["deliver_run", "receipt"]
    site.by_hand(downlink, jobs=decoded)
    return site, downlink, [deliver_run, receipt]


def killed(home: Path, rule: str, again: bool, every: int) -> Counter[str]:
    """Kill the program of a rule."""
    site, downlink, jobs = processed(home, again)
    if rule == "receipt":
        site.by_hand(downlink, jobs=[jobs.pop(0)])

    def follows(dead: bool) -> dict[str, bytes]:
        for job in jobs if dead else jobs[1:]:
            assert by_hand(job.command, site.work) == 0
        assert site.receipt(downlink)["handoff"] == 1 + again
        return all_there_is(site, *([FIRST] if again else [FIRST, SECOND]))

    return Sweep(site.home, site.work, shlex.split(jobs[0].command), follows).run(every)


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("rule", ["deliver_run", "receipt"])
def test_a_job_killed_at_a_system_call_ends_the_same(rule: str, again: bool, tmp_path: Path) -> None:
    assert killed(tmp_path, rule, again, EVERY).total() >= 4


def submitted(home: Path, check: bool, every: int) -> Counter[str]:
    """Kill submissions, with somebody to ask or without."""
    level1 = Level1(home / "site")
    level1.hand_off()
    level1.go_wrong(seconds=SLOW)
    settings = level1.settings(seconds=LIMIT, **({} if check else {"check": None}))
    file = level1.home / "settings.json"
    file.write_text(settings.as_json())
    words = [str(ROOT / "scripts" / "submit.py"), "--settings", str(file), "--downlink", DL]
    command = [sys.executable, *words]
    opened = []

    def follows(dead: bool) -> dict[str, bytes]:
        is_open = Record(level1.work, DL).is_open
        if dead and is_open and not check:
            assert by_hand(shlex.join(command), level1.work) == 1
            assert is_unknown(level1.work, DL)
            settle(settings, DL, bool(level1.commands()))
            opened.append(DL)
        if dead:
            assert by_hand(shlex.join(command), level1.work) == 0
        assert level1.commands() == ["createStream"]
        assert not is_unknown(level1.work, DL)
        assert found(level1.work) == []
        record = Record(level1.work, DL)
        assert record.last_confirmed is not None
        assert record.last_confirmed.handoff == 1
        last = max(json.loads(noted(level1.stage)))
        assert last == [paths.submissions(DL), len(level1.recorded())]
        return {"product": (level1.work / paths.submitted(DL)).read_bytes()}

    done = Sweep(level1.home, level1.work, command, follows).run(every)
    assert check or opened
    return done


@pytest.mark.parametrize("check", [True, False], ids=["check", "no-check"])
def test_a_submission_killed_at_a_system_call_is_made_once_or_listed(check: bool, tmp_path: Path) -> None:
    assert submitted(tmp_path, check, EVERY // 3).total() >= 4


def taken_over(home: Path, every: int) -> Counter[str]:
    """Kill takeovers."""
    site = Site(home / "site")
    build(read_case(TAKEOVER), site)
    site.work.mkdir()
    legacy = Path(shutil.copytree(TAKEOVER / "legacy", home / "legacy"))
    words = ["takeover", str(legacy), "--do", "--configfile", str(site.configfile)]

    def follows(dead: bool) -> dict[str, bytes]:
        if dead:
            with in_process.as_in_a_process(ROOT):
                ended = verbs.halfpipe(*words[:-2], configfile=site.configfile)
                assert ended.exit_code == 0, ended.output
        return all_there_is(site, FIRST, SECOND) | {"ledger": ledger(site)}

    return Sweep(site.home, site.work, [*verbs.COMMAND, *words], follows).run(every)


def ledger(site: Site) -> bytes:
    """Return what the ledger says, but for whose it is: each beginning of a working directory has an id of its own."""
    with sqlite3.connect(site.work / "ledger.sqlite") as database:
        lines = [line for line in database.iterdump() if not line.startswith('INSERT INTO "halfpipe_lock"')]
    return "\n".join(lines).encode()


def test_a_takeover_killed_at_a_system_call_ends_the_same(tmp_path: Path) -> None:
    assert taken_over(tmp_path, EVERY * 4).total() >= 4
