#!/usr/bin/env python3
"""Process every outstanding downlink, one after the other, for cron or a systemd timer.

Each downlink is an invocation of Snakemake of its own with a time limit and a log of its own, so that
one that fails or hangs does not stop the next; those that were tried before come last. On failure a
summary is printed that fits into a mail: the job, its log and the command that repeats it. Nothing is
printed if all went well. A downlink that somebody else has in work is left alone, and so is one that a halt
switch holds: logs/unattended/held.log under paths.work has those.

Exit status: 0 all went well or nothing was outstanding, 1 a downlink failed or waits too long for a
RetDef, 2 the command line or the configuration cannot be used, 3 a downlink ran out of time (others may
have failed), 4 another unattended invocation is running, 143 or 130 ended by SIGTERM or SIGINT.
"""

import argparse
import ctypes
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from halfpipe import cli, halts, locks, paths
from halfpipe.config import Settings
from halfpipe.errors import ConfigError
from halfpipe.files import remove_file, write_text
from halfpipe.ids import DownlinkId
from halfpipe.plan import Outstanding, Plan

GOOD, FAILED, BAD_CONFIG, OUT_OF_TIME, RUNNING = 0, 1, 2, 3, 4
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
GRACE_SECONDS = 60.0  # in which Snakemake cancels its Slurm jobs, and local jobs end their decoders
ORPHAN_SECONDS = 5.0  # the same for what Snakemake leaves behind when it has ended
POLL_SECONDS = 0.1
LINES_OF_A_LOG, LETTERS_OF_A_LINE = 8, 300
MOST_JOBS = 5  # of one downlink in a summary
LINE_LIMIT = TAIL_BYTES = 1 << 16  # logs may hold whatever a decoder prints
BEGIN = re.compile(r"(?:Error in rule|rule|localrule) (\w+):$")
FINISHED = re.compile(r"Finished jobid: (\d+) ")


@dataclass(frozen=True)
class Job:
    """One job as Snakemake tells it: `logs` are ours first, then Slurm's."""

    rule: str
    output: str
    logs: tuple[Path, ...]
    command: str


def unfinished_jobs(said: Iterable[str], work: Path) -> list[Job]:
    """Find the jobs that failed, or were begun and not finished, in the lines that Snakemake printed."""
    found: dict[str, Job] = {}
    rule, field, fields = "", "", dict[str, str]()
    for line in chain(said, [""]):
        if rule and line.startswith("        "):
            fields.setdefault(field, line.strip())
        elif rule and line.startswith("    "):
            field, _, value = line.strip().partition(":")
            if value:
                fields[field] = value.strip()
        else:
            if rule:
                logs = fields.get("log", "").split(" (check log")[0].split(", ")
                here = tuple(work / log for log in logs if log)
                command = fields.get("shell") or (repeats(here[0]) if here else "")
                found[fields.get("jobid", "")] = Job(rule, fields.get("output", ""), here, command)
            match = BEGIN.match(line)
            rule, fields = match[1] if match else "", {}
            if match := FINISHED.match(line):
                found.pop(match[1], None)
    return list(found.values())


def repeats(log: Path) -> str:
    """Return the command that a job's log begins with, empty if it was never begun."""
    with suppress(OSError), log.open(errors="replace") as file:
        return file.readline(LINE_LIMIT).partition(" INFO ")[2].strip()
    return ""


def told_by(log: Path) -> list[str]:
    """Return the lines of a log that say best what went wrong: from its last error on, else its last ones."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as error:
        return [f"(no log: {error.strerror})"]
    errors = [number for number, line in enumerate(lines) if "error: " in line]
    told = lines[errors[-1] :][:LINES_OF_A_LOG] if errors else lines[-LINES_OF_A_LOG:]
    return ["".join(c if c.isprintable() else "?" for c in line[:LETTERS_OF_A_LINE]) for line in told]


def summary(downlink: DownlinkId, status: int, words: Sequence[str], log: Path, work: Path) -> str:
    """Say in some lines what happened to a downlink, which jobs it was, and how to repeat them."""
    what = "ran out of time and was ended" if status == OUT_OF_TIME else "failed"
    lines = [f"downlink {downlink} {what}; all that was printed: {log}"]
    with log.open(errors="replace") as file:
        jobs = unfinished_jobs(iter(lambda: file.readline(LINE_LIMIT), ""), work)
    for job in jobs[:MOST_JOBS]:
        lines.append(f"  job {job.rule} of {job.output}")
        lines += [f"    log: {path}" for path in job.logs]
        if job.logs:
            lines += [f"    | {line}" for line in told_by(job.logs[0])]
        if job.command:
            lines.append(f"    to repeat it by hand: cd {shlex.quote(str(work))} && {job.command}")
    if len(jobs) > MOST_JOBS:
        lines.append(f"  and {len(jobs) - MOST_JOBS} more jobs")
    if not jobs:
        lines += [f"    | {line}" for line in told_by(log)]
    again = f"cd {shlex.quote(str(cli.ROOT))} && {shlex.join(words)}"
    return "\n".join([*lines, f"  to process the downlink again: {again}"])


def target(downlink: DownlinkId, settings: Settings) -> str:
    """Return how far `downlink` goes: to its receipt, or to its submission."""
    held = halts.holding(settings.work, halts.Switch.L1, downlink)
    return paths.submitted(downlink) if settings.submit_automatic and not held else paths.receipt(downlink)


def invocation(target: str, arguments: argparse.Namespace) -> list[str]:
    """Return the command that makes `target`, to be given in the project's root."""
    words = [str(Path(sys.executable).with_name("snakemake")), target]
    words += ["--profile", arguments.profile] if arguments.profile else ["--cores", str(arguments.cores)]
    if arguments.configfile:
        words += ["--configfile", *(str(path.absolute()) for path in arguments.configfile)]
    return words


def process(words: Sequence[str], log: Path, seconds: float) -> int:
    """Run one invocation into `log`. At the time limit, or if we are told to end, all that it started ends.

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
            out.write(f"\nunattended.py: ended after {seconds:g} s, the time limit\n")
            return OUT_OF_TIME
        finally:
            end(running)


def end(head: subprocess.Popen[bytes]) -> None:
    """End Snakemake and what is left of all that it started, in order if that is possible.

    SIGINT lets it cancel its Slurm jobs (at SIGTERM it would wait for them); then it waits for its local
    jobs, which are told to end by SIGTERM.
    """
    if head.poll() is None:
        head.send_signal(signal.SIGINT)
    told = {head.pid}
    last = time.monotonic() + GRACE_SECONDS
    while True:
        if head.poll() is not None:
            last = min(last, time.monotonic() + ORPHAN_SECONDS)
            with suppress(ChildProcessError):  # its orphans, which are our children now
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
        left = descendants(os.getpid())
        late = time.monotonic() - last
        if not left or late > GRACE_SECONDS:  # what SIGKILL does not end waits for a file system
            return
        for pid in left:
            with suppress(ProcessLookupError):
                if late > 0:
                    os.kill(pid, signal.SIGKILL)
                elif pid not in told:
                    os.kill(pid, signal.SIGTERM)
        told.update(left)
        time.sleep(POLL_SECONDS)


def descendants(ancestor: int) -> list[int]:
    """Return the ids of all processes that descend from `ancestor`."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name, in brackets, may hold anything.
            parent = int(place.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(place.parent.name))
    found, rest = list[int](), [ancestor]
    while rest:
        new = children.pop(rest.pop(), [])
        found += new
        rest += new
    return found


def remove_old_logs(home: Path, days: float) -> None:
    """Remove the logs of invocations that are older than `days`."""
    for path in home.glob("*.log"):
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - days * 86400:
                path.unlink()


def outstanding(settings: Settings, home: Path) -> tuple[list[DownlinkId], Outstanding]:
    """Return the outstanding downlinks that are ready, in order, and all that was found.

    Those that have a log in `home`, tried before, come last.
    """
    plan = Plan(settings.work, settings.retdef, settings.ignored)
    found = plan.outstanding(
        now=time.time(),
        settle_seconds=settings.settle_seconds,
        most=settings.outstanding_max,
        submitting=settings.submit_automatic,
    )
    tried = {path.stem.rpartition("-")[2] for path in home.glob("*.log")}
    return sorted(found.ready, key=lambda dl: (dl in tried, dl)), found


def list_held(held: Mapping[DownlinkId, Path], path: Path) -> None:
    """Write down which downlinks are held: no failure, and so no mail, but to be looked up."""
    if held:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(f"downlink {dl} is held by {file}\n" for dl, file in sorted(held.items())))
    else:
        remove_file(path)


def job(arguments: argparse.Namespace) -> int:
    """Process all of them."""
    # A shell starts what it puts into the background with SIGINT ignored, and Snakemake would inherit that.
    signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        settings = cli.settings(arguments)
    except ConfigError as error:
        print(error)
        return BAD_CONFIG
    mine = locks.FileLock(settings.work / paths.unattended_lock())
    if not mine.try_take():
        holder = locks.Holder.written_in(mine.path)
        # Whether a process on another host lives, only a person can know.
        if not (arguments.quiet and holder is not None and holder.host == socket.gethostname()):
            print(f"another unattended invocation is running: {mine.held_by()}")
        return RUNNING
    try:
        return process_all(settings, arguments)
    except ConfigError as error:
        print(error)
        return BAD_CONFIG
    finally:
        mine.give_back()


def process_all(settings: Settings, arguments: argparse.Namespace) -> int:
    """Process the downlinks that are named, or else the outstanding ones that nobody has in work."""
    home = settings.work / paths.unattended_logs()
    remove_old_logs(home, arguments.keep_days)
    ended = [GOOD]
    wanted = list(dict.fromkeys(arguments.downlinks))
    if not wanted:
        wanted, found = outstanding(settings, home)
        list_held(found.held, settings.work / paths.held_list())
        for said, age in found.incomplete.items():
            if age > arguments.late_hours * 3600:
                print(f"{said}, and has done so for more than {age // 3600:.0f} h")
                ended.append(FAILED)
    for downlink in wanted:
        if not arguments.downlinks and locks.in_work(settings.work, downlink) is not None:
            continue
        words = invocation(target(downlink, settings), arguments)
        log = home / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{downlink}.log"
        ended.append(process(words, log, arguments.timeout_minutes * 60))
        if ended[-1] != GOOD:
            print(summary(downlink, ended[-1], words, log, settings.work), flush=True)
    return max(ended)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cli.add_configfile(parser)
    parser.add_argument("--profile", help="as given to snakemake in the project's root, e.g. s3df")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="without a profile")
    parser.add_argument("--timeout-minutes", type=float, default=240, help="for one downlink (default 240)")
    parser.add_argument(
        "--keep-days", type=float, default=30, help="how long logs of invocations stay (default 30)"
    )
    parser.add_argument(
        "--late-hours",
        type=float,
        default=24,
        help="a RetDef that is missing for longer is told (default 24)",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="say nothing (status 4) if another one runs on this host"
    )
    parser.add_argument("downlinks", nargs="*", type=cli.downlink, help="none: all outstanding ones")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    return cli.run(job, parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
