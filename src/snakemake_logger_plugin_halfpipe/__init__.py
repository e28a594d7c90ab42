"""What the head of an invocation knows of its jobs, for people and programs: a logger plugin, ``logger: halfpipe``.

It leaves what is printed to Snakemake or to another plugin, and has Snakemake print a line for each job that has ended.
Of a job that failed and could not say why itself it writes the record beside the log (`halfpipe.process.failure`).
"""

import logging
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from halfpipe.errors import Remedy
from halfpipe.process.failure import Failure, forget, in_a_line

LOGGER = logging.getLogger("snakemake.logging")
SIGNALLED = 128  # a shell adds it to the signal that ended a command
SETTLED_SECONDS = 60.0  # that the end of a command waits for what is not recorded yet
QUERY_SECONDS = 10.0  # that Slurm may take to answer
QUERIES = (
    ("sacct", "--noheader", "--parsable2", "--format", "State", "--jobs"),
    ("squeue", "--noheader", "--states", "all", "--format", "%T", "--jobs"),  # where nothing is accounted
)
NO_MEMORY = "OUT_OF_MEMORY"
TERMINAL = "DefaultStreamHandler"  # Snakemake's name of what prints; not there where another plugin does
UNPRINTED = {
    LogEvent.WORKFLOW_STARTED,
    LogEvent.RESOURCES_INFO,
    LogEvent.JOB_INFO,
    LogEvent.JOB_STARTED,
    LogEvent.SHELLCMD,
}
NOISE = re.compile(
    "Creating specified|Assuming unrestricted|Building DAG|Using shell|Conda environments|Select jobs|Execute [0-9]"
    # Of a job that failed it is told which one it was, and at the end why.
    "|RuleException:\nCalledProcessError|Exiting because a job|--keep-incomplete mode|WorkflowError:\nAt least one job"
    "|Complete log|Elapsed"
)
# Nobody has to know: of what is processed without Snakemake, and of chunks, there are no records of its.
NO_RECORDS = re.compile("[0-9]+ jobs have missing provenance")
# A sentence of ours, as Snakemake frames what ends a command before its first job (`in_words` in workflow/common.smk).
SENTENCE = re.compile(
    r"(?:InputFunctionException|WorkflowError) in [^\n]*\n(?:Error:\n  WorkflowError:\n)?(.*?)\n"
    r"(?:Wildcards:\n.*)?(?:  File [^\n]*\n)*  File [^\n]*, in call\b.*",
    re.DOTALL,
)
OF_SLURM = {
    NO_MEMORY: (
        "out-of-memory",
        "killed by Slurm because it needed more memory than it was given{memory}",
    ),
    "TIMEOUT": ("time-limit", "ended by Slurm at its time limit{time}"),
    "DEADLINE": ("time-limit", "ended by Slurm at its time limit{time}"),
    "CANCELLED": ("cancelled", "cancelled in Slurm"),
    "NODE_FAIL": ("node-failed", "lost when its node failed"),
    "BOOT_FAIL": ("node-failed", "lost when its node failed"),
    "PREEMPTED": ("preempted", "ended by Slurm for a job with a higher priority"),
}


class LogHandler(LogHandlerBase):
    """Takes the events of one invocation.

    Attributes
    ----------
    interrupted
        Whether Ctrl-C ended it.
    """

    writes_to_stream = False  # of two plugins that do, Snakemake takes none
    writes_to_file = False
    has_filter = True  # so that --quiet keeps nothing from it
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self.interrupted = False
        self._open = 0  # failures that are not recorded yet
        self._lock = threading.Lock()
        self._given: dict[int, Any] = {}  # resources, by job
        self._queries = list(QUERIES)
        given = self.common_settings
        # Who asks for more than the default gets all that Snakemake prints.
        self._in_short = not (given.verbose or given.printshellcmds or given.debug_dag)
        self._unheard = Quietness.ALL in (given.quiet or ())
        LOGGER.addFilter(_is_no_hint)
        if not given.dryrun:
            LOGGER.addFilter(self._at_once)

    def close(self) -> None:
        """Take no more."""
        LOGGER.removeFilter(_is_no_hint)
        LOGGER.removeFilter(self._at_once)
        super().close()

    def settle(self) -> None:
        """Wait until all failures are recorded that were logged so far: `emit` is called by another thread."""
        until = time.monotonic() + SETTLED_SECONDS
        while self._open and time.monotonic() < until:
            time.sleep(0.02)

    def _at_once(self, record: logging.LogRecord) -> bool:
        """Note in the thread that logs, for it is still at work on the exception, what the record does not say."""
        if self._in_short:  # what prints is made after the plugins
            self._in_short = False
            for handler in LOGGER.handlers:
                if handler.name == TERMINAL:
                    short = LineAJob(handler.formatter)
                    handler.addFilter(short.is_printed)
                    handler.setFormatter(short)
        if self._unheard and (sentence := _sentence(record)):  # whatever is quiet
            sys.stderr.write(f"{sentence}\n")
        event, error = _of(record, "event"), sys.exc_info()[1]
        if isinstance(error, KeyboardInterrupt):
            self.interrupted = True
        if event is LogEvent.JOB_INFO:
            for log in _logs(record)[:1]:
                forget(log)
        elif event is LogEvent.JOB_ERROR:
            with self._lock:
                self._open += 1
            record.status = next(
                (one.returncode for one in _chain(error) if isinstance(one, CalledProcessError)), None
            )
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Take one event."""
        try:
            match _of(record, "event"):
                case LogEvent.JOB_INFO:
                    given = _of(record, "resources")
                    self._given[_of(record, "jobid")] = {
                        name: given.get(name) for name in ("mem_mb", "runtime")
                    }
                case LogEvent.JOB_ERROR:
                    self._failed(record)
        except Exception:
            self.handleError(record)  # an error here would end the thread of all plugins

    def _failed(self, record: logging.LogRecord) -> None:
        try:
            log, *of_slurm = _logs(record)
            why = self._of_slurm(record, of_slurm[0].stem) if of_slurm else None
            if why is None and Failure.read(log) is None:
                why = _unsaid(record)
                if why is not None and of_slurm:
                    why = replace(why, remedy=Remedy(first=f"see what Slurm has said of it: {of_slurm[0]}"))
            if why is not None:
                replace(why, command=_of(record, "shellcmd") or "").write(log)
        finally:
            with self._lock:
                self._open -= 1

    def _of_slurm(self, record: logging.LogRecord, job: str) -> Failure | None:
        """Return how a job ended that Slurm has ended, which says more than the job could; None of another.

        Its executor tells the state in a sentence only, so Slurm is asked. The log that the executor keeps of a job has
        the job's id as its name.
        """
        code, words = OF_SLURM.get(self._state(job), ("", ""))
        given = self._given.get(_of(record, "jobid"), {})
        memory = f" ({given['mem_mb']} MB)" if given.get("mem_mb") else ""
        minutes = f" ({given['runtime']} min)" if given.get("runtime") else ""
        return Failure(code, words.format(memory=memory, time=minutes)) if code else None

    def _state(self, job: str) -> str:
        """Ask Slurm for the state of a job; one of `OF_SLURM`, or empty."""
        for words in tuple(self._queries):
            try:
                asked = subprocess.run(
                    [*words, job],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=QUERY_SECONDS,
                )
            except (OSError, subprocess.TimeoutExpired):
                self._queries.remove(words)  # what does not answer once is not asked again
                continue
            job_and_steps = [line.split()[0] for line in asked.stdout.splitlines() if line.strip()]
            if job_and_steps and job_and_steps[0] in OF_SLURM:  # as in ``CANCELLED by 1000``
                return job_and_steps[0]
            if (
                NO_MEMORY in job_and_steps
            ):  # of the step alone that the command was: then the job has just failed
                return NO_MEMORY
        return ""


class LineAJob(logging.Formatter):
    """What Snakemake prints, in short: a line for each job that has ended, and all that is no matter of routine.

    Its own log, in ``.snakemake/log``, has everything.
    """

    def __init__(self, whole: logging.Formatter | None) -> None:
        super().__init__()
        self._whole = whole or logging.Formatter()
        self._names: dict[int, str] = {}
        self._ended = ""

    def is_printed(self, record: logging.LogRecord) -> bool:
        """Tell whether anything is printed of a record; what jobs are called is taken from those that are not."""
        event = _of(record, "event")
        if event is LogEvent.JOB_INFO:
            ids = dict(_of(record, "wildcards"))  # the downlink's first
            in_order = sorted(ids, key=lambda name: name != "dl")
            self._names[_of(record, "jobid")] = " ".join(
                [_of(record, "rule_name"), *(ids[name] for name in in_order)]
            )
        elif event is LogEvent.JOB_FINISHED:  # its progress follows
            self._ended = self._names.pop(_of(record, "job_id"), "")
            return False
        return event not in UNPRINTED and not NOISE.match(str(record.msg))

    def format(self, record: logging.LogRecord) -> str:
        """Return what is printed of a record."""
        event = _of(record, "event")
        if event is LogEvent.PROGRESS:
            return f"{_of(record, 'done')} of {_of(record, 'total')}: {self._ended}"
        if event is LogEvent.JOB_ERROR:
            name = self._names.get(_of(record, "jobid"), _of(record, "rule_name"))
            return f"failed: {name}; its log: {', '.join(map(str, _logs(record)))}"
        return _sentence(record) or self._whole.format(record)


def _is_no_hint(record: logging.LogRecord) -> bool:
    return not NO_RECORDS.match(str(record.msg))


def _sentence(record: logging.LogRecord) -> str:
    """Return what ends a command before its first job, without Snakemake's frame; empty if a record is none such."""
    found = SENTENCE.fullmatch(str(record.msg))
    return f"error: {textwrap.dedent(found[1])}" if found else ""


def _unsaid(record: logging.LogRecord) -> Failure | None:
    """Return why a job failed that has not said it: its signal, or why it could not be submitted."""
    status = _of(record, "status")
    if status is not None and (status < 0 or status > SIGNALLED):
        return Failure.by_signal(-status if status < 0 else status - SIGNALLED)
    said = _of(record, "rule_msg")
    return Failure("executor", in_a_line(said)) if said else None


def _of(record: logging.LogRecord, name: str) -> Any:
    """Return what Snakemake has added to a record."""
    return getattr(record, name, None)


def _logs(record: logging.LogRecord) -> list[Path]:
    """Return the log of a job, and those that its executor keeps besides."""
    return [Path(log).absolute() for log in _of(record, "log")]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those that it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
