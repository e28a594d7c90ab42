"""Tests of a directory that two hosts share: `halfpipe doctor --probe`.

Side 1 is the command. Side 2 is a job in Slurm, ``python -m halfpipe.site.two_hosts DIRECTORY``. Both take the same
steps at the same time, and each side has findings of its own.
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
from halfpipe.files.heartbeat import file_server_time
from halfpipe.files.leases import Lease
from halfpipe.files.reading import names_in
from halfpipe.process.failure_record import in_a_line
from halfpipe.settings import ROOT, Settings
from halfpipe.site.doctor import Finding, finding, of_script

RACES = 1000  # numbers that both sides try to publish, as two processes may try with the next record
EXCHANGES = 200  # how often each side replaces its file
LINES = 2000  # of that file
LIFETIME = 3.0  # of the lease that is lost, seconds
MEET_SECONDS = 600  # how long the job may take to begin
STEP_SECONDS = 90.0  # how long a side waits for the other one
CLOCK_SECONDS = 10.0  # a larger difference from the file server's clock is a problem,
SHOWN_SECONDS = 60.0  # and a file that is seen later than this (the profile's latency-wait)
SITE = "site.json"  # input of the job's doctor
REPORT = "report.json"  # output of the job


class Report(msgspec.Struct):
    """What side 2 reports to side 1."""

    host: str
    findings: list[Finding]


def exchange(home: Path, me: int, number: int) -> tuple[float, int]:
    """Replace this side's file, and read the other side's until it has the same number.

    Each file has its number and the time of writing, by the file server's clock, on all lines.

    Returns
    -------
    tuple
        Seconds until the file was seen, and how many readings found an incomplete file.

    Raises
    ------
    HalfPipeError
        If the other side's number was not seen in time.
    """
    line = f"{number} {file_server_time(home)}\n"
    write_bytes(home / f"side-{me}", (line * LINES).encode(), lasting=False)
    theirs = home / f"side-{3 - me}"
    torn = 0
    until = time.monotonic() + STEP_SECONDS
    while time.monotonic() < until:
        with suppress(FileNotFoundError):
            lines = theirs.read_text().splitlines()
            if len(lines) != LINES or len(set(lines)) > 1:
                torn += 1
            elif int(lines[0].split()[0]) >= number:
                return file_server_time(home) - float(lines[0].split()[1]), torn
    raise HalfPipeError(f"number {number} in {theirs} was not seen in time")


def race(series: Path, me: int) -> tuple[int, int]:
    """Publish the next number of a series as fast as possible, against the other side.

    Returns
    -------
    tuple
        The numbers that this side published, and those whose file shows that another side did.
    """
    won = set[str]()
    while len(names := [name for name in names_in(series) if name.isdigit()]) < RACES:
        name = f"{len(names) + 1:06d}"
        if publish(series / name, str(me).encode(), lasting=False):
            won.add(name)
    return len(won), sum(((series / name).read_text() == str(me)) != (name in won) for name in names)


def take_over(home: Path, me: int, number: int) -> tuple[bool, float | None]:
    """Side 2 takes a lease and ends as if killed; side 1 is refused before, and takes over afterwards.

    Returns
    -------
    tuple
        Whether the lease was refused while it was held, and the seconds until it could be taken; None: never.
    """
    lease = Lease(home, "leases/probe", LIFETIME)
    if me == 2:
        lease.try_take()
    exchange(home, me, number)
    refused = not lease.try_take()
    exchange(home, me, number + 1)
    since = time.monotonic()
    while me == 1 and time.monotonic() < since + 15 * LIFETIME:
        if lease.try_take():
            lasted = time.monotonic() - since
            lease.release()
            return refused, lasted
        time.sleep(LIFETIME / 30)
    return refused, None


def look(home: Path, me: int) -> list[Finding]:
    """Take all steps as side `me`, 1 or 2, in the directory `home`; return what this side found."""
    only = "process on one host only, and ask s3df how the file system synchronizes hosts"
    try:
        exchanges = [exchange(home, me, number + 1) for number in range(EXCHANGES)]
        won, wrong = race(home / "race", me)
        refused, followed = take_over(home, me, EXCHANGES + 1)
    except HalfPipeError as error:
        return [finding("problem", "probe-unseen", error, only)]
    ahead = time.time() - file_server_time(home)
    late = max(seconds for seconds, _ in exchanges)
    torn = sum(incomplete for _, incomplete in exchanges)
    found = [
        (abs(ahead) <= CLOCK_SECONDS, "clock", f"this host is {ahead:+.3f} s ahead of the file server",
         "have the clocks set (chrony, NTP)"),
        (not torn and late <= SHOWN_SECONDS, "rename",
         f"{torn} of {EXCHANGES} files were seen incomplete; the slowest was seen after {late:.3f} s",
         "mount the file system without caches of names, or raise latency-wait of the profile"),
        (not wrong, "link", f"this host published {won} of {RACES} numbers; {wrong} have another content",
         f"link(2) is not exclusive here: {only}"),
    ]  # fmt: skip
    if me == 1:
        seen = f"held: refused {refused}; taken over {followed} s after its holder's end (lifetime {LIFETIME:g} s)"
        do = f"leases do not hold between these hosts: {only}"
        found.append((refused and followed is not None, "lease", seen, do))
    return [
        finding("good" if well else "problem", code, seen, "" if well else do)
        for well, code, seen, do in found
    ]


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
    words = ["srun", *(f"{option}={given[key]}" for option, key in named.items() if given.get(key))]
    words += [f"--immediate={MEET_SECONDS}", "--time=15", "--mem=2000M", "--job-name=halfpipe-doctor"]
    words += [f"--chdir={ROOT}", sys.executable, "-m", __spec__.name, str(home)]
    here: list[Finding] = []
    said = ""
    try:
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as job:
            try:
                while job.poll() is None and not (home / "side-2").exists():
                    time.sleep(0.1)
                here = look(home, 1) if job.poll() is None else []
                said, _ = job.communicate()
            finally:
                job.terminate()  # srun cancels its job
        other = msgspec.json.decode((home / REPORT).read_bytes(), type=Report)
    except OSError as error:
        busy = "Unable to allocate resources" in said
        do = "rerun the command when nodes are free" if busy else "check that the job's node has paths.work"
        seen = f"{error.filename}: {error.strerror}; {in_a_line(said)}"
        do = f"{do}, then: halfpipe doctor --probe"
        yield finding("unknown" if busy else "problem", "probe-unmet", seen, do)
        return
    finally:
        shutil.rmtree(home, ignore_errors=True)
    host = os.uname().nodename
    verdict = "unknown" if host == other.host else "good"
    yield finding(verdict, "two-hosts", f"the two sides ran on {host} and {other.host}", "needs two hosts")
    yield from (
        msgspec.structs.replace(each, seen=f"on {other.host}: {each.seen}") for each in other.findings
    )
    yield from here


if __name__ == "__main__":
    place = Path(sys.argv[1])
    of_node = of_script(json.loads((place / SITE).read_bytes()), "--no-message")
    write_bytes(place / REPORT, msgspec.json.encode(Report(os.uname().nodename, of_node + look(place, 2))))
