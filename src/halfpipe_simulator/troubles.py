"""Twelve troubles of a shift, on SIMULATED data: `halfpipe drill` and the tests make them.

Each is made and ended in steps that leave nothing in memory, because the operator cures it with other commands.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import asdict, replace

from halfpipe import paths
from halfpipe.files.heartbeat import Holder, whoami
from halfpipe.files.typed import write_stored
from halfpipe.formats import archive_hours
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import DownlinkId
from halfpipe.process.failure_record import Failure
from halfpipe.settings import Settings
from halfpipe.status.site_causes import LastTurn

NEEDED = 10**9  # bytes of the job that finds a full disk
STRAY = "stray.evt"  # a file of another system
HOURS = 3  # that the timer has been dead


@dataclass(frozen=True)
class Ground:
    """A simulated site with two downlinks of one run. The first was processed, and the second one gets into trouble.

    Attributes
    ----------
    settings, first, second
        The settings, and the two downlinks.
    away
        A directory for what is missing.
    snakemake
        Makes targets with Snakemake; it does not raise if this fails.
    """

    settings: Settings
    first: DownlinkId
    second: DownlinkId
    away: Path
    snakemake: Callable[..., object]

    @property
    def work(self) -> Path:
        """`paths.work`."""
        return self.settings.paths.work

    def process(self) -> None:
        """Process the second downlink as far as possible."""
        self.snakemake(f"dl={self.second}")

    def retdefs(self) -> list[Path]:
        """Return the RetDefs of the second downlink that are on the search path, in order."""
        return sorted((self.settings.paths.retdef[0] / self.second).iterdir())

    def level0(self) -> Path:
        """Return the level-0 file that the first chunk of the second downlink needs."""
        retdef = read_retdef(self.retdefs()[0])
        (span,) = retdef.spans
        assert self.settings.paths.level0 is not None
        hour = archive_hours.hour_path(self.settings.paths.level0, retdef.scid, int(span.begin))
        return archive_hours.files(hour, retdef.scid, span.apid)[-1]

    def staged(self) -> Path:
        """Return an event file of the second downlink in the stage."""
        return min((self.settings.paths.stage / self.second).glob("*/*.evt"))

    def take_away(self, path: Path) -> None:
        """Move a file or directory away."""
        (self.away / "place").parent.mkdir(parents=True, exist_ok=True)
        (self.away / "place").write_text(str(path))
        path.rename(self.away / "kept")

    def bring_back(self) -> None:
        """Put back what is away, in place of what is there now."""
        path = Path((self.away / "place").read_text())
        if path.is_dir():
            path.rmdir()
        (self.away / "kept").replace(path)


@dataclass(frozen=True)
class Trouble:
    """A trouble.

    Attributes
    ----------
    name
        Its name.
    make
        Makes it.
    others
        Who does a part of the cure, outside HalfPipe; empty if the operator alone cures it.
    call
        What they do when they are called.
    lesson
        What an operator remembers of it.
    """

    name: str
    make: Callable[[Ground], object]
    lesson: str
    others: str = ""
    call: Callable[[Ground], object] = field(default=Ground.bring_back)


def another_holder(work: Path, name: Callable[[Holder], str], silent: float) -> tuple[Holder, Path]:
    """Make a file of a process on another host whose heartbeat was touched `silent` seconds ago."""
    heart = f"elsewhere-4711-{os.urandom(4).hex()}"
    token = os.urandom(8).hex()
    holder = replace(whoami(), host="elsewhere", pid=4711, heart=heart, lifetime=300.0, token=token)
    path = work / name(holder)
    beat = work / paths.HEARTBEATS / heart
    for each in (path, beat):
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_text(json.dumps(asdict(holder)))
    os.utime(beat, (time.time() - silent,) * 2)
    return holder, path


def failed_job(work: Path, downlink: str, name: str, why: Failure | None, said: str = "begun\n") -> Path:
    """Write the log of a job, and a record of its failure if there is one; return the log."""
    log = work / paths.job_logs(downlink) / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(said)
    if why is not None:
        why.write(log)
    return log


def _retdef_missing(ground: Ground) -> None:
    ground.take_away(ground.retdefs()[0])
    ground.process()


def _hour_cut(ground: Ground) -> None:
    file = ground.level0()
    whole = file.read_bytes()
    ground.take_away(file)
    file.write_bytes(whole[: len(whole) // 2])
    ground.process()


def _decoder_fails(ground: Ground) -> None:
    file = ground.level0()
    ground.take_away(file)
    file.symlink_to(file.name)  # as a file on a broken server
    ground.process()


def _staged_file_lost(ground: Ground) -> None:
    ground.process()
    ground.staged().unlink()


def _disk_full(ground: Ground) -> None:
    run = read_retdef(ground.retdefs()[0]).run
    failure = Failure.full(ground.settings.paths.stage / "x", needed=NEEDED)
    failed_job(ground.work, ground.second, f"deliver_run-{run}", failure)


def _head_killed(ground: Ground) -> None:
    place = paths.downlink_lease(ground.second)
    another_holder(ground.work, lambda _: f"{place}/000001", silent=1e6)


def _index_lost(ground: Ground) -> None:
    run = read_retdef(ground.retdefs()[0]).run
    ground.process()
    (ground.work / paths.datagrams(run, ground.second)).unlink()


def _ledger_down(ground: Ground) -> None:
    ground.snakemake(f"{ground.first}/ledger.json")
    ledger = ground.work / paths.LEDGER
    ground.take_away(ledger)
    ledger.write_bytes(b"no database")
    ground.snakemake(f"{ground.second}/ledger.json")


def _foreign_file(ground: Ground) -> None:
    ground.process()
    ground.staged().with_name(STRAY).touch()


def remove_stray(ground: Ground) -> None:
    """Remove the file of another system, and directories that had nothing else."""
    (stray,) = (ground.settings.paths.stage / ground.second).glob(f"*/{STRAY}")
    stray.unlink()
    with suppress(OSError):
        stray.parent.rmdir()
        stray.parent.parent.rmdir()


def _pointer_damaged(ground: Ground) -> None:
    ground.process()
    (ground.work / paths.receipt(ground.second)).write_text("damaged")


def _timer(ground: Ground, ended: float) -> None:
    place = ground.work / paths.LAST_TURN
    place.parent.mkdir(parents=True, exist_ok=True)
    write_stored(place, LastTurn(ended, 0, whoami().host))


def _timer_dead(ground: Ground) -> None:
    _timer(ground, time.time() - HOURS * 3600)


def _stage_unmounted(ground: Ground) -> None:
    stage = ground.settings.paths.stage
    ground.take_away(stage)
    stage.mkdir()
    ground.process()


TROUBLES = (
    Trouble("retdef-missing", _retdef_missing, "A missing RetDef comes, or the chunk is left out.", "the ISOC"),
    Trouble("hour-cut", _hour_cut, "A chunk is decoded again when its level-0 is whole.", "the archive"),
    Trouble("decoder-fails", _decoder_fails, "The log shows why: here it is not the decoder.", "the archive"),
    Trouble("staged-file-lost", _staged_file_lost, "What the stage lost is staged again, from decoded chunks."),
    Trouble("disk-full", _disk_full, "Nothing is lost by a full disk: make room, and rerun.", "S3DF support",
            lambda _: None),
    Trouble("head-killed", _head_killed, "A new command goes on where a dead one ended."),
    Trouble("index-lost", _index_lost, "A merged index is made again from the decoded chunks."),
    Trouble("ledger-down", _ledger_down, "Event files do not need the ledger; a submission does.", "the database"),
    Trouble("foreign-file", _foreign_file, "HalfPipe removes no file that it did not write.", "the other system",
            remove_stray),
    Trouble("pointer-damaged", _pointer_damaged, "The records have everything; a pointer is written again."),
    Trouble("timer-dead", _timer_dead, "Without the timer nothing is processed unless a person does it.",
            "the administrator", lambda ground: _timer(ground, time.time())),
    Trouble("stage-unmounted", _stage_unmounted, "An empty mount point is not an empty stage.", "S3DF support"),
)  # fmt: skip


BY_NAME = {each.name: each for each in TROUBLES}
