"""The test of two hosts: `halfpipe doctor --probe`.

A job in Slurm is the second host. It runs the doctor on its node. Then both hosts publish numbers in one directory, as
two processes publish the next record of a series: each number must go to exactly one of them.

``python -m halfpipe.site.two_hosts DIRECTORY`` is the job.
"""

import json
import os
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.config import Profile
from halfpipe.errors import HalfPipeError
from halfpipe.files.durable import publish, write_bytes
from halfpipe.files.reading import names_in
from halfpipe.settings import ROOT, Settings
from halfpipe.site.doctor import Finding, finding, of_script
from halfpipe.site.invocation import running, ticks

RACES = 1000  # numbers that both sides try to publish
LOOK_SECONDS = 0.1  # between two looks whether the job has begun
MEET_SECONDS = 0.001  # between two looks whether the other side begins, too
WAIT_SECONDS = 90.0  # that a side waits for the other one to begin
SITE, REPORT, LOG = "site.json", "report.json", "job.log"
HERE, JOB = 1, 2  # the two sides


def race(home: Path, me: int) -> list[int]:
    """Publish numbers as fast as possible against the other side.

    Parameters
    ----------
    home
        The directory of the test.
    me
        This side.

    Returns
    -------
    list
        The numbers that this side has published.

    Raises
    ------
    HalfPipeError
        If the other side does not begin in time.
    """
    series, wins, until = home / "race", list[int](), time.monotonic() + WAIT_SECONDS
    publish(_mark(home, me), b"", lasting=False)
    while not _mark(home, HERE + JOB - me).exists():
        if time.monotonic() > until:
            raise HalfPipeError(f"the other side was not seen in {home}")
        time.sleep(MEET_SECONDS)
    while (last := max(map(int, filter(str.isdigit, names_in(series))), default=0)) < RACES:
        if publish(series / f"{last + 1:06d}", str(me).encode(), lasting=False):
            wins.append(last + 1)
    return wins


def _mark(home: Path, side: int) -> Path:
    """Return the file that a side makes when it begins."""
    return home / f"side-{side}"


def judge(home: Path, host: str, wins: list[int], other: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield the findings.

    Parameters
    ----------
    home
        The directory of the test.
    host, wins
        The name of this host, and the numbers that it has published.
    other
        The report of the job.
    """
    for one in other["node"]:
        yield {**one, "seen": f"on {other['host']}: {one['seen']}"}
    if host == other["host"]:
        yield finding("unknown", "two-hosts", f"both sides ran on {host}", "run it on another host")
    else:
        yield finding("good", "two-hosts", f"{host} and {other['host']} met in the working directory")
    series = home / "race"
    owners = {int(name): int((series / name).read_bytes()) for name in filter(str.isdigit, names_in(series))}
    seen = f"{host} published {len(wins)} of {RACES} numbers, {other['host']} {len(other['wins'])}"
    if (
        len(wins) + len(other["wins"]) == RACES
        and dict.fromkeys(wins, HERE) | dict.fromkeys(other["wins"], JOB) == owners
    ):
        yield finding("good", "link", seen)
    else:
        do = "link(2) is not exclusive here: process on one host only, and tell HalfPipe's developers"
        yield finding("problem", "link", f"{seen}, and some went to both, to none, or to the wrong host", do)


def probe(settings: Settings, profile: Profile, site: Mapping[str, Any]) -> Iterator[Finding]:
    """Submit a job as the second side, run the first side, and yield the findings, also of the doctor on that host.

    Slurm removes the job if it does not begin in ten minutes.

    Parameters
    ----------
    settings, profile
        The site; the job gets partition, account and QOS from the profile's `default-resources`.
    site
        The input of the doctor's script, from `site_of`.
    """
    home = settings.paths.work / paths.probe(os.urandom(4).hex())
    given = profile.content.get("default-resources") or {}
    named = {"--partition": "slurm_partition", "--account": "slurm_account", "--qos": "qos"}
    words = ["sbatch", "--wait", "--time=5", "--deadline=now+15minutes", "--mem=2000M", "--no-requeue"]
    words += [f"{option}={given[key]}" for option, key in named.items() if given.get(key)]
    words += [f"--chdir={ROOT}", f"--output={home / LOG}", "--open-mode=append", "--job-name=halfpipe-doctor"]
    words += [f"--wrap=exec {shlex.join([sys.executable, '-m', __spec__.name, str(home)])}"]
    wins: list[int] = []
    home.mkdir()
    try:
        write_bytes(home / SITE, json.dumps(site).encode())
        with running(words, home / LOG) as job:
            for _ in ticks(job, LOOK_SECONDS):
                if not wins and _mark(home, JOB).exists():
                    wins = race(home, HERE)
        yield from judge(home, socket.gethostname(), wins, json.loads((home / REPORT).read_bytes()))
    except (HalfPipeError, OSError) as error:
        printed = (home / LOG).read_text(errors="replace")[-500:] if (home / LOG).exists() else ""
        do = "check that the job's node has paths.work and is free, then: halfpipe doctor --probe"
        yield finding("problem", "probe-unmet", f"{error}; the job printed: {printed.strip()}", do)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def main(home: Path) -> None:
    """Run the side of the job, and write its report."""
    if not home.is_dir():
        sys.exit(f"{home}: not seen on {socket.gethostname()}")
    node = of_script(json.loads((home / SITE).read_bytes()), "--no-message")
    report = {"host": socket.gethostname(), "node": node, "wins": race(home, JOB)}
    write_bytes(home / REPORT, json.dumps(report).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
