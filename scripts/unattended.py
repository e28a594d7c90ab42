#!/usr/bin/env python3
"""Process every outstanding downlink, one after the other, for cron or a systemd timer.

Each downlink is an invocation of Snakemake of its own with a time limit and a log of its own, so that
one that fails or hangs does not stop the next. On failure a summary is printed that fits into a mail:
the job, its log and the command that repeats it. Nothing is printed if all went well.

Exit status: 0 all went well or nothing was outstanding, 1 a downlink failed, 2 the configuration cannot
be used, 3 a downlink ran out of time, 4 another unattended invocation is running.
"""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from halfpipe import cli, locks, paths
from halfpipe.config import Settings
from halfpipe.errors import ConfigError
from halfpipe.ids import DownlinkId
from halfpipe.plan import Plan

GOOD, FAILED, BAD_CONFIG, OUT_OF_TIME, RUNNING = 0, 1, 2, 3, 4
GRACE_SECONDS = 60  # after SIGTERM, in which Snakemake cancels its jobs
LINES_OF_A_LOG = 6

ERROR = re.compile(r"^Error in rule (\w+):\n((?:    .*\n)*)", re.MULTILINE)
FIELD = re.compile(r"^    (output|log|shell): ?(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class FailedJob:
    """One failed job as the invocation's log tells it."""

    rule: str
    output: str
    log: str
    command: str


def failed_jobs(said: str) -> Iterator[FailedJob]:
    """Find the failed jobs in what Snakemake printed."""
    for rule, block in ERROR.findall(said):
        fields = dict(FIELD.findall(block))
        command = re.search(r"^    shell:\n        (.*)$", block, re.MULTILINE)
        log = fields.get("log", "").split(" (check log")[0]
        yield FailedJob(rule, fields.get("output", ""), log, command[1] if command else "")


def invocation(downlink: DownlinkId, arguments: argparse.Namespace) -> list[str]:
    """Return the command that processes `downlink`."""
    words = [str(Path(sys.executable).with_name("snakemake")), f"dl={downlink}"]
    words += ["--profile", arguments.profile] if arguments.profile else ["--cores", str(arguments.cores)]
    if arguments.configfile:
        words += ["--configfile", *map(str, arguments.configfile)]
    return words


def process(words: Sequence[str], log: Path, seconds: float) -> int:
    """Run one invocation into `log`; at the time limit it and all that it started are ended.

    Returns
    -------
    int
        `GOOD`, `FAILED` or `OUT_OF_TIME`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        out.write(shlex.join(words) + "\n")
        out.flush()
        running = subprocess.Popen(
            words, cwd=cli.ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        try:
            return FAILED if running.wait(seconds) else GOOD
        except subprocess.TimeoutExpired:
            with suppress(subprocess.TimeoutExpired):
                os.killpg(running.pid, signal.SIGTERM)
                running.wait(GRACE_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            return OUT_OF_TIME


def summary(downlink: DownlinkId, status: int, words: Sequence[str], log: Path, work: Path) -> str:
    """Say in some lines what happened to a downlink, which job it was, and how to repeat it."""
    what = "ran out of time and was ended" if status == OUT_OF_TIME else "failed"
    lines = [f"downlink {downlink} {what}; all that was printed: {log}"]
    said = log.read_text(errors="replace")
    for job in failed_jobs(said):
        lines += [f"  job {job.rule} of {job.output}", f"    log: {work / job.log}"]
        with suppress(OSError):
            lines += [
                f"    | {line[:200]}"
                for line in (work / job.log).read_text(errors="replace").splitlines()[-LINES_OF_A_LOG:]
            ]
        lines.append(f"    to repeat it by hand, in {work}: {job.command}")
    if len(lines) == 1:
        lines += [f"    | {line[:200]}" for line in said.splitlines()[-LINES_OF_A_LOG:]]
    return "\n".join([*lines, f"  to process the downlink again: {shlex.join(words)}"])


def remove_old_logs(home: Path, days: float) -> None:
    """Remove the logs of invocations that are older than `days`."""
    for path in home.glob("*.log"):
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - days * 86400:
                path.unlink()


def outstanding(settings: Settings, wanted: Sequence[DownlinkId]) -> list[DownlinkId]:
    """Return the downlinks to process: those wanted, or else all that are outstanding and in nobody's hands."""
    if wanted:
        return list(wanted)
    plan = Plan(settings.work, settings.retdef, settings.ignored)
    found = plan.outstanding(
        now=time.time(), settle_seconds=settings.settle_seconds, most=settings.outstanding_max
    )
    return [dl for dl in found.ready if locks.in_work(settings.work, dl) is None]


def job(arguments: argparse.Namespace) -> int:
    """Process all of them."""
    try:
        settings = cli.settings(arguments)
        wanted = outstanding(settings, arguments.downlinks)
    except ConfigError as error:
        print(error)
        return BAD_CONFIG
    mine = locks.FileLock(settings.work / paths.unattended_lock())
    if not mine.try_take():
        print(f"another unattended invocation is running: {mine.held_by()}")
        return RUNNING
    home = settings.work / paths.unattended_logs()
    ended = []
    try:
        remove_old_logs(home, arguments.keep_days)
        for downlink in wanted:
            words = invocation(downlink, arguments)
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            log = home / f"{stamp}-{downlink}.log"
            ended.append(process(words, log, arguments.timeout_minutes * 60))
            if ended[-1] != GOOD:
                print(summary(downlink, ended[-1], words, log, settings.work), flush=True)
    finally:
        mine.give_back()
    return max(ended, default=GOOD)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cli.add_configfile(parser)
    parser.add_argument("--profile", help="as given to snakemake, e.g. s3df")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="without a profile")
    parser.add_argument("--timeout-minutes", type=float, default=240, help="for one downlink (default 240)")
    parser.add_argument(
        "--keep-days", type=float, default=30, help="how long logs of invocations stay (default 30)"
    )
    parser.add_argument("downlinks", nargs="*", type=cli.downlink, help="none: all outstanding ones")
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
