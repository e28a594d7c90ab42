"""Merciless rounds of the jobs and heads of overlapping downlinks; in the end each event was delivered exactly once.

    python -m tests.support.stress HOME ROUNDS SEED

The jobs are the project's programs, each in a fork of this process that has them imported; so is the head of
a downlink. Harm is done at moments that follow from the
seed, as far as the clock lets them. A line of JSON says how each round ended.
"""

import ctypes
import json
import math
import os
import random
import shlex
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.downlink import stage_mark
from halfpipe.downlink.withdrawal import withdraw
from halfpipe.files import leases, records
from halfpipe.files.records import Series, opened
from halfpipe.ids import DownlinkId
from halfpipe.run.receipt_file import hand_offs, series
from halfpipe.settings import Settings
from halfpipe.status.checks import check
from halfpipe_simulator.scenario import Scenario
from tests.support import in_process
from tests.support.evt_check import check_evt
from tests.support.golden_cases import take_chunk
from tests.support.harness import event_records, path_of, records_of
from tests.support.moments import CHANGES
from tests.support.workflow import Listed, Site, in_peace, to_do

SIMULATED = tuple(f"23040100{number}" for number in range(1, 6))
DOWNLINKS = tuple(f"24060100{number}" for number in range(1, 5))  # each brings two of those, and shares them
LIFETIME, HARM, PATIENCE = (
    0.5,
    20.0,
    240.0,
)  # seconds: of a lease, and in which harm is done; of a round at most
HOSTS = ("left", "right")
APART = 3  # one round in so many has its heads on two hosts
MOMENTS = 100  # of a job; its fate comes at one of them
NEW_UTS, NEW_MOUNTS, PRIVATE, SUBREAPER = 0x04000000, 0x00020000, 0x44000, 36

libc = ctypes.CDLL(None, use_errno=True)


def build(home: Path) -> Site:
    """Simulate a run in five parts and one in two, of which four downlinks bring two parts each, decoded."""
    scenario = Scenario(seed=1, downlinks=SIMULATED)
    scenario.lpa_run(events=100, parts=5, per_datagram=6)
    scenario.lpa_run(events=40, parts=2, first=1, per_datagram=6)
    peace = in_peace(home, scenario)
    site = Site(home / "site")
    for number, downlink in enumerate(DOWNLINKS):
        parts = SIMULATED[number : number + 2]
        chunks = [(part, path) for part in parts for path in sorted((home / "in" / part).glob("*.xml"))]
        for chunk, (part, path) in enumerate(chunks, 1):
            old = int(path.stem.split("-")[-1])
            take_chunk(str(home), part, old, home / "products" / downlink, downlink, chunk)
    site.replay(home / "products")
    site.configure(
        merge={"min_events": 1, "max_events": 40},
        moot={"file": str(peace.settings.moot.file)},
        lease={"seconds": 1},
    )
    site.add_retdefs(home / "products", *DOWNLINKS)
    site.stage.mkdir()
    for downlink in DOWNLINKS:
        site.by_hand(downlink, jobs=[job for job in site.listed(f"dl={downlink}") if job.job.chunk])
    return site


def children(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those that these have."""
    with suppress(OSError):
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            yield child
            yield from children(child)


def state(pid: int) -> str:
    """Return the state of a process, one letter; nothing if it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def on_host(name: str) -> None:
    """Go to another host, as far as a process can: a name of its own, and mounts of its own."""
    if libc.unshare(NEW_UTS | NEW_MOUNTS) or libc.mount(None, b"/", None, PRIVATE, None):
        raise OSError(ctypes.get_errno(), "unshare")
    socket.sethostname(name)


def hosts_are_permitted() -> bool:
    """Tell whether heads can be on two hosts here."""
    pid = os.fork()
    if pid == 0:
        with suppress(OSError):
            on_host("nobody")
            os._exit(0)
        os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


@dataclass
class Round:
    """One round on a site that is as `build` left it."""

    site: Site
    jobs: dict[str, list[Listed]]
    seed: int
    journal: Path
    apart: bool = False
    late: float = 0.3  # so often a record is published long after it was decided
    aim: tuple[str, int] | None = None  # a rule, and a moment of its first job
    did: Counter[str] = field(default_factory=Counter)
    heads: dict[int, tuple[str, bool]] = field(default_factory=dict)
    stopped: dict[int, float] = field(default_factory=dict)
    asleep: dict[int, tuple[str, bool]] = field(default_factory=dict)
    taken: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.todo = [(dl, self.rng.random() < 0.3) for dl in DOWNLINKS for _ in range(self.rng.randint(1, 2))]
        self.rng.shuffle(self.todo)

    def note(self, *words: object) -> None:
        """Write what happens into a journal, for who looks for the cause of a failure."""
        with self.journal.open("a") as file:
            file.write(f"{time.monotonic():.3f} {os.getpid()} {' '.join(map(str, words))}\n")

    def run(self) -> None:
        """Do all that is to do, with harm; then what is outstanding, without."""
        begun = time.monotonic()
        until = begun + PATIENCE
        while self.todo or self.heads:
            assert time.monotonic() < until, "it does not come to an end"
            while self.todo and len(self.heads) < 4:
                self._start(*self.todo.pop())
            time.sleep(self.rng.random() * 0.05)
            if time.monotonic() < begun + HARM:
                self._hurt()
            self._continue()
            if self._reap():
                self._find_records()
            if self.rng.random() < 0.2:
                self._harm_a_copy()
            for downlink in DOWNLINKS:
                if self.rng.random() < 0.3:
                    self._take(downlink)
        for downlink in self.rng.sample(DOWNLINKS, 2):
            self._take(downlink)
        self.note("nothing is left to do")
        until = time.monotonic() + PATIENCE
        while list(children(os.getpid())):
            assert time.monotonic() < until, "not all come to an end"
            self._continue(at_once=True)
            self._reap()
            time.sleep(0.02)
        for downlink in DOWNLINKS:
            self._in_peace(downlink)

    def stand_still(self) -> bool:
        """Let a job stand still at the moment `aim` until another head has handed off, and Level-1 has taken that.

        Tell whether the job has such a moment.
        """
        downlink = DOWNLINKS[0]
        head = self._fork(partial(self._head, downlink, False, self.rng))
        while (there := list(children(os.getpid()))) and state(head) != "Z" and "T" not in map(state, there):
            time.sleep(0.01)
        reached = state(head) != "Z"
        self._signal(head, signal.SIGKILL)
        os.waitpid(head, 0)
        if reached:
            self._in_peace(downlink)
            self._take(downlink)
            while list(children(os.getpid())):
                self._continue(at_once=True)
                self._reap()
                time.sleep(0.01)
            self._in_peace(downlink)
            staged = [path for path in (self.site.stage / downlink).rglob("*") if path.is_file()]
            assert staged == [], f"staged after Level-1 has taken it: {staged}"
        return reached

    def _in_peace(self, downlink: str) -> None:
        self.note("in peace", downlink)
        pid = self._fork(partial(self._head, downlink, False, None))
        status = os.waitpid(pid, 0)[1]
        self._find_records()
        assert status == 0, f"{downlink} cannot be processed"

    def _start(self, downlink: str, again: bool) -> None:
        host = self.rng.choice(HOSTS) if self.apart else ""
        rng = random.Random(self.rng.random())
        pid = self._fork(partial(self._head, downlink, again, rng, host))
        self.heads[pid] = downlink, again
        self.did["heads"] += 1
        self.did["elsewhere"] += bool(host)
        self.note("start", pid, downlink, "again" if again else "", host)

    def _fork(self, what: Callable[[], None]) -> int:
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                with self.journal.with_name("said").open("ab") as said:
                    os.dup2(said.fileno(), 1)
                    os.dup2(said.fileno(), 2)
                what()
                status = 0
            except SystemExit as end:
                status = int(end.code or 0)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        return pid

    def _head(self, downlink: str, again: bool, rng: random.Random | None, host: str = "") -> None:
        """Do what Snakemake does with the jobs of a downlink."""
        if host:
            on_host(host)
        work = self.site.work
        os.chdir(work)
        stage_mark.refuse(self.settings)
        leases.hold_downlink(work, DownlinkId(downlink), print)
        jobs = (
            [job for job in self.jobs[downlink] if not job.job.chunk]
            if again
            else to_do(self.jobs[downlink], work)
        )
        if jobs:
            leases.check_downlink(work, DownlinkId(downlink))
            withdraw(work, DownlinkId(downlink))
        failed = False
        while jobs and not failed:
            made = {name for job in jobs for name in job.outputs}
            ready = [job for job in jobs if made.isdisjoint(job.inputs)]
            jobs = [job for job in jobs if job not in ready]
            running = []
            for job in ready:
                self._forget(job)
                running.append(self._fork(partial(self._job, job, rng and random.Random(rng.random()))))
            for pid in running:
                failed |= os.waitpid(pid, 0)[1] != 0
        leases.give_back_downlinks()
        sys.exit(failed)

    def _forget(self, job: Listed) -> None:
        """Remove the outputs of a job, as Snakemake does before it runs."""
        for name in job.outputs:
            (self.site.work / name).unlink(missing_ok=True)

    def _job(self, job: Listed, rng: random.Random | None) -> None:
        self.note("job", job.job.rule, job.job.dl, job.job.run, "of", os.getppid())
        if rng is not None:
            self._be_harmed(job, rng)
        status = in_process.program(job.command)
        self.note("end", status, job.job.rule, job.job.dl, job.job.run)
        sys.exit(status)

    def _be_harmed(self, job: Listed, rng: random.Random) -> None:
        """Have this process nap before some of the changes that it makes to files, and meet its fate before one."""
        at, fate = rng.randrange(MOMENTS), rng.choice([None, signal.SIGKILL, signal.SIGSTOP, signal.SIGSTOP])
        naps = 0.1
        if self.aim is not None:
            at, fate, naps = self.aim[1], signal.SIGSTOP, 0.0
            if job.job.rule != self.aim[0] or self.jobs[job.job.dl].index(job) != self._first(job):
                return
        main, done, home = threading.get_ident(), 0, str(self.site.home)
        copies = self.site.work / paths.copies("")

        def hook(event: str, words: tuple[Any, ...]) -> None:
            nonlocal done
            if event not in CHANGES or threading.get_ident() != main or home not in str(words[0]):
                return
            done += 1
            if rng.random() < naps:
                time.sleep(rng.choice([0.002, 0.02, 0.05]))
            if done == at and fate is not None:
                self.note(fate.name, job.job.rule, job.job.dl, job.job.run, "before", done, event, words[0])
                os.kill(os.getpid(), fate)

        def late(part: Path, path: Path) -> None:
            if rng.random() < self.late:
                self.note("late", job.job.rule, job.job.dl, job.job.run, path)
                os.kill(os.getpid(), signal.SIGSTOP)
            content = part.read_bytes()
            link(part, path)
            if path.is_relative_to(copies) and (record := opened(content)):
                # From now on it has both copies, and counts whatever happens.
                self.note("published", path, record.seal)

        link, records._link = records._link, late
        sys.addaudithook(hook)

    def _first(self, job: Listed) -> int:
        """Return which of the jobs of a downlink is the first one of the rule of `job`."""
        return [each.job.rule for each in self.jobs[job.job.dl]].index(job.job.rule)

    def _hurt(self) -> None:
        """Kill a process from outside, or stop one, or a head with all that it has started."""
        there = list(children(os.getpid()))
        if not there or self.rng.random() > 0.15:
            return
        pid, kind = self.rng.choice(there), self.rng.choice(["kill", "stop", "suspend"])
        if kind == "suspend" and self.heads:
            # A host that is suspended: somebody gives the command on another one.
            pid = self.rng.choice(list(self.heads))
            self.note(kind, pid)
            self.todo.insert(0, self.heads.pop(pid))
            self.asleep[pid] = self.todo[0]
            for each in (pid, *children(pid)):
                self._signal(each, signal.SIGSTOP)
                self.stopped[each] = math.inf
            self.did["suspended"] += 1
        else:
            self.note(kind, pid)
            self._signal(pid, signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
            self.did["kills"] += kind == "kill"

    def _signal(self, pid: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def _continue(self, *, at_once: bool = False) -> None:
        """Continue those that were stopped, some of them long after others have taken their leases."""
        now, me = time.monotonic(), os.getpid()
        mine = f" {Path(f'/proc/{me}/task/{me}/children').read_text()}"
        for pid in children(me):
            if state(pid) != "T":
                continue
            if pid not in self.stopped:
                alone = pid not in self.heads and f" {pid} " in mine
                times = self.rng.choice([0.1, 1.5, 3, math.inf if alone else 8])
                self.stopped[pid] = now + LIFETIME * times
                self.did["stops"] += 1
            if at_once or now > self.stopped[pid]:
                self.stopped.pop(pid)
                self.note("continue", pid)
                self._signal(pid, signal.SIGCONT)

    def _reap(self) -> bool:
        """See which heads have ended, and which orphans; what has not ended well is to do again. Tell if any has."""
        badly = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return badly
            if not pid:
                return badly
            self.stopped.pop(pid, None)
            self.asleep.pop(pid, None)
            if os.WIFSIGNALED(status) and pid not in self.heads:
                self.did["orphans killed"] += 1
            if pid in self.heads:
                downlink, again = self.heads.pop(pid)
                self.note("head", pid, downlink, "ended", status)
                if status:
                    badly = True
                    self.todo.insert(0, (downlink, again and self.rng.random() < 0.5))

    def _series(self) -> list[Path]:
        """Return the directories of all series."""
        work = self.site.work
        return [*work.glob("runs/*/deliveries"), *work.glob("[0-9]*/receipts")]

    def _find_records(self) -> None:
        """Find each record that was published, the same as it was then, in one of its two places."""
        work = self.site.work
        said = [line.split()[2:] for line in self.journal.read_text().splitlines()]
        for second, seal in {(words[1], words[2]) for words in said if words[:1] == ["published"]}:
            copies = Path(second), work / Path(second).relative_to(work / paths.copies(""))
            found = [opened(copy.read_bytes()) for copy in copies if copy.exists()]
            if seal not in {record.seal for record in found if record is not None}:
                raise AssertionError(f"{second}, {seal}")

    def _harm_a_copy(self) -> None:
        """Remove, cut or change one copy of a record of which the other is good."""
        homes = [
            (home, self.site.work / paths.copies(str(home.relative_to(self.site.work))))
            for home in self._series()
        ]
        pairs = [
            (home / path.name, second / path.name) for home, second in homes for path in home.glob("0*.json")
        ]
        if not pairs:
            return
        harmed, other = self.rng.sample(self.rng.choice(pairs), 2)
        kind = self.rng.choice(["lose", "cut", "change"])
        with suppress(OSError):
            good, content = opened(other.read_bytes()), harmed.read_bytes()
            there = opened(content)
            # Of one that stood still it is no copy: it may have published another record in the place of a lost one.
            if good is None or (there is not None and there.seal != good.seal):
                return
            if kind == "lose" or not content:
                harmed.unlink()
            elif kind == "cut":
                os.truncate(harmed, self.rng.randrange(len(content)))
            else:
                at = self.rng.randrange(len(content))
                harmed.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            self.did["copies"] += 1
            self.note(kind, harmed)

    def _take(self, downlink: str) -> None:
        """Have Level-1 take a hand-off, once, which must be what its receipt says."""
        # A head that was told to process again, and sleeps, will rightly do so.
        asked = [head for head in self.asleep.values() if head[1]]
        busy = {dl for dl, _ in (*self.heads.values(), *self.todo, *asked)}
        if downlink in self.taken or downlink in busy or not self.site.has_receipt(downlink):
            return
        self.note("take", downlink)
        home = self.site.stage / downlink
        self.taken[downlink] = self.site.staged(downlink)
        assert self.taken[downlink].keys() == files_of(self.site.receipt(downlink)), (
            f"{downlink}: the stage is not the receipt"
        )
        shutil.rmtree(home, ignore_errors=True)
        for name in self.taken[downlink]:
            run, file = name.split("/")
            (self.site.stage / paths.tokens(run) / Path(file).stem).unlink()
        self.did["taken"] += 1
        # Somebody names it again: nothing may come of that.
        if self.rng.random() < 0.5:
            self.todo.append((downlink, False))

    @property
    def settings(self) -> Settings:
        """The settings that the jobs have."""
        return Settings.read(next(self.site.work.glob(paths.settings("*"))))

    def judge(self, expected: Sequence[bytes]) -> None:
        """Assert that each event is at Level-1 or in the stage once, and that all that is recorded says so."""
        work, stage = self.site.work, self.site.stage
        there = {dl: self.site.staged(dl) for dl in DOWNLINKS}
        found = Counter(
            record
            for staged in (*self.taken.values(), *there.values())
            for content in staged.values()
            for record in records_of(content)
        )
        if found.total() != len(found):
            raise AssertionError(f"{found.total() - len(found)} events twice")
        if sorted(found) != list(expected):
            raise AssertionError(f"{len(found)} events, not {len(expected)}")
        told = {path_of(cause) for dl in DOWNLINKS for cause in check(self.settings, DownlinkId(dl))}
        for dl in DOWNLINKS:
            last = hand_offs(work, DownlinkId(dl))[-1].receipt
            assert (self.taken.get(dl) or there[dl]).keys() == files_of(last), f"{dl}: not what is recorded"
            if (work / paths.receipt(dl)).read_bytes() != series(work, DownlinkId(dl)).records[-1].content:
                self._left(work / paths.receipt(dl), told)
            assert to_do(self.jobs[dl], work) == [], f"{dl}: still outstanding"
        for home in self._series():
            of = str(home.relative_to(work))
            list(Series(work, of).verify())  # it mends
            harmed = list(Series(work, of).verify())
            assert harmed == [], f"not mended: {harmed}"
        due = {f"chunktokens/{Path(name).with_suffix('')}" for staged in there.values() for name in staged}
        for path in stage.glob("chunktokens/*/*"):
            if str(path.relative_to(stage)) not in due:
                self._left(path, told)
        assert all((stage / token).exists() for token in due), "a token is missing"
        faults = [fault for path in stage.glob("*/r*/*.evt") for fault in check_evt(path).faults]
        assert not faults, f"event files that Level-1 refuses: {faults}"
        # A job that met its fate at the end was killed just now: its lease lives on for its time.
        time.sleep(max((each.lifetime - each.silent for each in leases.found(work) if each.lives), default=0))
        time.sleep(leases.POLL_SECONDS)
        living = [lease.name for lease in leases.found(work) if lease.lives]
        assert living == [], f"leases whose holders are gone, and live: {living}"

    def _left(self, path: Path, told: set[Path]) -> None:
        """Count what a job left that stood still in the middle of one change; a person is told of it."""
        assert path in told, f"{path}: left, and nobody is told"
        self.did["left and told"] += 1


def files_of(receipt: Mapping[str, Any]) -> set[str]:
    """Return the event files that a receipt names."""
    return {f"{run['l1_run']}/{file['name']}" for run in receipt["runs"] for file in run["files"]}


def main(home: Path, rounds: int, seed: int, rule: str = "") -> int:
    """Do so many rounds; return how many failed."""
    libc.prctl(SUBREAPER, 1, 0, 0, 0)
    leases.POLL_SECONDS = 0.05
    site = build(home)
    jobs = {downlink: site.listed(f"dl={downlink}") for downlink in DOWNLINKS}
    for path in site.work.glob(paths.settings("*")):
        path.write_text(path.read_text().replace('"seconds": 1.0', f'"seconds": {LIFETIME}'))
    for script in {shlex.split(job.command)[1] for of in jobs.values() for job in of}:
        in_process.module(script)
    before = shutil.copytree(site.home, home / "before")
    hosts, expected, failed = hosts_are_permitted(), None, 0
    for number in range(-1, rounds):
        shutil.rmtree(site.home)
        shutil.copytree(before, site.home)
        journal = site.home / "journal"
        if rule:
            if number < 0:
                continue
            aimed = Round(site, jobs, seed + number, journal, aim=(rule, seed + number))
            aimed.todo.clear()
            if not aimed.stand_still():
                break
            print(json.dumps({"seed": seed + number, "failed": ""}), flush=True)
            continue
        mine = Round(site, jobs, seed + number, journal)
        mine.apart = hosts and number % APART == 0
        if number < 0:  # in peace: what is right
            mine.todo.clear()
        begun, why = time.monotonic(), ""
        try:
            mine.run()
            if expected is None:
                expected = event_records(site.stage.glob("*/r*/*.evt"))
            mine.judge(expected)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            failed += 1
            mine.note(traceback.format_exc())
            while there := list(children(os.getpid())):
                for pid in there:
                    mine._signal(pid, signal.SIGKILL)
                mine._reap()
            shutil.copytree(site.home, home / f"failed-{seed + number}")
        fates = journal.read_text().split() if journal.exists() else []
        mine.did["kills"] += fates.count("SIGKILL")
        said = {
            "seed": seed + number,
            "seconds": round(time.monotonic() - begun, 1),
            **mine.did,
            "failed": why,
        }
        if number >= 0:
            print(json.dumps(said), flush=True)
    return failed


if __name__ == "__main__":
    raise SystemExit(bool(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])))
