"""Tests of a directory that two hosts share: `halfpipe doctor --probe`.

``python -m halfpipe.site.two_hosts DIRECTORY SIDE`` is one of the two sides, 1 or 2. Both take the same steps. A step
begins when both sides have reached it; a side that waits too long for the other one stops. At its end each side writes
a report, and `judge` compares the two.
"""

import json
import os
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.config import Profile
from halfpipe.errors import HalfPipeError, LeaseLostError
from halfpipe.files.durable import publish, write_bytes
from halfpipe.files.leases import Lease
from halfpipe.files.reading import names_in
from halfpipe.process.programs import Log, run
from halfpipe.settings import ROOT, Settings
from halfpipe.site.doctor import Finding, finding, of_script
from halfpipe.status.failed_jobs import end_of

RACES = 1000  # numbers that both sides try to publish, as two processes may try with the next record
EXCHANGES = 20  # to compare the clocks
RENAMES, LINES = 300, 2000  # renames of a file while the other side reads it, and its lines
LIFETIME = 3.0  # of the lease that is lost, seconds
# How long the job may take to begin, and how long a side waits for the other one.
MEET_SECONDS, STEP_SECONDS = 600.0, 90.0
# A larger difference of clocks, or a later visibility (the profile's latency-wait), is a problem.
CLOCK_SECONDS, SHOWN_SECONDS = 10.0, 60.0
SITE, JOB_LOG = "site.json", "job.log"  # input of the job's doctor, and output of the job


class Side:
    """One of the two sides; `seen` will be its report.

    Parameters
    ----------
    home
        The directory of the test.
    me
        The number of this side, 1 or 2.
    """

    def __init__(self, home: Path, me: int) -> None:
        self.home, self.me = home, me
        self.seen: dict[str, Any] = {"host": socket.gethostname()}

    def say(self, name: str, content: object = "") -> None:
        """Write a value for the other side, completely or not at all."""
        write_bytes(self.home / f"{name}-{self.me}", json.dumps(content).encode(), lasting=False)

    def hear(self, name: str) -> Any:
        """Wait for a value from the other side, and return it.

        Raises
        ------
        HalfPipeError
            If it was not seen in time.
        """
        path, until = self.home / f"{name}-{3 - self.me}", time.monotonic() + STEP_SECONDS
        while time.monotonic() < until:
            with suppress(FileNotFoundError):
                return json.loads(path.read_bytes())
            time.sleep(0.002)
        raise HalfPipeError(f"{path} of the other side was not seen in time")

    def exchange(self, name: str, content: object = "") -> Any:
        """Write a value, and return that of the other side when both sides have written."""
        self.say(name, content)
        return self.hear(name)

    def go(self) -> None:
        """Take all steps, and write the report."""
        try:
            for step in (self.clock, self.rename, self.race, self.lease):
                self.exchange(step.__name__)
                step()
        except HalfPipeError as error:
            self.seen["stopped"] = str(error)
        self.say("report", self.seen)

    def clock(self) -> None:
        """Send the time and receive the other side's; the fastest messages bound the difference of the clocks."""
        there = (self.exchange(f"time{number}", time.time()) for number in range(EXCHANGES))
        self.seen["late"] = min(time.time() - sent for sent in there)  # seconds, by this side's clock

    def rename(self) -> None:
        """Side 1 replaces a file while side 2 reads it: every read must find a complete file, never an older one."""
        path, until = self.home / "renamed", time.monotonic() + STEP_SECONDS
        if self.me == 1:
            for number in range(RENAMES + 1):
                write_bytes(path, f"{number} {time.time()}\n".encode() * LINES, lasting=False)
                time.sleep(0.002)
            self.hear("read")
            return
        torn, back, last, slowest = 0, 0, -1, 0.0
        while last < RENAMES and time.monotonic() < until:
            lines = []
            with suppress(FileNotFoundError):
                lines = path.read_bytes().splitlines()
            if len(lines) != LINES or len(set(lines)) > 1:
                torn += bool(lines) or last >= 0  # at first the file does not exist
            else:
                number, written = int(lines[0].split()[0]), float(lines[0].split()[1])
                back += number < last
                slowest = max(slowest, time.time() - written) if number > last else slowest
                last = max(number, last)
        self.seen.update(torn=torn, back=back, renamed=last, slowest=slowest)
        self.say("read")

    def race(self) -> None:
        """Publish the next number of a series as fast as possible, against the other side."""
        series, wins, tries = self.home / "race", list[int](), 0
        while (last := max(map(int, filter(str.isdigit, names_in(series))), default=0)) < RACES:
            tries += 1
            if publish(series / f"{last + 1:06d}", str(self.me).encode(), lasting=False):
                wins.append(last + 1)
        owners = {
            int(name): int((series / name).read_text()) for name in filter(str.isdigit, names_in(series))
        }
        self.seen.update(wins=wins, tries=tries, owners=owners)

    def lease(self) -> None:
        """Side 1 holds a lease and loses it while it is suspended; side 2 is refused, then takes over."""
        lease = Lease(self.home, "leases/probe", LIFETIME)
        if self.me == 1:
            child = os.fork()  # because this process may have a terminal, and must not be suspended
            if not child:
                os._exit(self._hold(lease))
            try:
                self.hear("refused")
                os.kill(child, signal.SIGSTOP)
                self.say("suspended")
                self.hear("followed")
            finally:
                os.kill(child, signal.SIGCONT)
                self.seen["lost"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            return
        self.hear("held")
        self.seen["refused"] = not lease.try_take()
        self.say("refused")
        self.hear("suspended")
        since = time.monotonic()
        while not lease.try_take() and time.monotonic() < since + 15 * LIFETIME:
            time.sleep(LIFETIME / 30)
        self.seen["followed"] = time.monotonic() - since if lease.is_of_this_process else None
        self.say("followed")

    def _hold(self, lease: Lease) -> int:
        """Take a lease and hold it until it is lost; return 0 if the loss was noticed."""
        until = time.monotonic() + 30 * LIFETIME
        with suppress(LeaseLostError):
            while lease.is_of_this_process or lease.try_take():
                self.say("held")
                lease.check()  # first, because this process may have been suspended beyond `until`
                if time.monotonic() > until:
                    break
                time.sleep(LIFETIME / 30)
            return 1
        return 0


def judge(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the reports of the two sides, and yield the findings.

    Parameters
    ----------
    one, other
        The reports of side 1 and side 2.
    """
    if one["host"] == other["host"]:
        yield finding("unknown", "two-hosts", f"both sides ran on {one['host']}", "run it on another host")
    else:
        yield finding("good", "two-hosts", f"{one['host']} and {other['host']} met in the working directory")
    stopped = [f"{side['host']} stopped: {side['stopped']}" for side in (one, other) if "stopped" in side]
    if stopped:
        do = "process on one host only, and ask s3df how the file system synchronizes hosts"
        yield finding("problem", "probe-unseen", "; ".join(stopped), do)
        return
    # Of two messages, one appears later by the difference of the clocks, and the other one earlier.
    ahead, within = (other["late"] - one["late"]) / 2, (other["late"] + one["late"]) / 2
    late, followed = other["slowest"] - ahead, other["followed"]
    wins = {1: set(one["wins"]), 2: set(other["wins"])}
    twice, neither = wins[1] & wins[2], set(range(1, RACES + 1)) - wins[1] - wins[2]
    wrong = [
        number
        for side in (one, other)
        for number, of in side["owners"].items()
        if int(number) not in wins[of]
    ]
    for well, code, seen, do in (
        (
            abs(ahead) <= CLOCK_SECONDS,
            "clock",
            f"{other['host']} is {ahead:+.3f} s ahead, within {within:.3f} s",
            "have the clocks set (chrony, NTP)",
        ),
        (
            not other["torn"] + other["back"] and other["renamed"] == RENAMES and late <= SHOWN_SECONDS,
            "rename",
            f"{other['torn']} looks found no whole file and {other['back']} an older one; {other['renamed']} of "
            f"{RENAMES} renames were seen, the slowest after {late:.3f} s",
            "mount the file system without caches of names, or raise latency-wait of the profile",
        ),
        (
            not (twice or neither or wrong),
            "link",
            f"{one['host']} got {len(wins[1])} of {RACES} numbers and {other['host']} {len(wins[2])}, in "
            f"{one['tries'] + other['tries']} tries; both got {len(twice)}, neither {len(neither)}; {len(wrong)} have "
            "the content of the loser",
            "link(2) is not exclusive here: process on one host only, and tell HalfPipe's developers",
        ),
        (
            other["refused"] and followed is not None and one["lost"],
            "lease",
            f"a held lease was {'' if other['refused'] else 'NOT '}refused; while its holder was suspended the other "
            f"host took over after {followed and round(followed, 1)} s (lifetime {LIFETIME:g} s); the holder did "
            f"{'' if one['lost'] else 'NOT '}notice",
            "leases do not hold between these hosts: process on one host only, and tell HalfPipe's developers",
        ),
    ):
        yield finding("good" if well else "problem", code, seen, "" if well else do)


def probe(settings: Settings, profile: Profile, site: Mapping[str, Any]) -> Iterator[Finding]:
    """Submit a job as side 2, run side 1, and yield the findings, including those of the doctor on the job's host.

    Parameters
    ----------
    settings, profile
        The site; the job gets partition, account and QOS from the profile's `default-resources`.
    site
        The input of the doctor's script, from `site_of`.
    """
    home, job = settings.paths.work / paths.probe(os.urandom(4).hex()), ""
    home.mkdir()
    write_bytes(home / SITE, json.dumps(site).encode())
    given = profile.content.get("default-resources") or {}
    named = {"--partition": "slurm_partition", "--account": "slurm_account", "--qos": "qos"}
    options = [f"{option}={given[key]}" for option, key in named.items() if given.get(key)]
    options += [f"--chdir={ROOT}", f"--output={home / JOB_LOG}", "--job-name=halfpipe-doctor", "--no-requeue"]
    options += [f"--wrap=exec {shlex.join([sys.executable, '-m', __spec__.name, str(home), '2'])}"]
    try:
        job = _slurm("sbatch", "--parsable", "--time=15", "--mem=2000M", *options)
        until, side = time.monotonic() + MEET_SECONDS, Side(home, 1)
        while not (home / "clock-2").exists():
            state = _slurm("squeue", "--noheader", f"--jobs={job}", "--format=%T, %r, expected to start %S")
            if not state:
                said = "; ".join(end_of(home / JOB_LOG))
                raise HalfPipeError(f"job {job} ended without being seen: {said}")
            if time.monotonic() > until:
                do = "rerun the command when nodes are free"
                yield finding("unknown", "probe-unmet", f"job {job} has not begun: {state}", do)
                return
            time.sleep(1)
        side.go()
        other = side.hear("report")
        for one in other.pop("node"):
            yield {**one, "seen": f"on {other['host']}: {one['seen']}"}
        yield from judge(side.seen, other)
    except HalfPipeError as error:
        do = "check that the job's node has paths.work, then: halfpipe doctor --probe"
        yield finding("problem", "probe-unmet", error, do)
    finally:
        if job:
            with suppress(HalfPipeError):
                _slurm("scancel", job)
        shutil.rmtree(home, ignore_errors=True)


def _slurm(*words: str) -> str:
    """Run a command of Slurm and return its output."""
    out = StringIO()
    ending = run(words, ROOT, Log(out), seconds=60)
    if not ending.well:
        raise HalfPipeError(f"{words[0]} {ending.saying}")
    return out.getvalue().strip()


def main(home: Path, me: int) -> None:
    """Run one side; side 2 also reports the findings of the doctor on its host."""
    side = Side(home, me)
    if me == 2:
        side.seen["node"] = of_script(json.loads((home / SITE).read_bytes()), "--no-message")
    side.go()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
