"""A downlink whose process dies, fails or is suspended at any moment, or whose machine crashes."""

import errno
import json
import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, setrlimit

from halfpipe import paths
from halfpipe.files import leases
from halfpipe.files.durable import write_text
from halfpipe.ids import DownlinkId
from halfpipe.status.causes.records import receipt_causes
from halfpipe.status.receipt_check import Check
from halfpipe.status.survey import Survey, read_facts
from tests.support import forks
from tests.support.forks import NEW, Refusal, Shadow
from tests.support.golden_cases import build
from tests.support.harness import differing, path_of
from tests.support.leases import held_by_another, time_passes
from tests.support.leases import leases as left
from tests.support.series import noted
from tests.support.workflow import Site

FIRST = "240601001"
SECOND = "240601002"
RUN = "2c2e5787"
CRASHES = ("nothing", "chance", "names")  # what the disk of a crashed machine keeps
DEATHS = ("kill", "term")  # only the process dies (SIGKILL), or is terminated (SIGTERM)
# The process is suspended until another one has processed the downlink, and Level-1 has taken nothing, or all files.
STILL = ("overtaken", "taken")
# Disk failures: writes stop short, the disk of the working directory or stage is full, or it becomes read-only.
DISKS = ("short", "full-work", "full-stage", "read-only-stage")
SIZES = (0, 40, 300, 3000)  # bytes after which a write stops short


@dataclass
class Crashes:
    """A site, its second downlink, and forks that process it again and again.

    `again`: the second downlink was processed before; `others`: the first one was; `head`: Snakemake runs the jobs.
    """

    site: Site
    again: bool
    home: Path
    others: bool = True
    head: bool = False
    ended: bool = False  # whether a requested second hand-off had ended before the failure

    def __post_init__(self) -> None:
        self.site.stage.mkdir()
        build("split2", self.site)
        if self.others:
            self.site.by_hand(FIRST)
        if self.again:
            self.site.by_hand(SECOND)
        self.jobs = self.site.listed(f"dl={SECOND}")
        self.settings = {path: path.read_text() for path in self.site.work.glob(paths.settings("*"))}
        self.before = Path(shutil.copytree(self.site.home, self.home / "before"))
        self.shadow = self.home / "shadow"

    def process(self, *, missing: bool = False) -> int:
        """Do what the head does, then the jobs; `missing`: only those with missing outputs."""
        time_passes(self.site.work)  # since the previous process was killed
        if self.head:
            return self.site.snakemake(f"dl={SECOND}", *([] if missing else ["-F"])).status
        with leases.downlink_job(self.site.settings, DownlinkId(SECOND)):
            pass  # Snakemake's head takes the lease even if there is nothing to do
        with held_by_another(self.site.work, paths.downlink_lease(SECOND)) as head:
            os.environ[leases.HEAD_VARIABLE] = head.heart
            for path, text in self.settings.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists() or path.read_text() != text:
                    write_text(path, text)
            self.site.by_hand(SECOND, jobs=self.jobs, missing=missing)
        return 0

    def run(self, *, missing: bool = False) -> None:
        """Process the downlink to its end."""
        assert forks.ended(forks.started(partial(self.process, missing=missing), self.site.home)) == 0

    def moments(self) -> list[str]:
        return forks.moments(self.process, self.site.home)

    def restore(self) -> None:
        """Restore the site from its copy."""
        shutil.rmtree(self.site.home)
        shutil.copytree(self.before, self.site.home)
        shutil.rmtree(self.shadow, ignore_errors=True)

    def happen(self, at: int, mode: str) -> None:
        """Restore the site, then process the downlink with harm at one moment."""
        self.restore()
        home = str(self.site.home)
        process = self.process
        harms: dict[str, Callable[[str], object]] = {
            "term": lambda _: os.kill(os.getpid(), signal.SIGTERM),
            "short": lambda _: setrlimit(RLIMIT_FSIZE, (SIZES[at % len(SIZES)], RLIM_INFINITY)),
            "full-work": lambda _: Refusal(errno.ENOSPC, f"{home}/work", NEW),
            "full-stage": lambda _: Refusal(errno.ENOSPC, f"{home}/stage", NEW),
            "read-only-stage": lambda _: Refusal(errno.EROFS, f"{home}/stage"),
        }
        if mode in STILL:
            self.overtake(at, partial(self._done_by_another, mode))
            return
        if mode in harms:
            forks.ended(forks.started(process, home, at, do=harms[mode]))
        elif mode == "kill":
            assert forks.killed(process, self.site.home, at)
        else:
            held = everything_flushed(self.site, self.shadow)
            assert forks.killed(process, self.site.home, at, shadow=self.shadow)
            Crash(self.shadow, mode, random.Random(f"{at} {mode}")).happen(self.site)
            held.close()
        self.ended = self._has_ended()

    def overtake(self, at: int, meanwhile: Callable[[], object]) -> None:
        """Suspend the process at a moment, call `meanwhile`, then let the process continue, too late."""
        late = forks.started(
            self.process, self.site.home, at, do=lambda _: os.kill(os.getpid(), signal.SIGSTOP)
        )
        assert forks.stopped(late)
        self.ended = self._has_ended()
        meanwhile()
        os.kill(late, signal.SIGCONT)
        forks.ended(late)

    def _has_ended(self) -> bool:
        """Tell whether a requested second hand-off has ended."""
        return self.again and (self.site.work / SECOND / "receipts" / "000002.json").exists()

    def _done_by_another(self, mode: str) -> None:
        self.run(missing=not self.again)
        if mode == "taken":
            self.site.take(SECOND)


def everything_flushed(site: Site, shadow: Path) -> Shadow:
    """Return a shadow with everything that exists now; close it after the crash."""
    kept = Shadow(str(shadow))
    for path in _everything(site):
        handle = os.open(path, os.O_RDONLY)
        kept.flush(handle)
        os.close(handle)
    return kept


@dataclass
class Crash:
    """Reduces a tree to what the disk of a crashed machine holds.

    The disk keeps what was flushed. `mode` is what it keeps besides: "nothing", "names" without contents, or by
    "chance" the names in some directories and the contents of some files, because journals and caches vary.
    """

    shadow: Path
    mode: str
    coin: random.Random

    def happen(self, site: Site) -> None:
        """Replace the directories of `site`."""
        places = {path.stat().st_ino: path for path in _everything(site)}
        for top in (site.work, site.stage):
            new = top.with_name(f"{top.name}-after-the-crash")
            self._directory(top.stat().st_ino, places, new)
            shutil.rmtree(top)
            new.rename(top)

    def _keeps(self, what: str) -> bool:
        return self.mode == what or (self.mode == "chance" and self.coin.random() < 0.5)

    def _directory(self, inode: int, places: Mapping[int, Path], new: Path) -> None:
        new.mkdir()
        kept = self.shadow / f"{inode}.names"
        names: dict[str, tuple[int, bool]] = json.loads(kept.read_bytes()) if kept.exists() else {}
        if inode in places and self._keeps("names"):
            with os.scandir(places[inode]) as entries:
                names = {entry.name: (entry.inode(), entry.is_dir()) for entry in entries}
        for name, (of, is_directory) in sorted(names.items()):
            if is_directory:
                self._directory(of, places, new / name)
            else:
                self._file(of, places, new / name)

    def _file(self, inode: int, places: Mapping[int, Path], new: Path) -> None:
        kept = self.shadow / str(inode)
        now = places.get(inode)
        if now is not None and self._keeps("contents"):
            shutil.copy2(now, new)
        elif kept.exists():
            shutil.copy2(kept, new)
        else:
            new.touch()


def _everything(site: Site) -> Iterator[Path]:
    return (path for top in (site.work, site.stage) for path in (top, *top.rglob("*")))


def taken_of(tree: Mapping[str, bytes]) -> set[str]:
    """Return the files of a tree that are gone once Level-1 has taken the second downlink."""
    home = f"stage/{SECOND}/"
    staged = {name for name in tree if name.startswith(home)}
    return staged | {name.replace(home, "stage/chunktokens/").removesuffix(".evt") for name in staged}


def sweep(home: Path, again: bool, every: int, modes: Sequence[str], *, head: bool = False) -> int:
    """At every `every`-th moment, do harm in one of `modes`, then process again; return how often."""
    crashes = Crashes(Site(home / "site"), again, home, head=head)
    site = crashes.site
    crashes.restore()
    before = site.tree()
    moments = crashes.moments()
    expected = site.tree()
    marked = noted(site.stage)
    crashes.run()
    one_more = site.tree()
    marked_more = noted(site.stage)
    assert left(site.work) == []
    begun = next(at for at, moment in enumerate(moments, 1) if "/work/leases/" not in moment)
    count = 0
    for at, moment in list(enumerate(moments, 1))[every - 1 :: every]:
        mode = modes[count % len(modes)]
        what = f"{at} {moment}, {mode}"
        if mode in STILL and at < begun:
            continue  # a process without a lease may begin after the other one has ended
        crashes.happen(at, mode)
        # Every file under a final name is complete.
        unexpected = [
            name
            for name, content in site.tree().items()
            if not re.search("/[.]|/haltCleanup-", name)  # these are temporary
            and content not in [tree.get(name) for tree in (before, expected, one_more)]
        ]
        assert unexpected == [], f"{what}: {unexpected}"
        # If a requested hand-off had ended, requesting it again makes another one.
        crashes.run(missing=not again or mode in STILL)
        tree = one_more if crashes.ended else expected
        gone = taken_of(tree) if mode == "taken" else set()
        wrong = differing(site.tree(), {name: tree[name] for name in tree.keys() - gone})
        if wrong and mode in STILL:
            # Leftovers of an unfinished change are reported, or are hidden files for cleanup. There are none in the
            # directory where Level-1 takes files.
            pointers = receipt_causes(read_facts(Survey(site.settings), DownlinkId(SECOND)))
            causes = [*Check(site.settings, DownlinkId(SECOND)).causes(), *pointers]
            told = {str(path_of(cause).relative_to(site.home)) for cause in causes}
            here = f"stage/{SECOND}/"
            wrong = [n for n in wrong if "/." not in n and (n not in told or n.startswith(here))]
        assert wrong == [], what
        assert noted(site.stage) == (marked_more if crashes.ended else marked), what
        assert leases.all_leases(site.work) == [], what
        count += 1
    return count
