"""What HalfPipe relies on between two hosts, tried in a directory that both see: `halfpipe doctor --probe`.

``python -m halfpipe.site.two_hosts DIRECTORY SIDE`` is one of the two sides, 1 or 2. They take one step after the
other together. A step begins when both have come to it; a side that waits too long for the other one stops there.
At its end each leaves a report of what it saw, and `judge` compares the two.
"""

import json
import os
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.config import Profile
from halfpipe.errors import HalfPipeError, LeaseLostError
from halfpipe.files import leases
from halfpipe.files.durable import publish, write_bytes
from halfpipe.files.reading import names_in
from halfpipe.process.programs import Log, run
from halfpipe.settings import ROOT, Settings
from halfpipe.site.doctor import Finding, finding, of_script

RACES = 1000  # numbers that both sides want, as two processes want the next record
EXCHANGES = 20  # by which the clocks are compared
RENAMES = 300  # of one name, while the other side reads it
LIFETIME = 3.0  # seconds: that of the lease which is lost
MEET_SECONDS, STEP_SECONDS = (
    600.0,
    90.0,
)  # that a side waits for the other one to begin, and to come to a step
CLOCK_SECONDS, SHOWN_SECONDS = (
    10.0,
    60.0,
)  # more apart, or later to show (as the profile's latency-wait), is a problem
LOOK_SECONDS = 10.0  # between two looks whether the job lives
LOG = "job.log"
SITE = "site.json"  # what the script of the doctor is given on the second host
LINES = 2000  # that a file has which is renamed


class NotSeenError(Exception):
    """The other side, or what it wrote, was not seen in time."""


class Side:
    """One of the two sides.

    Parameters
    ----------
    home
        The directory in which they meet.
    me
        Its number, 1 or 2.
    """

    def __init__(self, home: Path, me: int) -> None:
        self.home, self.me, self.other, self.step = home, me, 3 - me, "meet"
        self.seen: dict[str, Any] = {"host": socket.gethostname()}

    def say(self, name: str, content: object = "") -> None:
        """Show the other side a value, whole or not at all."""
        write_bytes(self.home / f"{name}-{self.me}", json.dumps(content).encode(), lasting=False)

    def hear(
        self, name: str, seconds: float | None = None, meanwhile: Callable[[], None] = lambda: None
    ) -> Any:
        """Wait for a value of the other side."""
        seconds = STEP_SECONDS if seconds is None else seconds
        path, until = self.home / f"{name}-{self.other}", time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(FileNotFoundError):
                return json.loads(path.read_bytes())
            time.sleep(0.002)
            meanwhile()
        raise NotSeenError(f"{path} did not show within {seconds:g} s")

    def together(self, step: str) -> None:
        """Begin a step when the other side does."""
        self.step = step
        self.say(step)
        self.hear(step)

    def go(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Take all steps, and leave a report."""
        try:
            self.say("here")
            self.hear("here", MEET_SECONDS, meanwhile)
            for step in (self.clock, self.rename, self.race, self.lease):
                self.together(step.__name__)
                step()
        except NotSeenError as error:
            self.seen["stopped"] = f"{self.step}: {error}"
        self.say("report", self.seen)

    def clock(self) -> None:
        """Compare the clocks by exchanges, and each with that of the file server."""
        probe = self.home / f"clock-of-{self.me}"
        probe.touch()
        self.seen["server"] = probe.stat().st_mtime - time.time()
        best = (float("inf"), 0.0)
        for number in range(EXCHANGES):
            if self.me == 1:
                sent = time.time()
                self.say(f"ping{number}")
                came, back = self.hear(f"pong{number}")
                took = time.time() - sent - (back - came)
                best = min(best, (took, (came - sent + back - time.time()) / 2))
            else:
                self.hear(f"ping{number}")
                came = time.time()
                self.say(f"pong{number}", [came, time.time()])
        if self.me == 1:
            self.seen["round"], self.seen["offset"] = best  # seconds; how much the other clock is ahead

    def rename(self) -> None:
        """Read a name that the other side renames over: each look must find a whole file, and none an older one."""
        path = self.home / "renamed"
        if self.me == 1:
            for number in range(RENAMES + 1):
                write_bytes(path, f"{number} {time.time()}\n".encode() * LINES, lasting=False)
                time.sleep(0.002)
            self.hear("read")
            return
        torn, back, last, slowest = 0, 0, -1, 0.0
        until = time.monotonic() + STEP_SECONDS
        while last < RENAMES and time.monotonic() < until:
            try:
                lines = path.read_bytes().splitlines()
            except FileNotFoundError:
                torn += last >= 0
                continue
            torn += len(lines) != LINES or len(set(lines)) != 1
            if lines and len(set(lines)) == 1:
                number, written = int(lines[0].split()[0]), float(lines[0].split()[1])
                back += number < last
                if number > last:
                    last, slowest = number, max(slowest, time.time() - written)
        self.seen.update(torn=torn, back=back, renamed=last, slowest=slowest)
        self.say("read")

    def race(self) -> None:
        """Publish the next number of a series as fast as possible, as the other side does."""
        series, wins, tries = self.home / "race", list[int](), 0
        while (highest := max(map(int, (n for n in names_in(series) if n.isdigit())), default=0)) < RACES:
            tries += 1
            if publish(series / f"{highest + 1:06d}", str(self.me).encode(), lasting=False):
                wins.append(highest + 1)
        self.together("raced")
        self.seen.update(wins=wins, tries=tries)
        if self.me == 1:
            there = sorted(name for name in names_in(series) if name.isdigit())
            self.seen["owners"] = {int(name): int((series / name).read_text()) for name in there}

    def lease(self) -> None:
        """Hold a lease that is then lost by standing still, or follow who stands still."""
        leases.lifetime = LIFETIME
        lease = leases.Lease(self.home, "leases/probe")
        if self.me == 1:
            child = os.fork()
            if not child:
                os._exit(self._hold(lease))
            try:
                while not (self.home / "held").exists():  # it tells in any case, once it has tried
                    time.sleep(0.01)
                self.together("taken")
                self.together("refused")
                os.kill(child, signal.SIGSTOP)
                self.together("stands-still")
                self.hear("followed", 20 * LIFETIME)
            finally:
                os.kill(child, signal.SIGCONT)
                self.seen["lost"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            return
        self.together("taken")
        found = lease.look()
        self.seen["refused"] = found is not None and found.lives and not lease.try_take()
        self.together("refused")
        self.together("stands-still")
        since = time.monotonic()
        while not lease.try_take() and time.monotonic() - since < 15 * LIFETIME:
            time.sleep(LIFETIME / 30)
        self.seen["followed"] = time.monotonic() - since if lease.is_of_this_process else None
        self.say("followed")

    def _hold(self, lease: leases.Lease) -> int:
        """Hold the lease until it is lost; return 0 if that was noticed."""
        until = time.monotonic() + 30 * LIFETIME
        taken = lease.try_take()
        (self.home / "held").touch()
        while taken and time.monotonic() < until:
            time.sleep(LIFETIME / 30)
            try:
                lease.check()
            except LeaseLostError:
                return 0
        return 1


def judge(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what the two sides found, of which `one` is the first.

    Parameters
    ----------
    one, other
        What `Side.seen` held at the end of each.
    """
    hosts = f"{one['host']} and {other['host']}"
    if one["host"] == other["host"]:
        yield finding(
            "unknown",
            "two-hosts",
            f"both sides ran on {one['host']}",
            "give it on another host than the job's node",
        )
    else:
        yield finding("good", "two-hosts", f"{hosts} met in the working directory")
    stopped = [f"{side['host']} stopped at {side['stopped']}" for side in (one, other) if "stopped" in side]
    if stopped:
        do = "do not process on more than one host; ask s3df how the file system keeps hosts in step"
        yield finding("problem", "probe-unseen", "; ".join(stopped), do)
        return
    ahead = [one["offset"], one["server"], other["server"]]
    seen = (
        f"{other['host']} is {ahead[0]:+.3f} s ahead of {one['host']}, within {one['round'] / 2:.3f} s; "
        f"the file server is {ahead[1]:+.3f} s ahead of {one['host']}, {ahead[2]:+.3f} s ahead of {other['host']}"
    )
    well = max(map(abs, ahead)) <= CLOCK_SECONDS
    yield _judged(well, "clock", seen, "have the clocks set (chrony, NTP)")
    late = other["slowest"] - one["offset"]
    seen = (
        f"{other['torn']} looks found no whole file and {other['back']} an older one; "
        f"{other['renamed']} of {RENAMES} renames were seen, the slowest after {late:.3f} s"
    )
    well = not other["torn"] and not other["back"] and other["renamed"] == RENAMES and late <= SHOWN_SECONDS
    do = "mount the file system without caches of names, or raise latency-wait of the profile"
    yield _judged(well, "rename", seen, do)
    wins = {1: set(one["wins"]), 2: set(other["wins"])}
    twice, neither = wins[1] & wins[2], set(range(1, RACES + 1)) - wins[1] - wins[2]
    wrong = [number for number, owner in one["owners"].items() if int(number) not in wins[owner]]
    seen = (
        f"{one['host']} got {len(wins[1])} of {RACES} numbers and {other['host']} {len(wins[2])}, "
        f"in {one['tries'] + other['tries']} tries; both got {len(twice)}, neither {len(neither)}, "
        f"and {len(wrong)} hold what the loser wrote"
    )
    do = "link(2) is not exclusive here: process on one host only, and tell HalfPipe's developers"
    yield _judged(not (twice or neither or wrong), "link", seen, do)
    followed = other["followed"]
    seen = (
        f"the other host was {'refused' if other['refused'] else 'NOT refused'} a lease that was held; "
        f"{'did NOT follow' if followed is None else f'followed after {followed:.1f} s'} when its holder stood still "
        f"(lifetime {LIFETIME:g} s); the holder did {'' if one['lost'] else 'NOT '}notice"
    )
    do = "leases do not hold between these hosts: process on one host only, and tell HalfPipe's developers"
    yield _judged(other["refused"] and followed is not None and one["lost"], "lease", seen, do)


def _judged(well: bool, code: str, seen: str, do: str) -> Finding:
    return finding("good", code, seen) if well else finding("problem", code, seen, do)


def probe(settings: Settings, profile: Profile, site: Mapping[str, Any]) -> Iterator[Finding]:
    """Submit one job, be the first side beside it, and yield what both found, and the doctor on the job's host.

    Parameters
    ----------
    settings, profile
        The site; the job has partition, account and QOS of the profile's `default-resources`.
    site
        What the doctor's script is given, as `site_of` returns it.
    """
    home = settings.paths.work / paths.probe(os.urandom(4).hex())
    home.mkdir()
    write_bytes(home / SITE, json.dumps(site).encode())
    given = profile.content.get("default-resources") or {}
    named = {"--partition": "slurm_partition", "--account": "slurm_account", "--qos": "qos"}
    options = [f"{option}={given[key]}" for option, key in named.items() if given.get(key)]
    words = [sys.executable, "-m", __spec__.name, str(home), "2"]
    options += [f"--chdir={ROOT}", f"--output={home / LOG}", "--job-name=halfpipe-doctor", "--no-requeue"]
    job = ""
    try:
        job = _slurm(
            "sbatch", "--parsable", "--time=15", "--mem=2000M", *options, f"--wrap=exec {shlex.join(words)}"
        )
        side = Side(home, 1)
        asked = [time.monotonic()]

        def lives() -> None:
            if time.monotonic() - asked[0] > LOOK_SECONDS:
                asked[0] = time.monotonic()
                if not _slurm("squeue", "--noheader", f"--jobs={job}", "--format=%T"):
                    raise NotSeenError(f"job {job} ended: {_tail(home / LOG)}")

        side.go(lives)
        if side.step == "meet":
            why = _slurm("squeue", "--noheader", f"--jobs={job}", "--format=%T, %r, expected to start %S")
            waits = why.startswith("PENDING")
            do = (
                "give the command again when there are free nodes"
                if waits
                else "see that its node has paths.work"
            )
            seen = f"job {job}: {side.seen['stopped']} ({why or 'it ended'})"
            yield finding("unknown" if waits else "problem", "probe-unmet", seen, do)
            return
        other = side.hear("report")
        for one in other.pop("node", []):
            yield {**one, "seen": f"on {other['host']}: {one['seen']}"}
        yield from judge(side.seen, other)
    except (NotSeenError, HalfPipeError) as error:
        yield finding("problem", "probe-unmet", error, "put this right, then: halfpipe doctor --probe")
    finally:
        if job:
            with suppress(HalfPipeError):
                _slurm("scancel", job)
        shutil.rmtree(home, ignore_errors=True)


def _slurm(*words: str) -> str:
    """Give a command of Slurm and return what it prints."""
    out = StringIO()
    ending = run(words, ROOT, Log(out), seconds=60)
    if not ending.well:
        raise HalfPipeError(f"{words[0]} {ending.saying}")
    return out.getvalue().strip()


def _tail(log: Path) -> str:
    """Return the last line of a job's log."""
    try:
        return (log.read_text(errors="replace").splitlines() or ["its log is empty"])[-1]
    except OSError:
        return "it left no log"


def main(home: Path, me: int) -> None:
    """Be one side; the second one says besides what the doctor finds on its host."""
    if not home.is_dir():
        sys.exit(f"{home}: not seen on {socket.gethostname()}")
    side = Side(home, me)
    if me == 2:
        try:
            side.seen["node"] = of_script(json.loads((home / SITE).read_bytes()), "--no-message")
        except (HalfPipeError, OSError) as error:
            side.seen["node"] = [finding("unknown", "doctor", error, "run it there by hand")]
    side.go()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
