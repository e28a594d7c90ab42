"""Tests of a directory that two hosts share: `halfpipe doctor --probe`.

Side 1 is the command. Side 2 is a job in Slurm, ``python -m halfpipe.site.two_hosts DIRECTORY``. Both sides take the
same steps, and `judge` compares what they saw.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from halfpipe import paths
from halfpipe.config import Profile
from halfpipe.errors import HalfPipeError
from halfpipe.files.durable import publish, write_bytes
from halfpipe.files.leases import Lease
from halfpipe.files.reading import names_in
from halfpipe.process.failure_record import in_a_line
from halfpipe.settings import ROOT, Settings
from halfpipe.site.doctor import Finding, finding, of_script

RACES = 1000  # numbers that both sides try to publish, as two processes may try with the next record
EXCHANGES = 200
LINES = 2000  # how often each side replaces its file, and the lines of that file
LIFETIME = 3.0  # of the lease that is lost, seconds
# How long the job may take to begin, and how long a side waits for the other one.
MEET_SECONDS = 600
STEP_SECONDS = 90.0
# A larger difference of clocks, or a later visibility (the profile's latency-wait), is a problem.
CLOCK_SECONDS = 10.0
SHOWN_SECONDS = 60.0
SITE = "site.json"
REPORT = "report.json"  # input of the job's doctor, and output of the job


class Seen(msgspec.Struct):
    """What a side saw: of the other side's files, of the race, and of the lease."""

    host: str
    torn: int = 0  # readings of an incomplete file
    back: int = 0  # readings of an older file than before
    late: list[float] = []  # seconds from writing to reading, by the clocks of both sides
    wins: list[str] = []
    contents: dict[str, str] = {}
    tries: int = 0
    refused: bool = False  # the lease, while the other side held it
    followed: float | None = None  # seconds until the lease could be taken
    stopped: str = ""
    node: list[Finding] = []  # findings of the doctor's script


class Side:
    """One of the two sides, 1 or 2, in the directory `home`."""

    def __init__(self, home: Path, me: int) -> None:
        self.home = home
        self.me = me
        self.number = 0  # of the last exchange
        self.seen = Seen(os.uname().nodename)

    def go(self) -> Seen:
        """Take all steps, and return what this side saw."""
        try:
            for _ in range(EXCHANGES):
                self.exchange()
            self.race()
            self.lease()
        except HalfPipeError as error:
            self.seen.stopped = str(error)
        return self.seen

    def exchange(self) -> None:
        """Replace this side's file, and read the other side's until it has the same number.

        Each file has its number and the time of writing on all lines. Every reading must find a complete file, and
        never an older one.

        Raises
        ------
        HalfPipeError
            If the other side's number was not seen in time.
        """
        self.number += 1
        line = f"{self.number} {time.time()}\n"
        write_bytes(self.home / f"side-{self.me}", (line * LINES).encode(), lasting=False)
        theirs = self.home / f"side-{3 - self.me}"
        until = time.monotonic() + STEP_SECONDS
        last = self.number - 1
        while last < self.number:
            if time.monotonic() > until:
                raise HalfPipeError(f"number {self.number} in {theirs} was not seen in time")
            with suppress(FileNotFoundError):
                lines = theirs.read_text().splitlines()
                if len(lines) != LINES or len(set(lines)) > 1:
                    self.seen.torn += 1
                    continue
                number, sent = lines[0].split()
                self.seen.back += int(number) < last
                last = max(int(number), last)
        self.seen.late.append(time.time() - float(sent))

    def race(self) -> None:
        """Publish the next number of a series as fast as possible, against the other side."""
        series = self.home / "race"
        while len(names := [name for name in names_in(series) if name.isdigit()]) < RACES:
            self.seen.tries += 1
            name = f"{len(names) + 1:06d}"
            if publish(series / name, str(self.me).encode(), lasting=False):
                self.seen.wins.append(name)
        self.seen.contents = {name: (series / name).read_text() for name in names}

    def lease(self) -> None:
        """Side 2 takes a lease and ends as if killed; side 1 is refused before, and takes over afterwards."""
        lease = Lease(self.home, "leases/probe", LIFETIME)
        if self.me == 2:
            lease.try_take()
        self.exchange()
        self.seen.refused = self.me == 1 and not lease.try_take()
        self.exchange()
        since = time.monotonic()
        while self.me == 1 and not lease.try_take():
            if time.monotonic() > since + 15 * LIFETIME:
                return
            time.sleep(LIFETIME / 30)
        self.seen.followed = time.monotonic() - since


def judge(one: Seen, other: Seen) -> Iterator[Finding]:
    """Compare what the two sides saw, and yield the findings."""
    if one.host == other.host:
        yield finding("unknown", "two-hosts", f"both sides ran on {one.host}", "run it on another host")
    else:
        yield finding("good", "two-hosts", f"{one.host} and {other.host} met in the working directory")
    stopped = [f"{side.host} stopped: {side.stopped}" for side in (one, other) if side.stopped]
    if stopped:
        do = "process on one host only, and ask s3df how the file system synchronizes hosts"
        yield finding("problem", "probe-unseen", "; ".join(stopped), do)
        return
    # Of two messages, one appears later by the difference of the clocks, and the other one earlier.
    ahead = (min(other.late) - min(one.late)) / 2
    late = max(max(other.late) - ahead, max(one.late) + ahead)
    won = dict.fromkeys(one.wins, "1") | dict.fromkeys(other.wins, "2")
    wrong = [
        name for name, side in won.items() if not one.contents.get(name) == other.contents.get(name) == side
    ]
    twice = len(one.wins) + len(other.wins) - len(won)
    torn = one.torn + other.torn
    back = one.back + other.back
    followed = "never" if one.followed is None else f"within {one.followed:.1f} s"
    only = "process on one host only, and tell HalfPipe's developers"
    for well, code, seen, do in (
        (
            abs(ahead) <= CLOCK_SECONDS,
            "clock",
            f"{other.host} is {ahead:+.3f} s ahead, within {min(one.late) + ahead:.3f} s",
            "have the clocks set (chrony, NTP)",
        ),
        (
            not torn + back and late <= SHOWN_SECONDS,
            "rename",
            f"{torn} looks found no whole file and {back} an older one; the slowest of {2 * EXCHANGES} files was seen "
            f"after {late:.3f} s",
            "mount the file system without caches of names, or raise latency-wait of the profile",
        ),
        (
            not twice + len(wrong) and len(won) == RACES,
            "link",
            f"{one.host} got {len(one.wins)} of {RACES} numbers and {other.host} {len(other.wins)}, in "
            f"{one.tries + other.tries} tries; both got {twice}; {len(wrong)} have the content of the loser",
            f"link(2) is not exclusive here: {only}",
        ),
        (
            one.refused and one.followed is not None,
            "lease",
            f"a held lease was {'' if one.refused else 'NOT '}refused; the other host took over {followed} of "
            f"its holder's end (lifetime {LIFETIME:g} s)",
            f"leases do not hold between these hosts: {only}",
        ),
    ):
        yield finding("good" if well else "problem", code, seen, "" if well else do)


def probe(settings: Settings, profile: Profile, site: Mapping[str, object]) -> Iterator[Finding]:
    """Run side 2 as a job and side 1 here, and yield the findings, including those of the doctor on the job's host.

    Parameters
    ----------
    settings, profile
        The site; the job gets partition, account and QOS from the profile's `default-resources`.
    site
        The input of the doctor's script, from `site_of`.
    """
    home = settings.paths.work / paths.probe(os.urandom(4).hex())
    home.mkdir()
    write_bytes(home / SITE, msgspec.json.encode(site))
    given = profile.content.get("default-resources") or {}
    named = {"--partition": "slurm_partition", "--account": "slurm_account", "--qos": "qos"}
    options = [f"{option}={given[key]}" for option, key in named.items() if given.get(key)]
    options += [f"--immediate={MEET_SECONDS}", "--time=15", "--mem=2000M", "--job-name=halfpipe-doctor"]
    words = ["srun", *options, f"--chdir={ROOT}", sys.executable, "-m", __spec__.name, str(home)]
    side = Side(home, 1)
    job = None
    said = ""
    try:
        job = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while job.poll() is None and not (home / "side-2").exists():
            time.sleep(0.1)
        if job.poll() is None:
            side.go()
        said, _ = job.communicate()
        other = msgspec.json.decode((home / REPORT).read_bytes(), type=Seen)
    except OSError as error:
        busy = "Unable to allocate resources" in said
        do = "rerun the command when nodes are free" if busy else "check that the job's node has paths.work"
        seen = f"{error.filename}: {error.strerror}; {in_a_line(said)}"
        yield finding(
            "unknown" if busy else "problem", "probe-unmet", seen, f"{do}, then: halfpipe doctor --probe"
        )
        return
    finally:
        if job is not None:
            job.terminate()  # srun cancels its job
            job.wait()
        shutil.rmtree(home, ignore_errors=True)
    yield from (msgspec.structs.replace(each, seen=f"on {other.host}: {each.seen}") for each in other.node)
    yield from judge(side.seen, other)


def main(home: Path) -> None:
    """Run side 2, after the doctor on its host."""
    side = Side(home, 2)
    side.seen.node = of_script(json.loads((home / SITE).read_bytes()), "--no-message")
    write_bytes(home / REPORT, msgspec.json.encode(side.go()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
