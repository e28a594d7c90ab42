"""A machine that crashes at any moment while a downlink is processed, and a disk that keeps what was flushed."""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from halfpipe import paths
from halfpipe.files import leases
from halfpipe.files.durable import write_text
from halfpipe.ids import DownlinkId
from tests.support import forks
from tests.support.golden_cases import GOLDEN
from tests.support.harness import Crash, assert_same, event_records, everything_flushed, half_written
from tests.support.leases import leases as left
from tests.support.leases import time_passes
from tests.support.series import noted
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
    """A site, its second downlink, and forks that process it again and again.

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
        self.jobs = self.site.listed(f"dl={SECOND}")
        self.settings = {path: path.read_text() for path in self.site.work.glob(paths.settings("*"))}
        self.before = Path(shutil.copytree(self.site.home, self.home / "before"))
        self.shadow = self.home / "shadow"

    def process(self, *, missing: bool = False) -> None:
        """Do what the head does, then the jobs; with `missing` those that are outstanding."""
        leases.lifetime = self.site.settings.lease.seconds
        time_passes(self.site.work)  # since the one before was killed
        with leases.downlink_job(self.site.work, DownlinkId(SECOND)):
            pass  # Snakemake's head takes the lease even if there is nothing to do
        for path, text in self.settings.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        self.site.by_hand(SECOND, missing=missing, jobs=self.jobs)

    def run(self, *, missing: bool = False) -> None:
        """Process the downlink to its end."""
        assert forks.ended(forks.started(partial(self.process, missing=missing), self.site.home)) == 0

    def moments(self) -> list[str]:
        """Process the downlink, and return the moments of that."""
        return forks.moments(self.process, self.site.home)

    def restore(self) -> None:
        """Bring the site back to what it was before."""
        shutil.rmtree(self.site.home)
        shutil.copytree(self.before, self.site.home)
        shutil.rmtree(self.shadow, ignore_errors=True)

    def happen(self, at: int, mode: str) -> None:
        """Process the downlink, and have the machine crash at a moment, or kill the process alone."""
        self.restore()
        if mode in KILLED:
            assert forks.killed(self.process, self.site.home, at)
            return
        held = everything_flushed(self.site, self.shadow)
        assert forks.killed(self.process, self.site.home, at, shadow=self.shadow)
        Crash(self.shadow, mode, random.Random(f"{at} {mode}")).happen(self.site)
        held.close()


def sweep(home: Path, again: bool, every: int, modes: Sequence[str] = MODES) -> int:
    """Crash at every so many moments, each with one kind of disk, and process again; return how often."""
    crashes = Crashes(Site(home / "site"), again, home)
    site = crashes.site
    crashes.restore()
    moments = crashes.moments()
    expected, marked = site.tree(), noted(site.stage)
    crashes.run()
    one_more, marked_more = site.tree(), noted(site.stage)
    assert left(site.work) == []
    count = 0
    for at, moment in list(enumerate(moments, 1))[every - 1 :: every]:
        mode = modes[count % len(modes)]
        what = f"{at} {moment}, the disk keeps {mode}"
        crashes.happen(at, mode)
        assert half_written(site) == [], what
        # Asked for again, a hand-off that had ended is followed by another one.
        ended = again and (site.work / SECOND / "receipts" / "000002.json").exists()
        crashes.run(missing=not again)
        assert_same(site.tree(), one_more if ended else expected, what)
        assert noted(site.stage) == (marked_more if ended else marked), what
        assert leases.found(site.work) == [], what
        count += 1
    return count
