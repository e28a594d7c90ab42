"""Common parts of the programs of the rules: options, log, and error messages. The verbs use `prepared`, too.

The log of a job contains everything; its first line is the command that repeats the job by hand. The terminal shows
only warnings and errors.
"""

import argparse
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from halfpipe.causes import Phase
from halfpipe.causes.registry import OF_RULE
from halfpipe.errors import HalfPipeError
from halfpipe.files import heartbeat, leases
from halfpipe.files.advice import advice
from halfpipe.ids import DownlinkId
from halfpipe.process import failure_record, usage
from halfpipe.settings import Settings

GROUP_MAY_WRITE = 0o002  # umask: several accounts process downlinks in one working directory

log = logging.getLogger("halfpipe")


def parser(description: str | None, *, downlink: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the options of every job: settings, downlink and log."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--settings", type=Path, required=True, help="file with the settings, written by snakemake"
    )
    if downlink:
        parser.add_argument("--downlink", type=DownlinkId, required=True)
    parser.add_argument("--log", type=Path, help="log file; default: the terminal")
    return parser


def run(
    job: Callable[[Settings, argparse.Namespace, IO[str]], object],
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
) -> int:
    """Parse `argv` and run `job` with the settings. An error ends it with status 1 and a message.

    The third argument of `job` is the file for the output of other programs: the log, or the terminal.

    Returns
    -------
    int
        Exit status.
    """
    arguments = parser.parse_args(argv)
    command = shlex.join([sys.executable, *(sys.argv if argv is None else [parser.prog, *argv])])
    with prepared(logging.WARNING if arguments.log else logging.INFO) as terminal:
        output = _log_to(arguments.log) if arguments.log else sys.stderr
        before = None
        contact = "the maintainers"
        try:
            if arguments.log is not None:
                before = failure_record.forget(arguments.log)
                log.info("%s", command)
            settings = Settings.read(arguments.settings)
            if arguments.log is not None:
                phase = OF_RULE.get(arguments.log.stem.partition("-")[0], Phase.JOB)
                contact = settings.board.contacts.get(phase, contact)
            with usage.recorded(arguments.log):
                job(settings, arguments, output)
        except (Exception, SystemExit) as error:
            why = failure_record.Failure.of(error, command).after(before, contact)
            if arguments.log is not None and why.write(arguments.log) and leases.HEAD_VARIABLE in os.environ:
                terminal.setLevel(logging.CRITICAL)  # the head reports it
            if isinstance(error, SystemExit):
                raise
            text = error if isinstance(error, HalfPipeError) else why.text
            log.error("error: %s", text, exc_info=bool(why.trace))
            return 1
    return 0


@contextmanager
def prepared(level: int = logging.INFO) -> Iterator[logging.Handler]:
    """Show messages of at least `level`, make new files group-writable, and clean up after a signal.

    Yields the logging handler of the terminal.
    """
    handlers = log.handlers[:]
    terminal = logging.StreamHandler()
    terminal.setLevel(level)
    log.handlers[:] = [terminal]
    log.setLevel(logging.INFO)
    log.propagate = False
    umask = os.umask(GROUP_MAY_WRITE)
    not_ignored = [each for each in heartbeat.ENDING_SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    ended_by = {number: signal.signal(number, leave) for number in not_ignored}
    try:
        yield terminal
    finally:
        for number, before in ended_by.items():
            if signal.getsignal(number) is leave:  # otherwise a signal arrived, and more are ignored
                signal.signal(number, before)
        os.umask(umask)
        for handler in log.handlers:
            with suppress(OSError):
                handler.close()
        log.handlers[:] = handlers


def leave(number: int, _frame: object) -> None:
    """Raise SystemExit, so that leases are released and programs that this process started are ended.

    The signal is ignored from then on: Slurm and parent processes may send it several times.
    """
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _log_to(path: Path) -> IO[str]:
    """Write messages to a log; return the file for the output of programs: the log, or the terminal if that fails."""
    logging.raiseExceptions = False  # errors of the log on a full disk would hide the job's own error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        # Append, because an old job of a killed head may still write to it.
        file = logging.FileHandler(path, mode="a", errors="backslashreplace")
    except OSError as error:
        log.warning("%s: no log can be written: %s. %s", path, error.strerror, advice(error))
        return sys.stderr
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    log.addHandler(file)
    return file.stream or sys.stderr
