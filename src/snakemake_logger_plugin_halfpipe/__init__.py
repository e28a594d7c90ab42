"""A logger plugin for the head of a command, ``logger: halfpipe``.

It prints nothing itself, but makes Snakemake print one line for each job that has ended. If a job failed and could not
record the reason itself, the plugin writes the record next to the log (`halfpipe.process.failure_record`).
"""

import logging
import re
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from halfpipe.errors import NOTHING, Remedy
from halfpipe.process.failure_record import SIGNALS, Failure, by_signal, in_a_line, written
from halfpipe.process.programs import answer
from halfpipe.process.usage import has_ended_well, is_empty

LOGGER = logging.getLogger("snakemake.logging")
QUERY = ("sacct", "--noheader", "--parsable2", "--format", "State", "--jobs")
ENDED_FROM_OUTSIDE = {code for code, _ in SIGNALS.values()} | {
    "decoder"
}  # codes that Slurm's state of the job may explain
NO_MEMORY = "OUT_OF_MEMORY"
TERMINAL = "DefaultStreamHandler"  # name of Snakemake's handler that prints; missing if another plugin prints
UNPRINTED = {
    LogEvent.WORKFLOW_STARTED,
    LogEvent.RESOURCES_INFO,
    LogEvent.JOB_INFO,
    LogEvent.GROUP_INFO,
    LogEvent.GROUP_ERROR,
    LogEvent.JOB_STARTED,
    LogEvent.SHELLCMD,
}
NOISE = re.compile(
    "Creating specified|Assuming unrestricted|Building DAG|Using shell|Conda environments|Select jobs|Execute [0-9]"
    # The line of a failed job names the job; the end of the command has the reason.
    "|RuleException:\nCalledProcessError|Exiting because a job|--keep-incomplete mode"
    "|WorkflowError:\n(?:At least one job|Slurm refused)"
    "|Complete log|Elapsed"
)
# Snakemake keeps no records of products (`drop-metadata`).
NO_RECORDS = re.compile("[0-9]+ jobs have missing provenance|Missing metadata for file")
OF_SLURM = {  # code, words, and the resource that was too small
    NO_MEMORY: ("memory", "killed by Slurm because it needed more memory than it was given", "mem_mb"),
    "TIMEOUT": ("time-limit", "ended by Slurm at its time limit", "runtime"),
    "DEADLINE": ("time-limit", "ended by Slurm at its time limit", "runtime"),
    "CANCELLED": ("interrupted", "cancelled in Slurm", ""),
    "NODE_FAIL": ("node-failed", "lost when its node failed", ""),
    "BOOT_FAIL": ("node-failed", "lost when its node failed", ""),
    "PREEMPTED": ("interrupted", "ended by Slurm for a job with a higher priority", ""),
}


class LogHandler(LogHandlerBase):
    """Handles the events of one command in the thread that logs them, so that records exist when they are read."""

    writes_to_stream = False  # Snakemake accepts only one plugin that does
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        _ended.clear()
        self._given: dict[int, Mapping[str, object]] = {}  # resources, by job
        self._before: dict[Path, float | None] = {}  # times of failure records of earlier starts, by log
        given = self.common_settings
        # If a user asks for more output, everything is printed.
        self._in_short = not (given.verbose or given.printshellcmds or given.debug_dag)
        LOGGER.addFilter(self._take)

    def close(self) -> None:
        """Stop handling events."""
        LOGGER.removeFilter(self._take)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Do nothing, because Snakemake calls this later, in another thread."""

    def _take(self, record: logging.LogRecord) -> bool:
        """Handle one record, also with ``--quiet``; return whether other handlers get it."""
        if not self.common_settings.dryrun:
            try:
                self._heard(record)
            except Exception:
                self.handleError(record)  # an error here would end the thread that logs
        return not NO_RECORDS.match(str(record.msg))

    def _heard(self, record: logging.LogRecord) -> None:
        if self._in_short:  # the handler that prints is created after the plugins
            self._in_short = False
            for handler in LOGGER.handlers:
                if handler.name == TERMINAL:
                    short = LineAJob(handler.formatter)
                    handler.addFilter(short.is_printed)
                    handler.setFormatter(short)
        if isinstance(sys.exc_info()[1], KeyboardInterrupt):
            _ended.append(signal.SIGINT)
        elif str(record.msg).startswith("Will exit after finishing currently running jobs"):
            _ended.append(signal.SIGTERM)
        match _of(record, "event"):
            case LogEvent.JOB_INFO:
                self._given[_of(record, "jobid")] = _of(record, "resources")
                for log in _paths(_of(record, "log")):
                    self._before[log] = written(log)
            case LogEvent.JOB_ERROR:
                log, *of_slurm = _paths(_of(record, "log"))
                given = self._given.get(_of(record, "jobid"), {})
                said = _of(record, "rule_msg")
                self._failed(log, of_slurm, given, said, _of(record, "shellcmd"))
            case LogEvent.GROUP_ERROR:
                of_slurm = _paths(filter(None, _of(record, "aux_logs")))
                for job in _of(record, "job_error_info"):
                    for own in _paths(job["log"]):
                        if own.exists() and not _are_made(job["output"]):
                            given = self._given.get(job["jobid"], {})
                            self._failed(own, of_slurm, given, None, job["shellcmd"])

    def _failed(
        self, log: Path, of_slurm: Sequence[Path], given: Mapping[str, object], said: object, command: object
    ) -> None:
        """Record why a job failed if the job could not: Slurm ended it, or it was not submitted or not started."""
        # The executor passes the state only in a sentence. Its log of a job is named by the job's id.
        code, words, short = OF_SLURM.get(_state(of_slurm[0].stem) if of_slurm else "", ("", "", ""))
        recorded = Failure.read(log) if written(log) != self._before.get(log) else None
        why = None
        # Slurm ended the whole group: one of its jobs may have failed for another reason before.
        if code and (recorded is None or recorded.code in ENDED_FROM_OUTSIDE):
            had = given.get(short)
            why = Failure(code, f"{words} ({short}: {had})" if had else words)
        elif said and recorded is None:
            see = Remedy(first=f"see the log of Slurm: {of_slurm[0]}") if of_slurm else NOTHING
            why = Failure("executor", in_a_line(str(said)), see)
        elif recorded is None and is_empty(log) and _ended and not has_ended_well(log):
            why = Failure.by_signal(_ended[0])
        elif recorded is None and is_empty(log) and not has_ended_well(log):
            see = Remedy(first="run its command by hand; the .failure.json file beside its log has it")
            text = "its program could not be started, or was killed at its start"
            why = Failure("executor", text, see).unless_full(log)
        if why is not None:
            replace(why, command=str(command or "")).write(log)


_ended: list[signal.Signals] = []


def ended_by() -> str:
    """Return what interrupted the command, such as ``ended by Ctrl-C (SIGINT)``; empty if nothing did."""
    return by_signal(_ended[0]) if _ended else ""


def _paths(files: Iterable[object]) -> list[Path]:
    """Return the paths of files. The first log of a job is its own, the others are those of its executor."""
    return [Path(str(file)).absolute() for file in files]


def _are_made(files: Iterable[object]) -> bool:
    return all(path.exists() for path in _paths(files))


def _state(job: str) -> str:
    """Ask Slurm for the state of a job; one of `OF_SLURM`, or empty."""
    said = answer([*QUERY, job])
    job_and_steps = [line.split()[0] for line in said.splitlines() if line.strip()]
    if job_and_steps and job_and_steps[0] in OF_SLURM:  # as in ``CANCELLED by 1000``
        return job_and_steps[0]
    return NO_MEMORY if NO_MEMORY in job_and_steps else ""  # of a step; the job itself is only FAILED


class LineAJob(logging.Formatter):
    """Snakemake's output in short: one line for each job that has ended, and everything that is not routine.

    The log in ``.snakemake/log`` has everything.
    """

    def __init__(self, whole: logging.Formatter | None) -> None:
        super().__init__()
        self._whole = whole or logging.Formatter()
        self._names: dict[int, str] = {}
        self._ended = ""

    def is_printed(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is printed; the names of jobs are read from records that are not printed."""
        event = _of(record, "event")
        if event is LogEvent.JOB_INFO:
            ids = dict(_of(record, "wildcards"))  # the downlink's id comes first
            in_order = sorted(ids, key=lambda name: name != "dl")
            self._names[_of(record, "jobid")] = " ".join(
                [_of(record, "rule_name"), *(ids[name] for name in in_order)]
            )
        elif event is LogEvent.JOB_FINISHED:  # a record of the progress follows
            self._ended = self._names.pop(_of(record, "job_id"), "")
            return False
        if event is LogEvent.JOB_ERROR and _of(record, "indent"):  # of a group that failed
            return _paths(_of(record, "log"))[0].exists() and not _are_made(_of(record, "output"))
        return event not in UNPRINTED and not NOISE.match(str(record.msg))

    def format(self, record: logging.LogRecord) -> str:
        """Return the printed text of a record."""
        event = _of(record, "event")
        if event is LogEvent.PROGRESS:
            return f"{_of(record, 'done')} of {_of(record, 'total')}: {self._ended}"
        if event is LogEvent.JOB_ERROR:
            return f"failed: {_of(record, 'rule_name')}; its log: {', '.join(map(str, _paths(_of(record, 'log'))))}"
        return self._whole.format(record)


def _of(record: logging.LogRecord, name: str) -> Any:
    """Return an attribute that Snakemake added to a record; None without it."""
    return getattr(record, name, None)
