"""A machine that crashes at any moment while a downlink is processed, and a disk that keeps what was flushed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from halfpipe.files.leases import found
from tests.support.golden_cases import GOLDEN
from tests.support.harness import Crash, assert_same, event_records, everything_flushed, half_written
from tests.support.in_process import ROOT
from tests.support.leases import leases
from tests.support.workflow import Site

FIRST, SECOND = "240601001", "240601002"
RUN = "2c2e5787"
CASE = GOLDEN / "split2"
MODES = ("nothing", "chance", "names")  # what the disk of a crashed machine keeps
KILLED = ("kill",)  # the process alone dies


def prepare(site: Site) -> None:
    """Set up a site with two downlinks of one run."""
    site.replay(CASE / "in", FIRST, SECOND)
    site.configure(merge={"min_events": 1})
    site.stage.mkdir()


def records(site: Site) -> list[bytes]:
    """Return the event records in the stage, sorted."""
    return event_records({path: path.read_bytes() for path in site.stage.glob("*/r*/*.evt")})


@dataclass
class Crashes:
    """A site, its second downlink, and a process that processes it again and again.

    `again`: it was processed before; `others`: the first downlink was.
    """

    site: Site
    again: bool
    home: Path
    others: bool = True

    def __post_init__(self) -> None:
        prepare(self.site)
        if self.others:
            self.site.by_hand(FIRST)
        if self.again:
            self.site.by_hand(SECOND)
        self.before = Path(shutil.copytree(self.site.home, self.home / "before"))
        self.once, self.shadow = self.home / "once", self.home / "shadow"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.repeater", str(self.site.home), SECOND],
            cwd=ROOT,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, at: int, *, shadow: bool = True, missing: bool = False) -> int:
        """Process the downlink, killed at a moment; return how it ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.once.unlink(missing_ok=True)
        where = str(self.shadow) if shadow else None
        order = {"at": at, "once": str(self.once), "shadow": where, "missing": missing}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def restore(self) -> None:
        """Bring the site back to what it was before."""
        shutil.rmtree(self.site.home)
        shutil.copytree(self.before, self.site.home)
        shutil.rmtree(self.shadow, ignore_errors=True)

    def happen(self, at: int, mode: str) -> None:
        """Process the downlink, and have the machine crash at a moment, or kill the process alone."""
        self.restore()
        if mode in KILLED:
            assert self.run(at, shadow=False) == -signal.SIGKILL
            return
        held = everything_flushed(self.site, self.shadow)
        assert self.run(at) == -signal.SIGKILL
        Crash(self.shadow, mode, random.Random(f"{at} {mode}")).happen(self.site)
        held.close()


def sweep(home: Path, again: bool, every: int, modes: Sequence[str] = MODES) -> int:
    """Crash at every so many moments, each with one kind of disk, and process again; return how often."""
    crashes = Crashes(Site(home / "site"), again, home)
    site = crashes.site
    crashes.restore()
    assert crashes.run(0, shadow=False) == 0
    moments = crashes.once.read_text().splitlines()
    expected = site.tree()
    assert crashes.run(-1, shadow=False) == 0
    one_more = site.tree()
    assert leases(site.work) == []
    count = 0
    for at, moment in list(enumerate(moments, 1))[every - 1 :: every]:
        mode = modes[count % len(modes)]
        what = f"{at} {moment}, the disk keeps {mode}"
        crashes.happen(at, mode)
        assert half_written(site) == [], what
        # Asked for again, a hand-off that had ended is followed by another one.
        ended = again and (site.work / SECOND / "receipts" / "000002.json").exists()
        assert crashes.run(-1, shadow=False, missing=not again) == 0, what
        assert_same(site.tree(), one_more if ended else expected, what)
        assert found(site.work) == [], what
        count += 1
    crashes.process.communicate()
    return count
