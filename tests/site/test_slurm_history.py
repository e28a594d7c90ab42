"""200 downlinks on a Slurm with killed commands and jobs, a drained node and a full stage.

This takes some minutes: ``pytest -m "slurm and long" tests/site/test_slurm_history.py``.
"""

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from halfpipe.causes import Verdict
from halfpipe.ids import DownlinkId
from halfpipe.status.receipt_check import check
from halfpipe_simulator.scenario import Scenario
from tests.site.test_slurm import SlurmSite, process
from tests.support.harness import event_records
from tests.support.private_slurm import PrivateSlurm
from tests.support.servers import wait_for
from tests.support.workflow import Running

pytestmark = [pytest.mark.slurm, pytest.mark.long]

EVERY = [f"2304{day:02d}{number:03d}" for day in range(1, 21) for number in range(1, 11)]
BAD = EVERY[17], EVERY[90], EVERY[155]


@pytest.fixture
def full_later(tmp_path: Path) -> Iterator[Path]:
    """A small file system for the stage, which can be filled."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_200_downlinks(tmp_path: Path, daemons: PrivateSlurm, full_later: Path) -> None:
    scenario = Scenario(seed=5, downlinks=EVERY)
    for first in range(0, len(EVERY) - 1):
        scenario.lci_run(events=20, parts=2, first=first, per_datagram=5)
    site = SlurmSite(tmp_path / "site", env=daemons.env)
    site.simulate(scenario)
    site.stage = full_later / "stage"
    site.configure(paths={"stage": str(site.stage)}, history={"batch": 100})
    site.work.mkdir()
    site.change_profile(lambda policy: policy["set-resources"]["batch"].update(mem_mb="4000 * attempt"))  # type: ignore[index]
    for dl in BAD:
        (site.retdefs / dl / f"RetDef-{dl}-00001.xml").write_text("not a RetDef")

    chance, begun = random.Random(7), time.monotonic()

    def done() -> int:
        return len(list(site.work.glob("dl=*")))

    def going(count: int) -> Running:
        running = Running(process(site), tmp_path, daemons.env)
        before = done()
        running.wait_for(f"{count} more", lambda: done() >= before + count, 900)
        return running

    def end(running: Running, number: signal.Signals) -> None:
        running.process.send_signal(number)
        running.process.wait(300)

    commands = 0
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGTERM):
        running = going(8)
        jobs = [job["id"] for job in site.jobs() if job["state"] == "RUNNING"]
        if jobs:
            daemons.run("scancel", "--signal=KILL", chance.choice(jobs), check=False)
        end(running, number)
        commands += 1
    daemons.drain()
    running = Running(process(site), tmp_path, daemons.env)
    time.sleep(20)
    daemons.resume()
    before = done()
    running.wait_for("more", lambda: done() >= before + 5, 900)
    filler = full_later / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as out:
        while True:
            out.write(b"x" * 65536)
    time.sleep(60)
    filler.unlink()
    ended = running.ended() if running.process.poll() is not None else None
    if ended is None:
        running.process.wait(1800)
    commands += 1
    left = sorted({*EVERY} - {path.name.removeprefix("dl=") for path in site.work.glob("dl=*")})
    while left != sorted(BAD) and commands < 9:
        Running(process(site), tmp_path, daemons.env).process.wait(1800)
        commands += 1
        left = sorted({*EVERY} - {path.name.removeprefix("dl=") for path in site.work.glob("dl=*")})
    seconds, jobs_made = time.monotonic() - begun, len(site.jobs())
    print(f"{commands} commands, {jobs_made} Slurm jobs, {seconds:.0f} s")
    assert left == sorted(BAD)
    with suppress(AssertionError):
        wait_for("an empty queue", lambda: not daemons.run("squeue", "-h"), 300)
    assert daemons.run("squeue", "-h", "-o", "%i %j %T %M %r %k") == ""
    records = event_records(site.stage.glob("2304*/r*/*.evt"))
    assert len(records) == len(set(records)), "each event once"
    for dl in {*EVERY} - {*BAD}:
        wrong = [
            cause.code for cause in check(site.settings, DownlinkId(dl)) if cause.verdict is Verdict.ACTION
        ]
        assert wrong == [], dl
