#!/usr/bin/env python3
"""Jobs of the task HalfPipe in Pipeline-II: ``process`` hands the stream's downlink off, ``launchL1`` submits it.

The server starts both (profiles/s3df/HalfPipe.xml) with the stream's variables in the environment. Exit status 0
becomes the state SUCCESS, any other FAILED. A rollback runs the same job again and leaves finished work alone. The job
may be killed at any moment; the next attempt continues. docs/submission.md describes both jobs for operators.
"""

import argparse
import itertools
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from halfpipe import config, paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import ConfigError, HalfPipeError, MissingInputError, Remedy
from halfpipe.files import leases
from halfpipe.ids import ChunkId, DownlinkId
from halfpipe.plan.plan import Plan
from halfpipe.process.command_words import map_prefix
from halfpipe.process.failure_record import Failure, in_a_line
from halfpipe.process.rule_program import prepared
from halfpipe.settings import ROOT, Settings
from halfpipe.state import halts
from halfpipe.state.hand_offs import current
from halfpipe.status.account import Account, account
from halfpipe.status.failed_jobs import failed_jobs
from halfpipe.status.survey import Survey

PRODUCTION = {"pipelineFlavor": "PROD", "fosFlavor": "ISOC_PROD", "PIPELINE_MODE": "PROD"}
RETDEF_SECONDS = (
    600.0  # RetDefs are written before the stream is created; other hosts see them within a minute
)
LOOK_SECONDS = 5.0  # between two checks while the job waits
# How often a job is refused at most: another stream of the downlink runs both jobs, one after the other.
MOST_REFUSED = 2
MOST_LETTERS = 1000  # the longest value of a variable
SAFE_QUOTES = str.maketrans(dict.fromkeys('$`"\\', "'"))  # characters that a shell would expand


@dataclass(frozen=True)
class Stream:
    """The variables of a stream: the downlink, the number of its chunks, and the dispatcher's expectations.

    Attributes
    ----------
    downlink, chunks
        The downlink, and the number of its RetDefs.
    profile
        The profile of Snakemake for production or for trials.
    output_base, max_events, level1
        The dispatcher's directory of downlinks, the most events in a first file, and Level-1's task. They must agree
        with the config.
    start_l1
        Whether to submit the downlink to Level-1.
    again
        Whether to process everything again; an argument of the rollback.
    """

    downlink: DownlinkId
    chunks: int
    profile: str
    output_base: str
    max_events: int
    level1: str
    start_l1: bool
    again: bool

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Stream":
        """Read the variables of a stream.

        Raises
        ------
        ConfigError
            If a variable is missing or not a number, or if some are for production and some for trials.
        """
        is_production = {
            name: environment[name] == value for name, value in PRODUCTION.items() if name in environment
        }
        if len(set(is_production.values())) > 1:
            given = ", ".join(f"{name}={environment[name]}" for name in is_production)
            raise ConfigError(f"{given}: some are for production, others for trials. Nothing was done.")
        try:
            return cls(
                DownlinkId(f"{int(environment['downlinkID']):09d}"),
                int(environment["numChunks"]),
                "profiles/pipeline" if is_production["pipelineFlavor"] else "profiles/dev",
                environment["outputBase"],
                int(environment["maxEvents"]),
                environment["level1Name"],
                int(environment["startL1"]) != 0,
                int(environment.get("again") or 0) != 0,
            )
        except KeyError as error:
            raise ConfigError(f"the stream has no variable {error.args[0]}") from error
        except ValueError as error:
            raise ConfigError(f"a variable of the stream cannot be read: {error}") from error

    def settings(self) -> Settings:
        """Read the config of the profile.

        Raises
        ------
        ConfigError
            If it cannot be used, or does not agree with the stream.
        """
        profile = config.find_profile(str(ROOT / self.profile))
        assert profile is not None
        settings = config.load([ROOT / path for path in profile.configfiles], profile.config)
        base = Path(map_prefix(self.output_base, settings.paths.map)).resolve()
        if base not in [path.resolve() for path in settings.paths.retdef]:
            raise ConfigError(f"outputBase {self.output_base} is not in paths.retdef of {self.profile}")
        if self.max_events != settings.merge.max_events:
            raise ConfigError(f"maxEvents is {self.max_events}, merge.max_events {settings.merge.max_events}")
        command = settings.submit.command
        if self.start_l1 and command is not None and self.level1 not in shlex.split(command):
            raise ConfigError(f"level1Name is {self.level1}, and submit.command does not name it: {command}")
        return settings


def process(stream: Stream, settings: Settings, patience: float) -> int:
    """Wait for the announced RetDefs, and process the downlink up to its receipt."""
    work, downlink = settings.paths.work, stream.downlink
    is_done = (work / paths.receipt(downlink)).exists() and not stream.again
    if not is_done and (hold := halts.cause(work, halts.Switch.STAGE, downlink)):
        return report_hold(hold)
    wait_for_retdefs(settings, stream, patience)
    status = snakemake(settings, stream, paths.receipt(downlink), *["-F"] * stream.again)
    found = account(Survey(settings), downlink)
    failed = [cause for cause in found.causes if cause.failed]
    if (
        status
        and all(cause.code == "held" for cause in failed)
        and (hold := halts.cause(work, halts.Switch.STAGE, downlink))
    ):
        return report_hold(hold)
    waiting = "not known" if found.waiting is None else found.waiting
    set_variables(handoff=found.handoff or 0, runs=found.runs, events=found.events, waiting=waiting)
    return report_failure(status, found)


def launch_l1(stream: Stream, settings: Settings, _: float) -> int:
    """Submit the downlink to Level-1, once. Fail if Level-1 then lacks a hand-off that it needs, unless held."""
    work, downlink = settings.paths.work, stream.downlink
    if not stream.start_l1:
        print("startL1 is 0: nothing is submitted")
        return 0
    switches = [halts.Switch.L1]
    if not (work / paths.receipt(downlink)).exists():
        switches.append(halts.Switch.STAGE)  # the downlink was held before its hand-off
    for switch in switches:
        if hold := halts.cause(work, switch, downlink):
            return report_hold(hold)
    status = snakemake(settings, stream, paths.submitted(downlink))
    found = account(Survey(settings), downlink)
    set_variables(level1=found.submitted or 0)
    if status == 0:
        has_something = found.submitted is not None or current(work, downlink).names_files
        status = int(has_something and found.submitted != found.handoff)
    return report_failure(status, found)


JOBS = {"process": process, "launchL1": launch_l1}


def report_hold(hold: Cause) -> int:
    """Report that a switch holds the work: the job ends with 0, and the stream's variable `held` shows why."""
    print(f"{hold.text}\nOnce it is removed, roll this stream back, or wait for the timer.")
    set_variables(held=hold.text)
    return 0


def report_failure(status: int, found: Account) -> int:
    """Print why a job failed, and set the variable `cause`; return the job's exit status."""
    if status:
        causes = [cause for cause in found.causes if cause.verdict is Verdict.ACTION]
        for cause in causes:
            print(f"{cause.text}\n", *(f"  → {step}\n" for step in cause.remedy.steps), sep="", end="")
        first = causes[0].text if causes else "see the log"
        set_variables(cause=f"{found.state}: {first}")
    return status


def set_variables(**values: int | str) -> None:
    """Set variables of the process instance: numbers, or texts that begin with a word.

    The server treats every text that looks like a number as one, even the run 29e57870, and passes texts to a shell in
    double quotes.
    """
    lines = [
        f"Pipeline.{name}: {in_a_line(str(value)).translate(SAFE_QUOTES)[:MOST_LETTERS]}\n"
        for name, value in values.items()
    ]
    print(*lines, sep="", end="", flush=True)
    with suppress(KeyError), Path(os.environ["PIPELINE_SUMMARY"]).open("a") as summary:
        summary.writelines(lines)


def wait_for_retdefs(settings: Settings, stream: Stream, patience: float) -> None:
    """Wait until all announced RetDefs exist.

    Raises
    ------
    MissingInputError
        If some are missing after `patience` seconds.
    """
    until = time.monotonic() + patience
    while True:
        plan = Plan(settings).of(stream.downlink)
        missing = sorted(set(range(1, stream.chunks + 1)) - plan.numbers - plan.ignored)
        if not missing and stream.chunks > 0:
            return
        if time.monotonic() >= until or stream.chunks <= 0:
            chunks = ", ".join(map(ChunkId.of, missing)) or "none was announced"
            raise MissingInputError(
                f"{len(missing)} of {stream.chunks} announced RetDefs are missing after {patience:g} s: {chunks}.",
                Remedy(
                    first=f"See what is in {stream.output_base}/{stream.downlink}, then roll this stream back"
                ),
            )
        time.sleep(min(LOOK_SECONDS, max(0.0, until - time.monotonic())))


def snakemake(settings: Settings, stream: Stream, *words: str) -> int:
    """Run Snakemake on the job's own cores once no other process works on the downlink; return its exit status."""
    work, downlink = settings.paths.work, stream.downlink
    cores = os.environ.get("SLURM_CPUS_PER_TASK")
    command = [str(Path(sys.executable).with_name("snakemake")), "--profile", stream.profile, *words]
    command += ["--cores", cores] if cores else []
    for attempt in itertools.count():
        while other := leases.in_progress(work, downlink):
            print(f"waiting for {other}", flush=True)
            time.sleep(LOOK_SECONDS)
        print(shlex.join(command), flush=True)
        with subprocess.Popen(command, cwd=ROOT) as head:
            try:
                status = head.wait()
            finally:
                if head.poll() is None:
                    head.terminate()
        if status == 0:
            break
        # Another process may have been faster. If it has ended by now, there are no failed jobs.
        refused = leases.in_progress(work, downlink) or (
            attempt < MOST_REFUSED and not failed_jobs(work, downlink)
        )
        if not refused:
            break
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="A job of the task HalfPipe in Pipeline-II.")
    parser.add_argument("job", choices=JOBS)
    parser.add_argument(
        "--retdef-seconds", type=float, default=RETDEF_SECONDS, help="how long to wait for RetDefs"
    )
    given = parser.parse_args(argv)
    with prepared():
        try:
            stream = Stream.of(os.environ)
            settings = stream.settings()
            logs = settings.paths.work / paths.job_logs(stream.downlink)
            print(f"downlink {stream.downlink}, {stream.profile}; logs of its jobs: {logs}", flush=True)
            with suppress(OSError):  # the web page shows the working directory
                Path("logs").symlink_to(logs)
            return JOBS[given.job](stream, settings, given.retdef_seconds)
        except (HalfPipeError, OSError) as error:
            text = str(error) if isinstance(error, HalfPipeError) else Failure.of(error).text
            print(f"error: {text}", file=sys.stderr)
            set_variables(cause=text)
            return 1


if __name__ == "__main__":
    raise SystemExit(main())
