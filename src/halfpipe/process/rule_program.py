"""What the programs of the rules share: their options, their log, and how errors are told; `prepared` for all programs.

A job's log has everything, its first line the command that repeats the job by hand; the terminal gets
warnings and errors only, so that what is shouted is heard.
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

from halfpipe.errors import HalfPipeError
from halfpipe.files import heartbeat, leases
from halfpipe.files.advice import advice
from halfpipe.ids import DownlinkId
from halfpipe.process import failure, usage
from halfpipe.settings import Settings

GROUP_MAY_WRITE = 0o002  # umask: several people and accounts process downlinks of one working directory

log = logging.getLogger("halfpipe")


def parser(description: str | None, *, downlink: bool = True) -> argparse.ArgumentParser:
    """Return a parser with what every job is given: settings, downlink and log."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", type=Path, required=True, help="the file that snakemake has written")
    if downlink:
        parser.add_argument("--downlink", type=DownlinkId, required=True)
    parser.add_argument("--log", type=Path, help="log file; without one, everything goes to the terminal")
    return parser


def run(
    job: Callable[[Settings, argparse.Namespace, IO[str]], object],
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
) -> int:
    """Parse `argv` and run `job` with the settings; an error of ours ends it with status 1 and its message.

    What other programs print goes where the job's third argument says: into the log, or, without one, to the terminal.

    Returns
    -------
    int
        Exit status.
    """
    arguments = parser.parse_args(argv)
    command = shlex.join([sys.executable, *(sys.argv if argv is None else [parser.prog, *argv])])
    with prepared(logging.WARNING if arguments.log else logging.INFO) as terminal:
        output = _log_to(arguments.log) if arguments.log else sys.stderr
        try:
            if arguments.log is not None:
                failure.forget(arguments.log)
                log.info("%s", command)
            settings = Settings.read(arguments.settings)
            with usage.recorded(arguments.log):
                job(settings, arguments, output)
        except (Exception, SystemExit) as error:
            why = failure.Failure.of(error, command)
            if arguments.log is not None and why.write(arguments.log) and leases.HEAD_VARIABLE in os.environ:
                terminal.setLevel(logging.CRITICAL)  # the head says it once, for all its jobs
            if isinstance(error, HalfPipeError | OSError):
                log.error("error: %s", error if isinstance(error, HalfPipeError) else why.text)
            elif isinstance(error, Exception):
                log.exception("error: this is a defect of HalfPipe, please report it with these lines")
            else:
                raise
            return 1
    return 0


@contextmanager
def prepared(level: int = logging.INFO) -> Iterator[logging.Handler]:
    """Have our lines from `level` on go to the terminal, the group write what is made, and signals end it in order.

    Gives the handler of the terminal.
    """
    handlers, terminal = log.handlers[:], logging.StreamHandler()
    terminal.setLevel(level)
    log.handlers[:] = [terminal]
    log.setLevel(logging.INFO)
    log.propagate = False
    umask = os.umask(GROUP_MAY_WRITE)
    ended_by = {number: signal.getsignal(number) for number in heartbeat.ENDING_SIGNALS}
    for number, before in ended_by.items():
        if before is not signal.SIG_IGN:
            signal.signal(number, leave)
    try:
        yield terminal
    finally:
        for number, before in ended_by.items():
            if signal.getsignal(number) is leave:  # else it was told to end, and is told once
                signal.signal(number, before)
        os.umask(umask)
        for handler in log.handlers:
            with suppress(OSError):
                handler.close()
        log.handlers[:] = handlers


def leave(number: int, _frame: object) -> None:
    """Leave by the way of all errors, so that leases are given back and programs that we started are ended.

    The same signal again would cut that short: Slurm sends one to each process, and so do parents.
    """
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _log_to(path: Path) -> IO[str]:
    """Have our lines go to a log; return where programs print: there, or to the terminal if it cannot be written."""
    logging.raiseExceptions = False  # a full disk must not hide what the job itself has to say
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        # Appending: a job that was left behind may write there still.
        file = logging.FileHandler(path, mode="a", errors="backslashreplace")
    except OSError as error:
        log.warning("%s: there will be no log: %s. %s", path, error.strerror, advice(error))
        return sys.stderr
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    log.addHandler(file)
    return file.stream or sys.stderr
